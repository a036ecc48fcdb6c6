// Host ports and bandwidth on a machine in memory: as a capability of flannel, and chained behind another plugin.

import t, { type Test } from 'tap';
import type { PluginName } from '../../cni-plugin/attachments.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import { VERSIONS } from '../../cni-plugin/versions.ts';
import { NetError } from '../../model/errors.ts';
import { type Machine, machine, stepsOf, withoutBridge } from './fake-machine.ts';

const WEB = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };
const DNS = { HostPort: 53, ContainerPort: 5353, Protocol: 'UDP' };
const RATES = { ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 8_000_000, egressBurst: 80_000 };
const RUNTIME = { portMappings: [WEB, DNS], bandwidth: RATES };
const CAPABLE = { runtimeConfig: RUNTIME };

const elements = ({ kernel }: Machine): string[] =>
  (kernel.readTable('inet', 'flannel')?.sets ?? [])
    .filter(({ name }) => /^cni-host/.test(name))
    .flatMap(({ elements }) => elements)
    .sort();

const ifbs = ({ kernel }: Machine): string[] =>
  kernel
    .read(kernel.host, { links: 'all' })
    .links.filter(({ kind }) => kind === 'ifb')
    .map(({ name }) => name);

t.test('flannel itself: ADD, CHECK, DEL', async (t) => {
  const m = machine(t);
  const result = await m.run('ADD', { config: CAPABLE });
  t.match(result, { status: 0, interfaces: [{ name: 'cni0' }, {}, { name: 'eth0' }, { mtu: 1450 }] });
  t.strictSame(
    result.interfaces.slice(3).map(({ name }: { name: string }) => name),
    ifbs(m),
  );
  t.strictSame(elements(m), [
    'tcp . 8080 : 10.5.1.2 . 80',
    'tcp . 8080 : fd00:5:0:1::2 . 80',
    'udp . 53 : 10.5.1.2 . 5353',
    'udp . 53 : fd00:5:0:1::2 . 5353',
  ]);
  const host = m.kernel.dump(m.kernel.host);
  t.match(host, /sysctl -w net\.ipv4\.conf\.cni0\.route_localnet=1/);
  t.match(host, /tc qdisc add dev veth\w+ root handle 1: tbf rate 1000000bps burst 10000 limit 35000/);
  t.match(host, /tc filter add dev veth\w+ ingress .* redirect dev ifb/);

  const check = { config: { ...CAPABLE, prevResult: result } };
  t.strictSame(await m.run('CHECK', check), { status: 0 });
  m.kernel.commit({
    family: 'inet',
    table: 'flannel',
    commands: [{ verb: 'delete', type: 'element', set: { name: 'cni-hostport-v6', type: '' }, elements: ['udp . 53'] }],
  });
  const value = { name: ifbs(m)[0] as string, kind: 'ifb' };
  m.kernel.apply(m.kernel.host, [{ verb: 'delete', item: { type: 'link', value } }]);
  t.match(await m.run('CHECK', check), {
    code: 101,
    msg: /udp \. 53 : fd00:5:0:1::2 \. 5353 in nft set cni-hostport-v6; .*tc filter replace/,
  });

  t.strictSame(await m.run('DEL'), { status: 0 }, 'neither result nor capabilities');
  t.strictSame([elements(m), ifbs(m), m.files()], [[], [], []]);
  t.strictSame(
    m.kernel.forgotten.filter(({ end }) => end === '10.5.1.2'),
    [
      { family: 4, protocol: 'udp', destinationPort: 53, destination: undefined, end: '10.5.1.2' },
      { family: 4, end: '10.5.1.2' },
    ],
  );
  t.strictSame(await m.run('DEL'), { status: 0 }, 'again');
});

t.test('flannel itself: a failure at any step leaves nothing', async (t) => {
  const texts = await stepsOf(machine(t), { config: CAPABLE });
  const own = texts.filter((text) => /^tc|ifb|localnet|inet flannel/.test(text));
  t.ok(own.length >= 8, own.join('\n'));
  for (const text of own) {
    const m = machine(t);
    const clean = withoutBridge(m.dump());
    m.kernel.failNext(new RegExp(RegExp.escape(text)), 'EPERM');
    const answer = await m.run('ADD', { config: CAPABLE });
    if (/cni-masquerade/.test(text) && text.startsWith('add element')) continue;
    t.match(answer, { status: 1, code: 100, msg: /EPERM/ }, text);
    t.equal(withoutBridge(m.dump()).replace(/table inet flannel[\s\S]*/, ''), clean, 'machine');
    t.strictSame([elements(m), m.files()], [[], []]);
    t.match(await m.run('ADD', { config: CAPABLE }), { status: 0 }, 'and the next ADD succeeds');
  }
});

t.test('flannel itself: bad requests change nothing', async (t) => {
  const m = machine(t);
  const before = m.dump();
  for (const runtimeConfig of [
    { portMappings: [{ ...WEB, hostPort: 0 }] },
    { portMappings: [{ ...WEB, protocol: 'gre' }] },
    { bandwidth: { ingressRate: 8 } },
  ]) {
    t.match(await m.run('ADD', { config: { runtimeConfig } }), { status: 1, code: 7 });
  }
  t.equal(m.dump(), before);
  t.strictSame(m.files(), []);
});

t.test('a pod that takes a port over', async (t) => {
  const m = machine(t);
  const config = { runtimeConfig: { portMappings: [WEB] } };
  await m.run('ADD', { config });
  await m.run('ADD', { config, containerId: 'pod2' });
  const theirs = ['tcp . 8080 : 10.5.1.3 . 80', 'tcp . 8080 : fd00:5:0:1::3 . 80'];
  t.strictSame(elements(m), theirs, 'the newest has it');
  await m.run('DEL');
  t.strictSame(elements(m), theirs, 'the older takes only its own');
  await m.run('DEL', { containerId: 'pod2' });
  t.strictSame(elements(m), []);
});

t.test('after a reboot: no port of a newer attachment is closed', async (t) => {
  const m = machine(t);
  const config = { runtimeConfig: { portMappings: [WEB] } };
  await m.run('ADD', { config });
  Object.assign(m.dependencies, { bootId: 'boot2' });
  const before = elements(m);
  t.strictSame(await m.run('DEL'), { status: 0 });
  t.strictSame(elements(m), before);
  t.strictSame(m.files(), []);
});

/** What a foreign plugin would have answered: here flannel's own, its record out of the way. */
async function attached(t: Test, plugin: 'flannel' | 'flannel-ipam' | 'foreign' = 'foreign') {
  const m = machine(t);
  const { status: _, ...result } = await m.run(
    'ADD',
    plugin === 'foreign' ? { config: { dataDir: `${m.directory}/x` } } : {},
  );
  const chained = (name: PluginName, command: 'ADD' | 'CHECK' | 'DEL', config: object = {}) =>
    m.run(command, { plugin: name, config: { prevResult: result, ...config } });
  const records = () => m.files().filter((name) => name.endsWith('.json')).length - (plugin === 'foreign' ? 1 : 0);
  return { ...m, result, chained, records };
}

t.test('chained: the result is handed on in every version', async (t) => {
  for (const plugin of ['flannel-portmap', 'flannel-bandwidth'] as const) {
    for (const cniVersion of VERSIONS) {
      const m = machine(t);
      const { status: _, ...result } = await m.run('ADD', { config: { cniVersion } });
      const config = { cniVersion, prevResult: result };
      t.strictSame(await m.run('ADD', { plugin, config }), { status: 0, ...result }, `${plugin} ${cniVersion}`);
      t.match(await m.run('ADD', { plugin, config: { cniVersion } }), {
        code: 7,
        msg: 'must be called as chained plugin',
      });
    }
  }
});

t.test('flannel-portmap', async (t) => {
  const m = await attached(t);
  const config = { runtimeConfig: { portMappings: [WEB, DNS] } };
  t.strictSame(await m.chained('flannel-portmap', 'ADD', config), { status: 0, ...m.result });
  t.equal(elements(m).length, 4);
  t.equal(m.records(), 1);
  t.match(m.kernel.dump(m.kernel.host), /route_localnet=1[\s\S]*"cni0" \. "cni0"/, 'by the bridge that leads there');
  t.strictSame(await m.chained('flannel-portmap', 'CHECK', config), { status: 0 });
  const other = { runtimeConfig: { portMappings: [{ ...WEB, hostPort: 8081 }] } };
  t.match(await m.chained('flannel-portmap', 'CHECK', other), {
    code: 101,
    msg: /host ports of pod1 differ .*tcp \. 8081/,
  });

  t.match(await m.chained('flannel-portmap', 'ADD', other), { status: 0 }, 'again, with another port');
  t.strictSame(elements(m), ['tcp . 8081 : 10.5.1.2 . 80', 'tcp . 8081 : fd00:5:0:1::2 . 80']);
  for (const _ of [1, 2]) {
    t.strictSame(await m.chained('flannel-portmap', 'DEL', { prevResult: undefined }), { status: 0 });
    t.strictSame([elements(m), m.records()], [[], 0]);
  }
  t.strictSame(await m.chained('flannel-portmap', 'CHECK'), { status: 0 }, 'without ports there is nothing to check');
});

t.test('flannel-portmap takes the addresses of its interface', async (t) => {
  const m = await attached(t);
  const ips = [
    { interface: 1, address: '10.5.1.7/24' },
    { interface: 9, address: '10.5.1.8/24' },
    { address: 'fd00:5:0:1::8/64' },
  ];
  const config = { runtimeConfig: { portMappings: [WEB] } };
  await m.chained('flannel-portmap', 'ADD', { ...config, prevResult: { ...m.result, ips } });
  t.strictSame(elements(m), ['tcp . 8080 : 10.5.1.8 . 80', 'tcp . 8080 : fd00:5:0:1::8 . 80']);
  const none = await m.chained('flannel-portmap', 'ADD', { ...config, prevResult: { ...m.result, ips: [] } });
  t.match(none, { code: 7, msg: 'host ports need an address in the pod' });
});

t.test('flannel-bandwidth', async (t) => {
  const m = await attached(t);
  const config = { runtimeConfig: { bandwidth: RATES } };
  const result = await m.chained('flannel-bandwidth', 'ADD', config);
  t.strictSame(result.interfaces.slice(0, 3), m.result.interfaces);
  t.match(result.interfaces[3], { name: ifbs(m)[0], mtu: 1450 });
  t.strictSame(await m.chained('flannel-bandwidth', 'CHECK', { ...config, prevResult: result }), { status: 0 });
  t.match(await m.chained('flannel-bandwidth', 'CHECK', { ...RATES, ingressRate: 16_000_000 }), {
    code: 101,
    msg: /bandwidth of pod1 differs .*rate 2000000bps/,
  });
  t.equal(m.records(), 1);
  for (const _ of [1, 2]) {
    t.strictSame(await m.chained('flannel-bandwidth', 'DEL', { prevResult: undefined }), { status: 0 });
    t.strictSame([ifbs(m), m.records()], [[], 0]);
  }
  t.equal(m.kernel.read(m.kernel.host, { qdiscs: ['cni0'] }).qdiscs.length, 0);

  const oneWay = { runtimeConfig: { bandwidth: { ingressRate: 8000, ingressBurst: 8000 } } };
  t.strictSame(await m.chained('flannel-bandwidth', 'ADD', oneWay), { status: 0, ...m.result }, 'without a device');
  t.equal(m.records(), 0, 'nothing is to be remembered');
});

t.test('flannel-bandwidth needs the pair that the plugins before have named', async (t) => {
  const m = await attached(t);
  const [bridge, , inside] = m.result.interfaces;
  const refused = (interfaces: readonly object[], more: object = {}) =>
    m.chained('flannel-bandwidth', 'ADD', { ...RATES, prevResult: { ...m.result, ips: [], interfaces }, ...more });
  t.match(await refused([bridge, inside]), { code: 7, msg: 'no veth peer of container interface found in host ns' });
  t.match(await refused([]), { code: 7, msg: /no veth peer/ });
  m.kernel.addNamespace('/run/netns/empty');
  const elsewhere = { plugin: 'flannel-bandwidth', netns: '/run/netns/empty' } as const;
  t.match(await m.run('ADD', { ...elsewhere, config: { ...RATES, prevResult: m.result } }), {
    code: 7,
    msg: 'container interface eth0 has no veth peer',
  });
  t.strictSame([ifbs(m), m.records()], [[], 0]);
});

t.test('one record for all plugins of an attachment', async (t) => {
  for (const first of ['flannel', 'foreign'] as const) {
    for (const order of [
      ['flannel-portmap', 'flannel-bandwidth'] as const,
      ['flannel-bandwidth', 'flannel-portmap'] as const,
    ]) {
      const m = await attached(t, first);
      for (const name of order) t.match(await m.chained(name, 'ADD', CAPABLE), { status: 0 });
      t.equal(m.records(), 1);
      t.strictSame(await m.chained(order[0], 'DEL'), { status: 0 });
      t.equal(m.records(), 1);
      t.strictSame(await m.chained(order[1], 'DEL'), { status: 0 });
      t.strictSame([elements(m), ifbs(m), m.records()], [[], [], first === 'flannel' ? 1 : 0]);
    }
  }
  const m = await attached(t, 'flannel');
  for (const name of ['flannel-portmap', 'flannel-bandwidth'] as const) await m.chained(name, 'ADD', CAPABLE);
  t.strictSame(await m.run('DEL'), { status: 0 }, "and flannel's own DEL takes out what they left");
  t.strictSame([elements(m), ifbs(m), m.records()], [[], [], 0]);
});

t.test('a chained ADD that fails leaves nothing', async (t) => {
  for (const [plugin, text] of [
    ['flannel-portmap', /route_localnet/],
    ['flannel-portmap', /add element/],
    ['flannel-bandwidth', /link add ifb/],
    ['flannel-bandwidth', /tc filter/],
  ] as const) {
    const m = await attached(t);
    const before = m.dump();
    m.kernel.failNext(text, 'EPERM');
    t.match(await m.chained(plugin, 'ADD', CAPABLE), { status: 1, msg: /EPERM/ });
    t.strictSame([elements(m), ifbs(m), m.records()], [[], [], 0], String(text));
    if (plugin === 'flannel-portmap') continue;
    t.strictSame(await m.chained(plugin, 'DEL'), { status: 0 });
    t.equal(m.dump().replace(/tc .*\n/g, ''), before);
  }
});

t.test('a DEL that comes too late leaves a younger attachment alone', async (t) => {
  const m = await attached(t);
  Object.assign(m.dependencies, { now: () => 1000 });
  await m.chained('flannel-portmap', 'ADD', CAPABLE);
  Object.assign(m.dependencies, { asked: { bootId: 'boot1', at: 500 } });
  t.strictSame(await m.chained('flannel-portmap', 'DEL'), { status: 0 });
  t.equal(elements(m).length, 4);
});

t.test('what is removed of the ports of a living attachment is put back', async (t) => {
  const m = machine(t);
  const config = { runtimeConfig: { portMappings: [WEB] } };
  await m.run('ADD', { config });
  await m.run('ADD', {
    config: { runtimeConfig: { portMappings: [WEB, { ...WEB, hostPort: 81 }] } },
    containerId: 'pod2',
  });
  const all = elements(m);
  const restore = async () => (await reclaim(`${m.directory}/flannel`, m.dependencies)).restored;
  t.strictSame(await restore(), [], 'a port that went to another attachment is not missing');

  const commands = [
    { verb: 'delete', type: 'element', set: { name: 'cni-hostport-v4', type: '' }, elements: ['tcp . 81'] },
  ];
  m.kernel.commit({ family: 'inet', table: 'flannel', commands } as never);
  t.strictSame(await restore(), ['eth0 of pod2 in network cbr0: tcp . 81 : 10.5.1.3 . 80']);
  t.strictSame(elements(m), all);

  t.strictSame(await m.run('DEL', { containerId: 'pod2' }), { status: 0 });
  t.match(await restore(), [/pod1 .*: tcp \. 8080 : 10\.5\.1\.2/, /pod1 .*: tcp \. 8080 : fd00/], 'and comes back');
  m.kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  t.match(await restore(), [/pod1 .*: chain cni-hostport/]);
  t.strictSame(elements(m), ['tcp . 8080 : 10.5.1.2 . 80', 'tcp . 8080 : fd00:5:0:1::2 . 80']);
  t.strictSame(await restore(), []);
});

t.test('chained: GC takes out what is not valid, STATUS says whether it works', async (t) => {
  const m = await attached(t);
  for (const name of ['flannel-portmap', 'flannel-bandwidth'] as const) {
    await m.chained(name, 'ADD', CAPABLE);
    t.strictSame(await m.run('GC', { plugin: name }), { status: 0 }, 'without a list');
    const valid = { 'cni.dev/valid-attachments': [{ containerID: 'pod1', ifname: 'eth0' }] };
    t.strictSame(await m.run('GC', { plugin: name, config: valid }), { status: 0 });
    t.equal(m.records(), 1);
    t.strictSame(await m.run('GC', { plugin: name, config: { 'cni.dev/valid-attachments': [] } }), { status: 0 });
    t.strictSame([elements(m), ifbs(m), m.records()], [[], [], 0]);
    t.ok(m.files().includes('10.5.1.2'), "another plugin's reservation stays");

    t.strictSame(await m.run('STATUS', { plugin: name }), { status: 0 });
  }
  const readTable = () => {
    throw new NetError('kernel', 'no nftables');
  };
  Object.assign(m.dependencies, { kernel: { ...m.kernel, readTable } });
  t.match(await m.run('STATUS', { plugin: 'flannel-portmap' }), { code: 50, msg: /no nftables/ });
  t.match(await m.run('STATUS', { plugin: 'flannel-bandwidth', config: { ingressRate: 8 } }), { code: 7 });
});
