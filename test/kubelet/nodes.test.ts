// Nodes come, are drained, go, and come back with another pod CIDR; then the API server goes away and has forgotten
// what it said.

import t from 'tap';
import { until } from '../../examples/cluster/cluster.ts';
import {
  conditionOf,
  type KubeCluster,
  lacking,
  nodeObjects,
  openKubeCluster,
  type PodObject,
  SLOW,
} from './cluster.ts';
import type { KubeletNode } from './node.ts';
import {
  eventsOf,
  podsOf,
  readyPods,
  restartsOf,
  scaleWeb,
  serviceIps,
  startWeb,
  unreachablePages,
} from './workload.ts';

const isOn =
  ({ name }: KubeletNode) =>
  ({ spec }: PodObject): boolean =>
    spec.nodeName === name;

const allReady = ({ plane }: KubeCluster, count: number) =>
  until(
    `${count} nodes are ready`,
    async () => {
      const nodes = await nodeObjects(plane);
      return nodes.length === count && nodes.every(conditionOf('Ready', 'True'));
    },
    SLOW,
  );

/** As `kubectl drain` does: nothing new comes, and what is there is evicted. */
async function drain({ plane }: KubeCluster, { name }: KubeletNode, pods: readonly PodObject[]): Promise<void> {
  await plane.call('PATCH', `/api/v1/nodes/${name}`, { spec: { unschedulable: true } });
  for (const { metadata } of pods) {
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: metadata.name } };
    await plane.call('POST', `/api/v1/namespaces/default/pods/${metadata.name}/eviction`, eviction);
  }
}

t.test('nodes that come, restart, drain and go', { skip: lacking() }, async (t) => {
  const cluster = await openKubeCluster(t, { nodes: 3, dualStack: true, started: 2 });
  const { plane } = cluster;
  const [n1, , n3] = cluster.nodes as [KubeletNode, KubeletNode, KubeletNode];
  const routes = async () => (await n1.must('ip', ['route'])) + (await n1.must('ip', ['-6', 'route']));
  const cidrsOf = async ({ name }: KubeletNode) =>
    (await nodeObjects(plane)).find(({ metadata }) => metadata.name === name)?.spec.podCIDRs ?? [];
  const reach = async (what: string, pods: readonly PodObject[]) =>
    t.strictSame(await unreachablePages(cluster, pods, services), [], what);
  await cluster.install({ backend: 'vxlan' });
  await startWeb(cluster, 4);
  const services = await serviceIps(cluster);

  n3.startKubelet();
  await allReady(cluster, 3);
  await cluster.rolledOut();
  let pods = await scaleWeb(cluster, 6);
  t.ok(pods.some(isOn(n3)), 'the new node has pods');
  await reach('a node is added', pods);

  await drain(cluster, n3, pods.filter(isOn(n3)));
  const areElsewhere = async () => {
    const found = await podsOf(cluster, 'app=web');
    return found.length === 6 && !found.some(isOn(n3)) && found.every(conditionOf('Ready', 'True'));
  };
  await until('all pods are elsewhere', areElsewhere, SLOW);
  pods = await readyPods(cluster, 'app=web', 6);
  await reach('a node is drained', pods);
  const addresses = async () => (await n3.must('ls', ['/var/lib/cni/networks/cbr0'])).match(/^[\da-f]+[.:].*$/gm) ?? [];
  await until('its addresses are free', async () => (await addresses()).length === 0, SLOW);

  const before = await cidrsOf(n3);
  const known = await routes();
  for (const cidr of before) t.match(known, cidr);
  await n3.stopKubelet();
  await plane.call('DELETE', `/api/v1/nodes/${n3.name}`);
  const isForgotten = async () => {
    const known = await routes();
    return !before.some((cidr) => known.includes(cidr));
  };
  await until('its peers have forgotten it', isForgotten, SLOW);
  await reach('a node is removed', pods);

  n3.startKubelet();
  await allReady(cluster, 3);
  await cluster.rolledOut();
  const after = await cidrsOf(n3);
  for (const [at, cidr] of after.entries()) t.not(cidr, before[at], 'another pod CIDR');
  pods = await scaleWeb(cluster, 9);
  t.ok(pods.some(isOn(n3)), 'the node that came back has pods');
  await reach('a node came back', pods);

  await plane.killServer();
  await reach('without an API server', pods);
  await plane.startServer();
  pods = await scaleWeb(cluster, 10);
  await reach('the API server was restarted', pods);

  const [{ Status }] = JSON.parse(await cluster.cluster.etcdctl('endpoint', 'status', '--write-out=json'));
  await plane.killServer();
  await cluster.cluster.etcdctl('compact', String(Status.header.revision));
  await plane.startServer();
  pods = await scaleWeb(cluster, 11);
  await reach('etcd was compacted', pods);

  const agents = await cluster.agents();
  t.strictSame(
    agents.filter((agent) => restartsOf(agent) > 0),
    [],
    'no agent was started again',
  );
  t.strictSame(await eventsOf(cluster, 'FailedCreatePodSandBox'), [], 'every sandbox at first attempt');
});
