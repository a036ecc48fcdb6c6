// The probes: a way that is cut and one that large packets don't pass are told apart from a good one, over every backend
// that is probed, and change nothing.

import t, { type Test } from 'tap';
import {
  agentStatus,
  type Cluster,
  DUAL_NETWORK,
  hasPeers,
  type Node,
  startCluster,
  until,
} from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
/** Bounds are for a loaded machine: with a probe a second, three seconds would do. */
const PATIENCE_MS = 30_000;

type States = Readonly<Record<string, readonly string[]>>;

/** What a node's probes say of each other node, by its address on the underlay. */
async function statesAt(node: Node): Promise<States> {
  const peers = (await agentStatus(node))?.peers ?? [];
  return Object.fromEntries(
    peers.map(({ publicIp, probes = [] }) => [publicIp[0], probes.map(({ family, state }) => `${family} ${state}`)]),
  );
}

async function sees(t: Test, node: Node, expected: States, what: string): Promise<void> {
  const sorted = async () => Object.fromEntries(Object.entries(await statesAt(node)).sort());
  await until(what, async () => JSON.stringify(await sorted()) === JSON.stringify(expected), PATIENCE_MS).catch(
    () => undefined,
  );
  t.strictSame(await sorted(), expected, what);
}

const ask = (node: Node, path: string): Promise<string> =>
  node.must('curl', ['-s', '--unix-socket', '/run/flannel/subnet.sock', `http://localhost${path}`]);

async function start(t: Test, config: unknown, flags: readonly string[]): Promise<{ cluster: Cluster; nodes: Node[] }> {
  const cluster = await startCluster({ nodes: 3 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(config);
  const nodes = [...cluster.nodes];
  for (const node of nodes) cluster.startAgent(node, flags);
  for (const node of nodes) await until(`${node.name}: its peers`, () => hasPeers(node, 2));
  return { cluster, nodes };
}

const both = (state: string): string[] => [`4 ${state}`, `6 ${state}`];

for (const { backend, cut } of [
  { backend: { Type: 'vxlan' }, cut: 'udp dport 8472' },
  { backend: { Type: 'vxlan', DirectRouting: true }, cut: 'meta l4proto { icmp, icmpv6 }' },
  { backend: { Type: 'host-gw' }, cut: 'meta l4proto { icmp, icmpv6 }' },
  { backend: { Type: 'udp' }, cut: 'udp dport 8285' },
]) {
  const what = Object.values(backend).join(' with direct routing: ');
  t.test(what, async (t) => {
    const { cluster, nodes } = await start(t, { ...DUAL_NETWORK, Backend: backend }, ['--peer-probe-interval=1']);
    const [first, second] = nodes as [Node, Node, Node];
    const good = { '192.168.50.2': both('reachable'), '192.168.50.3': both('reachable') };
    await sees(t, first, good, 'every way is good');
    const status = await agentStatus(first);
    t.ok(
      status?.peers.every(({ probes = [] }) => probes.every(({ rttMs = 0, fits }) => rttMs > 0 && fits === true)),
      'with a time, and packets as large as the MTU of pods',
    );
    t.equal(await ask(first, '/readyz'), 'ready\n');

    // Its bridge has the first address of the subnet as an anycast address, before a device that is made anew has it: then
    // the kernel answers from another.
    await startPod(second, { name: 'p' });
    await second.run('ip', ['link', 'delete', 'flannel-v6.1']);
    const routes = await first.must('ip', ['route', 'show', 'proto', '251']);
    await second.must('nft', [
      `table inet broken { chain in { type filter hook input priority -500; ${cut} drop; }; }`,
    ]);
    await (cluster.machines[0] as Node).must('ip', ['link', 'set', 'n3', 'mtu', '1400']);
    const bad = { '192.168.50.2': both('unreachable'), '192.168.50.3': both('mtu-too-small') };
    await sees(t, first, bad, 'one way is cut, one too small');
    t.match(
      await ask(first, '/readyz'),
      /^ready\npeers mtu-too-small: 1 of 2 \(10\.244\..*\)\npeers unreachable: 1 of 2 \(10\.244\..*\)\n$/,
      'which is told, and no reason to be unready',
    );
    const metrics = await ask(first, '/metrics');
    t.match(metrics, /^flannel_probed_peers\{state="unreachable"\} 1$/m);
    t.match(metrics, /^flannel_probed_peers\{state="mtu-too-small"\} 1$/m);
    t.match((await first.run(FLANNELD, ['status'])).stdout, /IPv4 unreachable/);
    t.equal(await first.must('ip', ['route', 'show', 'proto', '251']), routes, 'the data path is as it was');

    await second.must('nft', ['delete table inet broken']);
    await (cluster.machines[0] as Node).must('ip', ['link', 'set', 'n3', 'mtu', '1500']);
    await sees(t, first, good, 'every way is good again');
  });
}

t.test('turned off', async (t) => {
  const { nodes } = await start(t, { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } }, ['--peer-probe-interval=0']);
  const [first] = nodes as [Node];
  t.ok((await agentStatus(first))?.peers.every(({ probes }) => probes === undefined));
  t.notMatch(await first.must('sh', ['-c', 'cat /proc/net/raw /proc/net/raw6']), /^ *\d+: /m, 'not even a socket');
});
