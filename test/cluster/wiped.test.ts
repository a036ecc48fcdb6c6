// etcd loses everything while three nodes carry traffic: no packet between pods is lost, and the leases come back.

import t from 'tap';
import { DUAL_NETWORK, hasSubnet, type Node, PREFIX, startCluster, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };

t.test('etcd wiped empty under running nodes', async (t) => {
  const cluster = await startCluster({ nodes: 3 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  for (const node of cluster.nodes) cluster.startAgent(node);
  await Promise.all(cluster.nodes.map((node) => until(`${node.name}: subnet file`, () => hasSubnet(node))));
  const pods = await Promise.all(cluster.nodes.map((node) => startPod(node, { name: `${node.name}-a` })));
  const leases = async () => {
    const keys = await cluster.etcdctl('get', '--prefix', '--keys-only', `${PREFIX}/subnets`);
    return keys
      .split('\n')
      .filter((line) => line !== '')
      .sort();
  };
  await until('every node routes to its peers', async () => {
    const pings = pods.flatMap((from) => pods.map((to) => from.probe({ kind: 'ping', to: to.ips[0] as string })));
    return (await Promise.all(pings)).every(({ ok }) => ok);
  });
  const before = await leases();
  t.equal(before.length, 3);

  const count = 1000;
  const streams = pods.flatMap((from) =>
    pods
      .filter((to) => to !== from)
      .flatMap((to) => to.ips.map((ip) => from.probe({ kind: 'ping', to: ip, count, interval: 0.01 }))),
  );
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await cluster.etcdctl('del', '--prefix', '');
  await until('the leases come back', async () => (await leases()).length === 3, 8_000).catch(() => undefined);
  t.same(await leases(), before, 'the same subnets');
  for (const { detail } of await Promise.all(streams))
    t.equal(detail, `${count} packets transmitted, ${count} received`);
  for (const node of cluster.nodes as Node[]) t.equal(await readiness(node), 0, `${node.name} is ready again`);
});

async function readiness(node: Node): Promise<number> {
  await until(
    'ready',
    async () => (await node.run(`${process.cwd()}/build/bin/flanneld`, ['status'])).code === 0,
    10_000,
  ).catch(() => undefined);
  return (await node.run(`${process.cwd()}/build/bin/flanneld`, ['status'])).code;
}
