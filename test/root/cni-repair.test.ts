// What the agent finds when it looks around by itself, and what it says of it; and that it and the program that works
// without it keep no secrets from each other.

import { join } from 'node:path';
import t from 'tap';
import { compilePrograms, fullChain, makeHost, NODE } from '../support/cni-host.ts';
import { failures, isClean, until, vethOf } from '../support/cni-host-checks.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const MAIN = join(import.meta.dirname, '../../cni-plugin/main.ts');

t.test('what died or was lost is found, and named', async (t) => {
  const host = await makeHost(t, bin, 60);
  const ids = ['alive', 'veth', 'netns', 'ports', 'address'];
  const sh = (script: string) => host.machine.must('sh', ['-ec', script]);
  const ends = async (agent: { log(): string }, lines: readonly string[]) => {
    await until(() => lines.every((line) => agent.log().includes(`eth0 of ${line}`)), agent.log);
    t.match(await host.status(), { ready: true, cni: { problems: [] } });
  };
  let agent = await host.startAgent();
  await host.addPods(ids);
  const add = (id: string) => ({ command: 'ADD', id, config: id === 'ports' ? fullChain() : {} });
  t.strictSame(failures(await host.run(ids.map(add))), []);
  const before = { links: await host.links(), files: host.files(), rules: await sh('nft list ruleset') };

  const harm = `ip link delete ${vethOf('veth')}; ip netns delete netns; nft flush map inet flannel cni-hostport-v4;
    rm /var/lib/cni/networks/cbr0/10.5.16.6`;
  const found = [
    'veth in network cbr0: its interface is gone',
    'netns in network cbr0: its interface is gone',
    'ports in network cbr0: ',
    'address in network cbr0: reservation of 10.5.16.6',
  ];
  const isRepaired = async (when: string) => {
    const gone = (name: string) => /^(10\.5\.16\.[34]|.*(veth|netns):eth0)/.test(name.split('/').at(-1) ?? '');
    t.strictSame(
      host.files(),
      before.files.filter((name) => !gone(name)),
      `${when}: records and reservations`,
    );
    const dead = [vethOf('veth'), vethOf('netns')];
    t.strictSame(
      await host.links(),
      before.links.filter((name) => !dead.includes(name)),
      `${when}: interfaces`,
    );
    t.equal(await sh('nft list ruleset'), before.rules, `${when}: host ports`);
  };

  await t.test('soon after a verb has failed', async () => {
    await sh(harm);
    t.match(await host.one('CHECK', 'alive', { netns: '/nowhere' }), { status: 1 });
    await ends(agent, found);
    await isRepaired('by itself');
    t.match((await host.status()).cni.lastReclaimed.toSorted(), [/ netns /, / veth /]);
  });

  await t.test('at the start, before anyone is served', async () => {
    await host.addPods(['netns']);
    t.strictSame(failures(await host.run(['veth', 'netns'].map(add))), []);
    const fresh = /10\.5\.16\.\d+$/;
    before.files = host.files();
    const [one, two] = before.files.filter((name) => fresh.test(name)).slice(-2);
    await agent.kill();
    await sh(`ip link delete ${vethOf('veth')}; ip netns delete netns; nft delete table inet flannel`);
    agent = await host.startAgent();
    await ends(agent, found.slice(0, 3));
    const gone = [
      one,
      two,
      ...['veth', 'netns'].flatMap((id) => [`cbr0/${id}:eth0.json`, `.flannel-tmp/cbr0/${id}:eth0`]),
    ];
    t.strictSame(
      host.files(),
      before.files.filter((name) => !gone.includes(name)),
    );
    t.match(await sh('nft list ruleset'), /udp \. 8080 : /);
  });
  t.strictSame(failures(await host.run(ids.map((id) => ({ ...add(id), command: 'DEL' })))), []);
  await isClean(t, host, 'at the end');
});

t.test('the program and the agent work on the same state', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.addPods(['pod1', 'pod2']);
  const agent = await host.startAgent();
  const alone = async (command: string, id: string, more: object = {}) => {
    const { environment, input } = host.call({ command, id, config: { ...fullChain(), ...more } });
    const env = { ...environment, FLANNEL_ARGV0: 'flannel' };
    const { code, stdout } = await host.machine.run(NODE, [MAIN], { env, input });
    return { status: code, output: JSON.parse(stdout || '{}') };
  };
  const asked = (command: string, id: string, more: object = {}) =>
    host.one(command, id, { config: { ...fullChain(), ...more } });
  for (const [first, second] of [
    [alone, asked],
    [asked, alone],
  ] as const) {
    const { status, output } = await first('ADD', 'pod1');
    t.equal(status, 0);
    t.match(await second('ADD', 'pod1'), { status: 1, output: { code: 104 } }, 'it is there for the other');
    t.match(await second('CHECK', 'pod1', { prevResult: output }), { status: 0 });
    const { output: other } = await second('ADD', 'pod2');
    t.not(other.ips?.[0]?.address, output.ips?.[0]?.address, 'its address is taken');
    for (const id of ['pod1', 'pod2']) t.match(await second('DEL', id), { status: 0 });
    await isClean(t, host, 'after the other’s DEL');
  }
  t.equal(agent.child.exitCode, null);
});
