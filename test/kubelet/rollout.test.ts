// From nodes without a network to pods that reach each other: the manifest's DaemonSet with its image, over each
// backend and with each set of families.

import t, { type Test } from 'tap';
import { conditionOf, type KubeCluster, lacking, nodeObjects, openKubeCluster, type PodObject } from './cluster.ts';
import {
  addressesOf,
  agentWarnings,
  createPods,
  eventsOf,
  podsOf,
  reachablePages,
  readyPods,
  restartsOf,
  serviceIps,
  startWeb,
  unreachablePages,
} from './workload.ts';

const PODS = 6;

/** A policy that lets nobody in holds behind kube-proxy's translation too. The probes of kubelets stay green. */
async function shut(t: Test, cluster: KubeCluster, pods: readonly PodObject[], services: readonly string[]) {
  await createPods(cluster, 'app=client', ['client-0', 'client-1', 'client-2']);
  const clients = await readyPods(cluster, 'app=client', 3);
  t.strictSame(await unreachablePages(cluster, pods, services, clients), [], 'each pod, and the Service, from others');
  const spec = { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'] };
  const policies = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
  await cluster.plane.call('POST', policies, { metadata: { name: 'shut' }, spec });
  t.strictSame(await reachablePages(cluster, pods, services, clients), [], 'a policy shuts pods and Service');
}

for (const dualStack of [false, true])
  for (const [backend, proxyMode] of [
    ['vxlan', 'nftables'],
    ['host-gw', 'iptables'],
  ] as const)
    t.test(`${backend}, ${dualStack ? 'both families' : 'IPv4'}, ${proxyMode}`, { skip: lacking() }, async (t) => {
      const cluster = await openKubeCluster(t, { nodes: 3, dualStack, proxyMode });
      const { plane } = cluster;
      await cluster.install({ backend, flags: dualStack ? ['--policy-source=kube'] : [] });
      for (const node of await nodeObjects(plane))
        t.ok(conditionOf('NetworkUnavailable', 'False')(node), `${node.metadata.name}: its network is there`);
      const pods = await startWeb(cluster, PODS);
      const services = await serviceIps(cluster);
      t.equal(services.length, dualStack ? 2 : 1, 'addresses of the Service');
      t.equal(new Set(pods.map(({ spec }) => spec.nodeName)).size, 3, 'pods on every node');
      for (const pod of pods) t.equal(addressesOf(pod).length, dualStack ? 2 : 1, `addresses of ${pod.metadata.name}`);
      t.strictSame(await unreachablePages(cluster, pods, services), [], 'each pod, and the Service, from each pod');
      if (dualStack) await shut(t, cluster, pods, services);

      const later = await podsOf(cluster, 'app=web');
      t.ok(later.every(conditionOf('Ready', 'True')), 'all are ready still');
      const restarts = [...later, ...(await cluster.agents())].filter((pod) => restartsOf(pod) > 0);
      t.strictSame(restarts, [], 'no container was started again');
      t.strictSame(await eventsOf(cluster, 'FailedCreatePodSandBox', 'Killing'), []);
      t.strictSame(await agentWarnings(cluster), [], 'agents have nothing to warn of');
    });
