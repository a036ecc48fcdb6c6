// flanneld --dry-run, status and cleanup, as an operator uses them.

import t from 'tap';
import {
  DUAL_NETWORK,
  ETCD,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };

const everything = (node: Node): Promise<string> =>
  node.must('sh', [
    '-c',
    'ip -o link | sed "s/ state.*//"; ip route; ip -6 route | grep -v fe80; nft list ruleset; find /run /var/lib -xdev | sort',
  ]);

t.test('dry run, status, cleanup', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  const [node, other] = cluster.nodes as [Node, Node];
  const before = await everything(node);

  const dry = await node.run(FLANNELD, [`--etcd-endpoints=${ETCD}`, '--ip-masq', '--dry-run']);
  t.equal(dry.code, 0);
  t.match(
    dry.stdout,
    /^ip link add flannel\.1 .* type vxlan id 1 local 192\.168\.50\.1 dev eth0 dstport 8472 nolearning$/m,
  );
  t.match(dry.stdout, /^nft 'add chain inet flannel /m);
  t.equal(await everything(node), before, 'a dry run changes nothing on the host');
  t.equal(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`), '', 'and nothing in etcd');

  const none = await node.run(FLANNELD, ['status']);
  t.equal(none.code, 2, 'status without an agent');
  t.match(none.stdout + none.stderr, /no agent answers on \/run\/flannel\/subnet\.sock/);

  const agents = cluster.nodes.map((each) => cluster.startAgent(each));
  for (const each of cluster.nodes) await until(`${each.name}: its peer`, () => hasPeers(each, 1));
  const healthy = await node.run(FLANNELD, ['status']);
  t.equal(healthy.code, 0, healthy.stdout);
  t.match(healthy.stdout, /ready/);
  t.match(healthy.stdout, /192\.168\.50\.2 .*programmed/);
  const { peers, ready } = JSON.parse((await node.run(FLANNELD, ['status', '--json'])).stdout);
  t.same([ready, peers.length], [true, 1]);

  await node.must('ip', ['link', 'delete', 'flannel.1']);
  const broken = await node.run(FLANNELD, ['status']);
  t.ok(
    broken.code === 1 || (await node.run('ip', ['link', 'show', 'flannel.1'])).code === 0,
    'a difference is shown, or already mended',
  );
  await until(
    'the device is back with its peer',
    async () => (await node.run(FLANNELD, ['status'])).code === 0,
    15_000,
  );

  await Promise.all(agents.map(stopAgent));
  const planned = await node.must(FLANNELD, ['cleanup', '--dry-run']);
  t.match(planned, /^ip link delete flannel\.1$/m);
  t.equal((await node.run('ip', ['link', 'show', 'flannel.1'])).code, 0, 'a dry cleanup changes nothing');
  t.match(await node.must(FLANNELD, ['cleanup']), /^ip link delete flannel\.1$/m);
  const after = await everything(node);
  t.notMatch(after, /flannel\.1|10\.244\.|fd00:244|table inet flannel|subnet\.env/);
  t.match(await everything(other), /flannel\.1/, 'the other node is untouched');
  t.equal((await node.run(FLANNELD, ['cleanup'])).code, 0, 'cleaning up twice is fine');
});
