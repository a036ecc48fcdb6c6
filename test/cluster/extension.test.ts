// The extension backend: a network whose forwarding is the operator's commands, one that needs no shell and one that asks
// for it.

import t, { type Test } from 'tap';
import {
  agentStatus,
  type Cluster,
  DUAL_NETWORK,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';

/** What each run leaves behind, for the test to read. */
const NOTE = 'printf "%s %s %s %s\\n" "$(cat)" "$SUBNET" "$IPV6SUBNET" "$PUBLIC_IP" >>/run/notes-';
const IPV4 = {
  Network: '10.244.0.0/16',
  Backend: {
    Type: 'extension',
    SubnetAddCommand: 'ip route replace $SUBNET via $PUBLIC_IP',
    SubnetRemoveCommand: 'ip route delete $SUBNET via $PUBLIC_IP',
  },
};
const BOTH = {
  ...DUAL_NETWORK,
  Backend: {
    Type: 'extension',
    PreStartupCommand: 'cat /sys/class/net/eth0/address',
    PostStartupCommand: `sh -c '${NOTE}post'`,
    SubnetAddCommand: `sh -c 'ip route replace "$SUBNET" via "$PUBLIC_IP" && ip route replace "$IPV6SUBNET" via "$PUBLIC_IPV6" && ${NOTE}add'`,
    SubnetRemoveCommand: `sh -c 'ip route delete "$SUBNET"; ip route delete "$IPV6SUBNET"; ${NOTE}remove'`,
  },
};

interface Rig {
  readonly cluster: Cluster;
  readonly nodes: readonly [Node, Node];
  readonly agents: ReturnType<Cluster['startAgent']>[];
}

async function start(t: Test, config: unknown): Promise<Rig> {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(config);
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  const agents = nodes.map((node) => cluster.startAgent(node, ['--iptables-resync=1']));
  for (const node of nodes) await until(`${node.name}: its peer`, () => added(node, 1));
  return { cluster, nodes, agents };
}

const added = async (node: Node, count: number): Promise<boolean> =>
  (await hasPeers(node, count, 'extension')) && (await agentStatus(node))?.extension?.added === count;

async function flows(t: Test, [a, b]: readonly [Pod, Pod], what: string): Promise<void> {
  const all = async () => (await Promise.all(b.ips.map((to) => a.probe({ kind: 'ping', to })))).every(({ ok }) => ok);
  await until(what, all, 10_000).catch(() => undefined);
  t.ok(await all(), what);
}

const notes = (node: Node, name: string): Promise<string> => node.must('sh', ['-c', `cat /run/notes-${name} || true`]);
const routes = (node: Node): Promise<string> => node.must('sh', ['-c', 'ip route show; ip -6 route show']);

t.test('IPv4, as flannel documents it', async (t) => {
  const { nodes } = await start(t, IPV4);
  const pods = [await startPod(nodes[0], { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
  await flows(t, pods, 'pod to pod');
  const before = await routes(nodes[0]);
  t.match(before, /10\.244\.\d+\.0\/24 via 192\.168\.50\.2/);
  const { totals } = (await agentStatus(nodes[0])) ?? {};
  await until(
    'runs of the loop',
    async () => ((await agentStatus(nodes[0]))?.totals?.runs ?? 0) > (totals?.runs ?? 0) + 2,
  );
  t.equal(await routes(nodes[0]), before, 'the loop leaves what the commands made');
});

t.test('dual stack: environment, standard input, changes, restart', async (t) => {
  const { cluster, nodes, agents } = await start(t, BOTH);
  const [node, peer] = nodes;
  const pods = [await startPod(node, { name: 'a' }), await startPod(peer, { name: 'b' })] as const;
  await flows(t, pods, 'pod to pod');
  const mac = (await peer.must('cat', ['/sys/class/net/eth0/address'])).trim();
  const lease = (await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`))
    .split('\n')
    .find((line) => line.includes('50.2"'));
  t.match(lease, `"BackendType":"extension","BackendData":"${mac}"`, 'published as flannel does');
  t.match(
    await notes(node, 'add'),
    new RegExp(`^${mac} 10\\.244\\.\\d+\\.0/24 fd00:244:[0-9a-f:]+::/64 192\\.168\\.50\\.2\\n$`),
  );
  t.match(await notes(node, 'post'), /^ 10\.244\.\d+\.0\/24 fd00:.*::\/64 192\.168\.50\.1\n$/);

  await stopAgent(agents[0] as (typeof agents)[0]);
  t.match(await routes(node), /via 192\.168\.50\.2 dev/, 'a stop leaves what is there');
  await node.must('rm', ['/run/notes-add']);
  cluster.startAgent(node);
  await until('after a restart', () => added(node, 1));
  t.match(await notes(node, 'add'), mac, 'everything is added again');

  await stopAgent(agents[1] as (typeof agents)[0]);
  const key = (await agentStatus(node))?.peers[0]?.key as string;
  await cluster.etcdctl('del', `${PREFIX}/subnets/${key}`);
  await until('the removal', async () => (await notes(node, 'remove')) !== '');
  t.match(await notes(node, 'remove'), new RegExp(`^${mac} .*192\\.168\\.50\\.2\\n$`));
  await until('it has ended', () => added(node, 0));
  t.notMatch(await routes(node), /via 192\.168\.50\.2 dev/);
});

t.test('a peer whose command fails', async (t) => {
  const { cluster, nodes } = await start(t, {
    ...IPV4,
    Backend: {
      ...IPV4.Backend,
      SubnetAddCommand: 'sh -c \'test "$SUBNET" != 10.244.77.0/24 || { echo no way >&2; exit 3; }\'',
    },
  });
  const value = '{"PublicIP":"192.168.50.77","PublicIPv6":null,"BackendType":"extension","BackendData":"x"}';
  await cluster.etcdctl('put', `${PREFIX}/subnets/10.244.77.0-24`, value);
  await cluster.etcdctl('put', `${PREFIX}/subnets/10.244.78.0-24`, value.replace('.77', '.78'));
  const states = async () => (await agentStatus(nodes[0]))?.peers.filter(({ key }) => /\.7[78]\./.test(key));
  await until('both answers', async () => {
    const found = (await states())?.map(({ state }) => state).sort();
    return found?.join() === 'failed,programmed';
  });
  t.match(await states(), [
    { key: '10.244.77.0-24', state: 'failed', reason: 'SubnetAddCommand (sh): exit status 3: no way' },
    { key: '10.244.78.0-24', state: 'programmed' },
  ]);
  t.equal((await agentStatus(nodes[0]))?.ready, true);
});

t.test('PreStartupCommand is waited for', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ ...IPV4, Backend: { ...IPV4.Backend, PreStartupCommand: 'cat /run/device' } });
  const [node] = cluster.nodes as [Node];
  await node.must('mkdir', ['-p', '/run/flannel']);
  cluster.startAgent(node);
  await until('the reason', async () => (await agentStatus(node))?.reason?.includes('exit status') ?? false);
  t.match(
    (await agentStatus(node))?.reason,
    /^waiting for PreStartupCommand: PreStartupCommand \(cat\): exit status 1: cat: /,
  );
  t.equal(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`), '', 'no subnet is taken without it');
  await node.must('sh', ['-c', 'echo vni 7 >/run/device']);
  await until('ready', async () => (await agentStatus(node))?.ready === true);
  t.match(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`), '"BackendData":"vni 7"');
});
