// The udp backend: pods reach each other with packets as large as the MTU says, and what is taken away comes back.

import t from 'tap';
import { agentStatus, hasPeers, type Node, startCluster, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';
import { reachAtFullSize } from '../support/full-size.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
const DUAL = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };
const NETWORKS = [
  { what: 'IPv4', config: { Network: '10.244.0.0/16', Backend: { Type: 'udp' } }, mtu: 1472 },
  {
    what: 'dual stack',
    config: { Network: '10.244.0.0/16', ...DUAL, Backend: { Type: 'udp', Port: 9999 } },
    mtu: 1472,
  },
  { what: 'IPv6', config: { EnableIPv4: false, ...DUAL, Backend: { Type: 'udp' } }, mtu: 1452 },
];

for (const { what, config, mtu } of NETWORKS) {
  t.test(what, async (t) => {
    const cluster = await startCluster({ nodes: 2 });
    t.teardown(() => cluster.down());
    await cluster.putConfig(config);
    const nodes = cluster.nodes as unknown as readonly [Node, Node];
    const [node] = nodes;
    const agents = nodes.map((each) => cluster.startAgent(each, ['--iptables-resync=600']));
    for (const each of nodes) await until(`${each.name}: its peer`, () => hasPeers(each, 1, 'udp'));
    t.match(await node.must('cat', ['/run/flannel/subnet.env']), `FLANNEL_MTU=${mtu}\n`);
    const pods = [await startPod(node, { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
    const large = () => reachAtFullSize(pods, mtu);
    const flows = async (when: string) => {
      const began = Date.now();
      await until(when, large, 10_000).catch(() => undefined);
      t.ok(await large(), `${when} (${Date.now() - began} ms)`);
    };
    await flows('packets as large as the MTU');
    const reply = await pods[0].probe({ kind: 'tcp', to: pods[1].ips[0] as string });
    t.ok(reply.ok, reply.detail);
    const status = async () => (await agentStatus(node))?.proxy;
    const sentPackets = async () => (await status())?.counters?.sentPackets ?? 0;
    await until('the counters', async () => (await sentPackets()) > 0);
    const first = await status();
    t.match(first, { restarts: 0, counters: { routes: pods[0].ips.length } });
    // The peer's first echoes may have come before its lease.
    await flows('the same again');
    await until('the counters again', async () => (await sentPackets()) > (first?.counters?.sentPackets as number));
    t.equal((await status())?.counters?.inNotAPeer, first?.counters?.inNotAPeer, 'all of it came from a peer');

    const pid = (await status())?.pid as number;
    process.kill(pid, 'SIGKILL');
    await flows('after its program was killed');
    t.match(await status(), { restarts: 1, trouble: undefined });
    await node.must('ip', ['link', 'set', 'flannel0', 'down']);
    await flows('after its device was taken down');
    await node.must('ip', ['link', 'delete', 'flannel0']);
    await flows('after its device was deleted');
    await node.must('sh', ['-c', 'ip route flush proto 251; ip -6 route flush proto 251']);
    await flows('after its route was deleted');

    await Promise.all(agents.map(stopAgent));
    t.match(await node.must(FLANNELD, ['cleanup']), /^ip link delete flannel0$/m);
    t.notMatch(await node.must('ip', ['-o', 'link']), /flannel0/);
  });
}

t.test('from udp to vxlan', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'udp' } });
  const [node] = cluster.nodes as [Node];
  const agent = cluster.startAgent(node);
  await until('udp', async () => (await agentStatus(node))?.ready === true);
  await until('its device', async () =>
    (await node.run('ip', ['addr', 'show', 'flannel0'])).stdout.includes('10.244.'),
  );
  await stopAgent(agent);
  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  cluster.startAgent(node);
  await until('vxlan', () => hasPeers(node, 0, 'vxlan'));
  t.notMatch(await node.must('ip', ['-o', 'link']), /flannel0/, 'the old device is gone');
  t.equal(await node.must('ip', ['route', 'show', 'proto', '251']), '');
});
