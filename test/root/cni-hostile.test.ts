// Names, sizes and state directories that somebody means harm with: nothing outside the directories of the attachment is
// read or written, and what is refused changes nothing.

import { connect } from 'node:net';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { type CniHost, compilePrograms, makeHost, SOCKET } from '../support/cni-host.ts';
import { isClean } from '../support/cni-host-checks.ts';

t.setTimeout(0);
const bin = compilePrograms(t);

/** A host with an agent, and files that belong to somebody else. */
async function hostWithVictim(t: Test) {
  const host = await makeHost(t, bin, 60);
  await host.addPods(['pod1']);
  const agent = await host.startAgent();
  const sh = (script: string) => host.machine.must('sh', ['-ec', script]);
  await sh('mkdir -p /run/victim/cbr0; echo secret > /run/victim/file; echo secret > /run/victim/pod1:eth0.json');
  const everything = () => sh('cd /run/victim; find . -printf "%p %M %l\\n" | sort; cat file pod1:eth0.json');
  return { host, agent, sh, victim: everything };
}

const files = ({ machine }: CniHost) => machine.must('find', ['/var/lib/cni', '/run/flannel']);

t.test('names and ids that lead elsewhere', async (t) => {
  const { host, victim } = await hostWithVictim(t);
  for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 });
  const before = [await victim(), await files(host)];
  const names = [
    '..',
    '.',
    '../../../run/victim/file',
    'a/b',
    '/run/victim',
    'a b',
    'a\nb',
    '-x',
    '$(reboot)',
    '`x`',
    'é',
  ];
  for (const command of ['ADD', 'DEL', 'CHECK']) {
    for (const name of names) {
      const netns = '/run/netns/pod1';
      const told = `${command} ${JSON.stringify(name)}`;
      t.match(await host.one(command, name, { netns }), { status: 1, output: { code: 4 } }, `${told} as id`);
      const config = { name };
      t.match(await host.one(command, 'pod1', { config }), { status: 1, output: { code: 7 } }, `${told} as network`);
    }
    for (const CNI_IFNAME of ['..', '.', 'a/b', 'a:b', 'a b', '%d', 'x'.repeat(16), '\u0085']) {
      const environment = { CNI_IFNAME };
      t.match(await host.one(command, 'pod1', { environment }), { status: 1, output: { code: 4 } }, CNI_IFNAME);
    }
  }
  t.strictSame([await victim(), await files(host)], before);
});

t.test('values that would be more than a value to nft, to the kernel or to a shell', async (t) => {
  const { host, sh } = await hostWithVictim(t);
  const quote = 'a";}reboot';
  const configs: Record<string, Record<string, unknown>> = {
    'a bridge': { delegate: { bridge: 'a/../b', isDefaultGateway: true } },
    'a bridge with ports': {
      delegate: { bridge: quote, isDefaultGateway: true, ipMasq: true },
      runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcp' }] },
    },
    'a protocol': { runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcp; drop' }] } },
    'an address': {
      runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcp', hostIP: '$x' }] },
    },
    'a range': { delegate: undefined, bridge: 'cni0', ipam: { ranges: [[{ subnet: '10.5.0.0/24; reboot' }]] } },
    'a directory': { dataDir: 'run/victim' },
    'a directory of addresses': { ipam: { dataDir: '../victim' } },
  };
  for (const [name, config] of Object.entries(configs)) {
    t.match(await host.one('ADD', 'pod1', { config }), { status: 1, output: { code: 7 } }, name);
    t.match(await sh('nft list ruleset'), /^$/, name);
  }
  await host.machine.run('ip', ['link', 'delete', 'dev', quote]);
  await isClean(t, host, 'after all');
});

t.test('requests and names that are too large are refused and leave nothing', async (t) => {
  const { host, agent } = await hostWithVictim(t);
  for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 });
  const before = await files(host);
  const large = { config: { padding: 'x'.repeat(1 << 20) } };
  t.match(await host.one('ADD', 'pod1', large), { status: 1, output: { code: 6, msg: /more than 1048576 bytes/ } });
  const long = { netns: '/run/netns/pod1' };
  t.match(await host.one('ADD', 'x'.repeat(250), long), { status: 1, output: { code: 4, msg: /too long/ } });
  const environment = { CNI_ARGS: `IgnoreUnknown=1;A=${'x'.repeat(100_000)}` };
  t.match(await host.one('ADD', 'pod1', { environment }), { status: 0 }, 'a long variable that nobody reads');
  t.match(await host.one('DEL', 'pod1'), { status: 0 });
  for (const head of [
    [1, 255, 255, 255, 255],
    [1, 1, 0, 64, 0],
    [0, 0, 0, 0, 0],
  ]) {
    const socket = connect(host.path(SOCKET));
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(Buffer.from(head));
    await once(socket, 'close');
  }
  t.equal(await files(host), before);
  t.equal(agent.child.exitCode, null, 'the agent lives');
  t.match(await host.status(), { cni: { running: 0, waiting: 0 } });
});

const LINKS: readonly (readonly [path: string, target: string])[] = [
  ['/var/lib/cni/flannel', '/run/victim'],
  ['/var/lib/cni/flannel/cbr0', '/run/victim'],
  ['/var/lib/cni/flannel/.tmp', '/run/victim'],
  ['/var/lib/cni/flannel/cbr0/pod1:eth0.json', '/run/victim/file'],
  ['/var/lib/cni/flannel/cbr0/pod1:eth0.lock', '/run/victim/file'],
  ['/var/lib/cni/networks/cbr0', '/run/victim'],
  ['/var/lib/cni/networks/.flannel-tmp', '/run/victim'],
  ['/var/lib/cni/networks/.flannel-tmp/cbr0', '/run/victim'],
  ['/var/lib/cni/networks/.flannel-tmp/cbr0/pod1:eth0', '/run/victim/file'],
  ['/var/lib/cni/networks/cbr0/10.5.16.2', '/run/victim/file'],
  ['/var/lib/cni/networks/cbr0/last_reserved_ip.0', '/run/victim/file'],
];

t.test('symbolic links in the state directories', async (t) => {
  const { host, sh, victim } = await hostWithVictim(t);
  for (const [path, target] of LINKS) {
    const before = await victim();
    await sh(
      `rm -rf /var/lib/cni/flannel /var/lib/cni/networks; mkdir -p "$(dirname ${path})"; ln -s ${target} ${path}`,
    );
    for (const command of ['ADD', 'DEL', 'GC']) {
      const config = { 'cni.dev/valid-attachments': [] };
      const { status, output } = await host.one(command, 'pod1', { config });
      t.ok(status === 0 || output.code === 5, `${command}, ${path}: ${JSON.stringify(output)}`);
      t.equal(await victim(), before, `${command}, ${path} -> ${target}`);
    }
    await sh(`if [ -L ${path} ]; then rm ${path}; fi`);
    t.match(await host.one('DEL', 'pod1'), { status: 0 }, path);
    for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 }, path);
    await isClean(t, host, path);
  }
});

t.test('a symbolic link instead of the spool: its deletions are not done, and it is said', async (t) => {
  const { host, agent, sh, victim } = await hostWithVictim(t);
  t.match(await host.one('ADD', 'pod1'), { status: 0 });
  await agent.kill();
  await sh('mkdir -p /var/lib/cni/flannel; ln -s /run/victim /var/lib/cni/flannel/.spool');
  const before = await victim();
  t.match(await host.one('DEL', 'pod1'), { status: 1, output: { code: 5 } });
  await host.startAgent();
  t.match((await host.status()).cni.problems, [/\.spool is a symbolic link, not a directory/]);
  t.equal(await victim(), before);
  t.match(await host.one('DEL', 'pod1'), { status: 0 }, 'clients are served all the same');
});
