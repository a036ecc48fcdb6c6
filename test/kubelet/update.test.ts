// Agents are restarted, and then replaced by those of another image, one node after the other: running pods notice nothing, and
// pods that come meanwhile wait for the new agent in their first attempt.

import t from 'tap';
import { until } from '../../examples/cluster/cluster.ts';
import { changeTemplate, conditionOf, lacking, openKubeCluster, SLOW } from './cluster.ts';
import { agentImage } from './images.ts';
import { startTraffic } from './steady.ts';
import {
  agentWarnings,
  containerIdOf,
  createPods,
  deletePods,
  eventsOf,
  restartsOf,
  readyPods,
  serviceIps,
  startWeb,
  unreachablePages,
} from './workload.ts';

const PASSING = 20;
const LOT = 5;
const NEXT = '0.1.1';

t.test('agents are replaced', { skip: lacking() }, async (t) => {
  const cluster = await openKubeCluster(t, { nodes: 3, dualStack: true });
  const { plane } = cluster;
  const image = cluster.buildImage(NEXT);
  await Promise.all(cluster.nodes.map((node) => node.importImage(image)));
  // With policies in force, a restart has more to take over.
  await cluster.install({ backend: 'vxlan', flags: ['--policy-source=kube'] });
  await plane.call('POST', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies', {
    metadata: { name: 'web' },
    spec: {
      podSelector: { matchLabels: { app: 'web' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }] }],
    },
  });
  const pods = await startWeb(cluster, 3);
  const services = await serviceIps(cluster);
  t.equal(new Set(pods.map(({ spec }) => spec.nodeName)).size, 3, 'a pod on every node');

  /** Pods come and go in lots, so that some do at every moment of the change. */
  const passing = async (what: string) => {
    for (let lot = 0; lot < PASSING / LOT; lot++) {
      const label = `passing=${what}-${lot}`;
      const names = Array.from({ length: LOT }, (_, at) => `${what}-${lot}-${at}`);
      await createPods(cluster, label, names);
      await readyPods(cluster, label, LOT);
      await deletePods(cluster, label);
    }
  };
  const during = async (what: string, change: () => Promise<void>) => {
    const before = new Set((await cluster.agents()).map(containerIdOf));
    const traffic = await startTraffic(t, cluster, pods);
    await Promise.all([change(), passing(what)]);
    await traffic.lostNothing(t, what);
    const agents = await cluster.agents();
    t.notOk(
      agents.some((agent) => before.has(containerIdOf(agent))),
      `${what}: all agents were replaced`,
    );
    t.strictSame(await eventsOf(cluster, 'FailedCreatePodSandBox', 'FailedKillPod'), [], `${what}: at first attempt`);
    t.strictSame(await unreachablePages(cluster, pods, services), [], `${what}: all pods reach all`);
  };
  await during('restart', async () => {
    await changeTemplate(plane, (template) => {
      template.metadata.annotations = { restarted: 'yes' };
    });
    await cluster.rolledOut();
  });
  await during('update', async () => {
    await changeTemplate(plane, ({ spec }) => {
      for (const container of [...spec.initContainers, ...spec.containers]) container.image = agentImage(NEXT);
    });
    await cluster.rolledOut();
  });
  t.strictSame(await agentWarnings(cluster), [], 'agents that were ended in order leave nothing to warn of');
  await during('crash', async () => {
    for (const agent of await cluster.agents()) await cluster.nodeOf(agent).kill(containerIdOf(agent));
    const areBack = async () =>
      (await cluster.agents()).every((agent) => restartsOf(agent) === 1 && conditionOf('Ready', 'True')(agent));
    await until('all agents are back', areBack, SLOW);
  });
});
