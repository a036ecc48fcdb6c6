// What the vxlan backend promises beyond reaching peers: packets as large as the MTU for every family, and a VTEP whose MAC
// outlives the agent, its device, a reboot and udev.

import t, { type Test } from 'tap';
import {
  agentStatus,
  type Cluster,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import { reachAtFullSize } from '../support/full-size.ts';

const DUAL = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };
const NETWORKS = [
  { what: 'IPv4', config: { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } }, mtu: 1450 },
  { what: 'IPv6 alone', config: { EnableIPv4: false, ...DUAL, Backend: { Type: 'vxlan' } }, mtu: 1430 },
  {
    what: 'both',
    config: { Network: '10.244.0.0/16', ...DUAL, Backend: { Type: 'vxlan', Port: 4789, VNI: 42 } },
    mtu: 1430,
  },
  { what: 'group policy', config: { Network: '10.244.0.0/16', Backend: { Type: 'vxlan', GBP: true } }, mtu: 1450 },
  {
    what: 'an MTU that the interface does not take',
    config: { Network: '10.244.0.0/16', Backend: { Type: 'vxlan', MTU: 9000 } },
    mtu: 1450,
  },
];

/** Echoes as large as the MTU, unfragmented, each way. */
async function fullSize(t: Test, pods: readonly [Pod, Pod], mtu: number, what: string): Promise<void> {
  const all = () => reachAtFullSize(pods, mtu);
  await until(what, all, 10_000).catch(() => undefined);
  t.ok(await all(), what);
}

async function start(t: Test, config: unknown) {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(config);
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  const agents = nodes.map((node) => cluster.startAgent(node));
  for (const node of nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1, 'vxlan'));
  return { cluster, nodes, agents };
}

for (const { what, config, mtu } of NETWORKS) {
  t.test(what, async (t) => {
    const { cluster, nodes } = await start(t, config);
    t.match(await nodes[0].must('cat', ['/run/flannel/subnet.env']), `FLANNEL_MTU=${mtu}\n`);
    const pods = [await startPod(nodes[0], { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
    await fullSize(t, pods, mtu, 'packets as large as the MTU');
    const links = await nodes[0].must('ip', ['-d', '-o', 'link', 'show', 'type', 'vxlan']);
    t.equal(/ gbp/.test(links), what === 'group policy');
    if (what !== 'IPv6 alone') return;
    t.match(await nodes[0].must('cat', ['/run/flannel/subnet.env']), /^FLANNEL_IPV6_NETWORK=.*\nFLANNEL_IPV6_SUBNET=/);
    t.match(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`), /"PublicIP":null,"PublicIPv6":"fd00:50::1"/);
  });
}

const macOf = async (node: Node): Promise<string> =>
  /link\/ether (\S+)/.exec(await node.must('ip', ['-o', 'link', 'show', 'flannel.1']))?.[1] ?? '';

const published = async (cluster: Cluster, node: Node): Promise<string | undefined> => {
  const leases = (await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`)).split('\n');
  const own = leases.find((line) => line.includes(`"${node.underlay[4]}"`)) ?? '';
  return /"VtepMAC":"([^"]+)"/.exec(own)?.[1];
};

t.test('the MAC stays', async (t) => {
  const { cluster, nodes, agents } = await start(t, NETWORKS[0]?.config);
  const [node] = nodes;
  const mac = await macOf(node);
  const stays = async (what: string) => {
    await until(what, async () => (await hasPeers(node, 1)) && (await macOf(node)) === mac).catch(() => undefined);
    t.strictSame([await macOf(node), await published(cluster, node)], [mac, mac], what);
  };
  await stays('published');
  await node.must('ip', ['link', 'set', 'flannel.1', 'address', '02:aa:aa:aa:aa:aa']);
  await stays('udev, with the agent there');

  let agent = agents[0] as (typeof agents)[0];
  const restart = async (...meanwhile: readonly string[]) => {
    await stopAgent(agent);
    for (const command of meanwhile) await node.must('sh', ['-c', command]);
    agent = cluster.startAgent(node);
    await until('ready', async () => (await agentStatus(node))?.ready === true);
  };
  await restart('ip link set flannel.1 address 02:bb:bb:bb:bb:bb');
  await stays('udev, without the agent');
  await restart('ip link delete flannel.1');
  await stays('the device made anew');
  await restart('ip link delete flannel.1; rm -rf /run/flannel');
  await stays('a reboot: the lease has it');
  await stopAgent(agent);
  const own = (await agentStatus(nodes[1]))?.peers[0]?.key as string;
  await cluster.etcdctl('del', `${PREFIX}/subnets/${own}`);
  await node.must('sh', ['-c', 'ip link delete flannel.1; rm -rf /run/flannel']);
  agent = cluster.startAgent(node);
  await stays('a reboot after which the store has forgotten the node: its identity file has it');
});
