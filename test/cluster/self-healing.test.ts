// Whatever is taken away on a running node is back at once, and so is the traffic; and a node follows its interface to other
// nodes when that changes. flannel restores none of it (flannel.md, defects D and E, reports 5, 11 to 13 and 20).

import t, { type Test } from 'tap';
import {
  agentStatus,
  type Cluster,
  DUAL_NETWORK,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  until,
} from '../../examples/cluster/cluster.ts';
import { patience } from '../../examples/cluster/patience.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };
/** Only a notification brings back what is taken away: the periodic comparison is far away. */
const FLAGS = ['--iptables-resync=3600', '--ip-blackhole-route'];
/**
 * Our own changes are told to us until then (ms). The kernel is done with link-local addresses of new devices a while
 * later.
 */
const QUIET_MS = 2000;
/** One that restores, and one that hears of its own changes. */
const RUNS_OF_A_LOSS = 2;

interface Rig {
  readonly cluster: Cluster;
  readonly nodes: readonly [Node, Node];
  readonly pods: readonly [Pod, Pod];
}

async function start(t: Test, config: unknown): Promise<Rig> {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(config);
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  for (const node of nodes) cluster.startAgent(node, FLAGS);
  for (const node of nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1));
  const pods = [await startPod(nodes[0], { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
  await flows(t, pods, 'traffic at the start');
  return { cluster, nodes, pods };
}

/** Pings both ways, over each family. */
async function flows(t: Test, [a, b]: readonly [Pod, Pod], what: string): Promise<void> {
  const all = async () => {
    const probes = [
      ...b.ips.map((to) => a.probe({ kind: 'ping', to })),
      ...a.ips.map((to) => b.probe({ kind: 'ping', to })),
    ];
    return (await Promise.all(probes)).every(({ ok }) => ok);
  };
  await until(what, all).catch(() => undefined);
  t.ok(await all(), what);
}

/** What the agent holds, in a person's words. LOWER_UP is left out: the kernel takes up to a second to say it. */
const state = (node: Node): Promise<string> =>
  node.must('sh', [
    '-c',
    `ip -d -o link show type vxlan | grep -oE '(flannel[^:]*:|[<,]UP|> mtu [0-9]+|link/ether [^ ]+|vxlan id .* (no)?learning)' | paste - - - - - | sort
     ip -o addr show | grep -E 'flannel' | grep -v fe80 | sed -E 's/^[0-9]+: //; s/valid.*//' | sort
     ip route show proto 251 | sort; ip -6 route show proto 251 | sort
     ip neigh show nud permanent | sort; ip -6 neigh show nud permanent | sort
     bridge fdb show dev flannel.1 | sort; bridge fdb show dev flannel-v6.1 | sort
     nft list chain inet flannel masquerade-10.244.0.0-16`,
  ]);

/** Waits until the state is the wanted one again. */
async function restored(t: Test, node: Node, want: string, what: string): Promise<void> {
  const same = async () => (await state(node).catch(() => '')) === want;
  if (
    await until(what, same).then(
      () => true,
      () => false,
    )
  )
    t.pass(`${what}: restored`);
  else t.equal(await state(node), want, what);
}

/** In one process, since the agent may be faster than the next one; whatever fails for that reason. */
const batch = (...lines: readonly string[]): string =>
  `printf '${lines.map((line) => `${line}\\n`).join('')}' | ip -force -batch - || true`;

const LOSSES: Readonly<Record<string, string>> = {
  'the device': 'ip link delete flannel.1',
  'the IPv6 device': 'ip link delete flannel-v6.1',
  'both devices': 'ip link delete flannel.1; ip link delete flannel-v6.1',
  'a device of the wrong kind': batch('link delete flannel.1', 'link add flannel.1 type bridge'),
  'a device that is down': 'ip link set flannel.1 down',
  "a device's MAC": 'ip link set flannel.1 address 02:11:22:33:44:55',
  "a device's MTU": 'ip link set flannel.1 mtu 1300',
  'a renamed device': batch('link set flannel.1 down', 'link set flannel.1 name other0', 'link delete other0'),
  'the address': 'ip addr flush dev flannel.1',
  'the IPv6 address': 'ip -6 addr flush dev flannel-v6.1 scope global',
  'the route': 'ip route flush proto 251 dev flannel.1',
  'the IPv6 route': 'ip -6 route flush proto 251 dev flannel-v6.1',
  'the blackhole route': 'ip route flush proto 251 type blackhole',
  'a route that leads elsewhere':
    "ip route replace $(ip route show proto 251 dev flannel.1 | cut -d' ' -f1) via 192.168.50.254",
  'the neighbour': 'ip neigh flush nud permanent dev flannel.1',
  'the IPv6 neighbour': 'ip -6 neigh flush nud permanent dev flannel-v6.1',
  'a neighbour with another MAC':
    "ip neigh replace $(ip neigh show nud permanent dev flannel.1 | cut -d' ' -f1) lladdr 02:00:00:00:00:99 nud permanent dev flannel.1",
  'the forwarding entry': "bridge fdb del $(bridge fdb show dev flannel.1 | cut -d' ' -f1) dev flannel.1",
  'a stale forwarding entry': 'bridge fdb add 02:00:00:00:00:98 dev flannel.1 dst 192.168.50.98 self permanent',
  'a rule': 'nft flush chain inet flannel masquerade-10.244.0.0-16',
  'a rule too many': 'nft insert rule inet flannel masquerade-10.244.0.0-16 accept',
  'the table': 'nft delete table inet flannel',
  'all tables': 'nft flush ruleset',
};

t.test('defect D, defect E, report 11, report 12, report 13, report 14: what is taken away comes back', async (t) => {
  const { cluster, nodes, pods } = await start(t, NETWORK);
  const [node] = nodes;
  const want = await state(node);
  t.match(want, /blackhole 10\.244\.\d+\.0\/24/);
  for (const [what, command] of Object.entries(LOSSES)) {
    await node.must('sh', ['-ec', command]);
    await restored(t, node, want, what);
  }
  await flows(t, pods, 'traffic after all of it');

  const runs = async () => (await agentStatus(node))?.totals?.runs;
  let last: { readonly runs: number | undefined; readonly since: number } | undefined;
  const isQuiet = async () => {
    const now = await runs();
    if (last === undefined || now !== last.runs) last = { runs: now, since: Date.now() };
    return Date.now() - last.since >= QUIET_MS * Math.min(5, patience());
  };
  await until('a time without a run', isQuiet);
  t.pass('then it is quiet: our own changes cause no further runs');
  const before = await runs();
  const pod = await startPod(node, { name: 'c' });
  await pod.remove();
  // Notifications come in order: with this one, those of the pod have been heard.
  await node.must('ip', ['route', 'flush', 'proto', '251', 'dev', 'flannel.1']);
  await restored(t, node, want, 'the route');
  await until('a time without a run', isQuiet);
  t.ok(((await runs()) as number) - (before as number) <= RUNS_OF_A_LOSS, 'and pods that come and go cause none');

  const began = Date.now();
  const log = cluster.agentLog(node).split('\n').length;
  const undoer = node.start('sh', ['-c', 'while ip route flush proto 251 dev flannel.1; do sleep 0.01; done']);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  undoer.kill('SIGKILL');
  const lines = cluster.agentLog(node).split('\n').length - log;
  const seconds = (Date.now() - began) / 1000;
  t.ok(
    lines < 17 + seconds,
    `it doesn't run wild against somebody who undoes everything: ${lines} lines, ${seconds} s`,
  );
  await restored(t, node, want, 'what he has undone');
});

const lease = async (cluster: Cluster, node: Node): Promise<string> => {
  const leases = await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`);
  const id = (await agentStatus(node))?.nodeId;
  return leases.split('\n').find((line) => line.includes(`"${id}"`)) ?? '';
};

for (const type of ['vxlan', 'host-gw']) {
  t.test(`report 5, report 20: the interface to other nodes, ${type}`, async (t) => {
    const { cluster, nodes, pods } = await start(t, { ...NETWORK, Backend: { Type: type } });
    const [node, peer] = nodes;
    const overhead = type === 'vxlan' ? 70 : 0;
    const subnetFile = () => node.must('cat', ['/run/flannel/subnet.env']);
    const subnet = /FLANNEL_SUBNET=.*/.exec(await subnetFile())?.[0] as string;

    await node.must('ip', ['link', 'set', 'eth0', 'mtu', '1400']);
    const mtu = `FLANNEL_MTU=${1400 - overhead}`;
    await until('the MTU of pods', async () => (await subnetFile()).includes(mtu)).catch(() => undefined);
    t.match(await subnetFile(), mtu, 'the MTU of pods follows');
    await flows(t, pods, 'traffic with the new MTU');

    const index = (text: string) => /^(\d+):/.exec(text)?.[1];
    const device = type === 'vxlan' ? 'flannel-v6.1' : 'eth0';
    const before = index(await node.must('ip', ['-o', 'link', 'show', device]));
    await node.must('sh', [
      '-ec',
      'ip addr del 192.168.50.1/24 dev eth0; ip addr add 192.168.50.101/24 dev eth0; ip route replace default via 192.168.50.254',
    ]);
    // The connection to etcd has ended nowhere with the old address.
    await until('the lease', async () => (await lease(cluster, node)).includes('"192.168.50.101"')).catch(
      () => undefined,
    );
    t.match(await lease(cluster, node), /"PublicIP":"192\.168\.50\.101"/, 'the lease tells the new address');
    t.match(await subnetFile(), subnet, 'the subnet stays');
    t.equal(index(await node.must('ip', ['-o', 'link', 'show', device])), before, 'what need not be made anew is not');
    await flows(t, pods, 'traffic over the new address');
    const text =
      type === 'vxlan'
        ? await peer.must('bridge', ['fdb', 'show', 'dev', 'flannel.1'])
        : await peer.must('ip', ['route', 'show', 'proto', '251']);
    t.match(text, /192\.168\.50\.101/);
    t.notMatch(text, /192\.168\.50\.1 /, 'and the peer has forgotten the old one');

    await node.must('sh', ['-ec', 'ip link set eth0 down']);
    await until('not ready', async () => (await agentStatus(node))?.ready === false).catch(() => undefined);
    t.match((await agentStatus(node))?.reason, /no interface with a usable IPv\d address|no-interface|eth0/);
    await node.must('sh', [
      '-ec',
      'ip link set eth0 up; ip -6 addr replace fd00:50::1/64 dev eth0 nodad; ip route replace default via 192.168.50.254; ip -6 route replace default via fd00:50::254',
    ]);
    await until('ready again', async () => (await agentStatus(node))?.ready === true).catch(() => undefined);
    t.equal((await agentStatus(node))?.reason, undefined);
    await flows(t, pods, 'traffic after the interface was down');
  });
}
