// The 48 cases of Kubernetes' end-to-end tests for NetworkPolicy, told to a real API server, with pods that kubelets
// run on three nodes: what they expect is literal.

import t, { type Test } from 'tap';
import { endChild } from '../../examples/cluster/machine.ts';
import type { Manifest } from '../flanneld/policy/oracle.ts';
import { addressOf, CASES, type Case, expected, type Stage } from '../flanneld/policy/truth-tables.ts';
import { POLICY_POD, type Prober, proberOf } from '../support/policy-world.ts';
import { isDifferent, type Probed, probeTables } from '../support/probe-table.ts';
import { type KubeCluster, lacking, openKubeCluster, type PodObject, SLOW } from './cluster.ts';
import { POD_IMAGE } from './images.ts';
import { addressesOf, agentWarnings, containerIdOf, readyPods } from './workload.ts';

const NAMESPACES = ['x', 'y', 'z'];
const PODS = NAMESPACES.flatMap((namespace) => ['a', 'b', 'c'].map((name) => `${namespace}${name}`));
/** What is allowed is tried again when the machine was too busy; what is denied is waited for so long. */
const [ALLOWED_MS, DENIED_MS] = [3000, 300];
const LABEL = 'stands-for';

interface PolicyPod extends Prober {
  /** IPv4, IPv6. */
  readonly addresses: readonly [string, string];
}

/** A pod that holds its network; who listens there is policy-pod.ts. */
const podOf = (name: string, nodeName: string) => ({
  metadata: { name: name[1], labels: { pod: name[1], [LABEL]: name } },
  spec: {
    nodeName,
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: 'c',
        image: POD_IMAGE,
        imagePullPolicy: 'Never',
        ports: [80, 81].flatMap((containerPort) =>
          ['TCP', 'UDP', 'SCTP'].map((protocol) => ({
            name: `serve-${containerPort}-${protocol.toLowerCase()}`,
            containerPort,
            protocol,
          })),
        ),
      },
    ],
  },
});

async function startPods(t: Test, cluster: KubeCluster): Promise<ReadonlyMap<string, PolicyPod>> {
  const { plane, nodes } = cluster;
  for (const name of NAMESPACES) await plane.call('POST', '/api/v1/namespaces', { metadata: { name } });
  for (const name of NAMESPACES) await cluster.hasDefaultAccount(name);
  for (const [at, name] of PODS.entries())
    await plane.call('POST', `/api/v1/namespaces/${name[0]}/pods`, podOf(name, nodes[at % nodes.length]?.name ?? ''));
  const found = (await Promise.all(NAMESPACES.map((name) => readyPods(cluster, LABEL, 3, name)))).flat();
  const started = found.map(
    async (pod) => [pod.metadata.labels?.[LABEL] ?? '', await startPod(t, cluster, pod)] as const,
  );
  return new Map(await Promise.all(started));
}

async function startPod(t: Test, cluster: KubeCluster, pod: PodObject): Promise<PolicyPod> {
  const node = cluster.nodeOf(pod);
  const [first = '', ...rest] = await node.within(containerIdOf(pod));
  const child = node.start(first, [...rest, process.execPath, POLICY_POD]);
  t.teardown(() => endChild(child));
  return { ...(await proberOf(child)), addresses: addressesOf(pod) as [string, string] };
}

/** Makes the API server's policies and labels those of a stage, in place of the last stage's. */
function teller({ plane }: KubeCluster, pods: ReadonlyMap<string, PolicyPod>) {
  const translations = [...pods].flatMap(([name, { addresses }]) =>
    ([4, 6] as const).map((family, at) => [`"${addressOf(name, family)}/`, `"${addresses[at]}/`] as const),
  );
  const real = (policy: Manifest): Manifest =>
    JSON.parse(translations.reduce((text, [from, to]) => text.replaceAll(from, to), JSON.stringify(policy)));
  let told: Stage = { policies: [], labels: {}, probes: [] };
  const pathOf = ({ namespace, name }: Manifest['metadata']): [collection: string, object: string] => {
    const collection = `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;
    return [collection, `${collection}/${name}`];
  };
  return async (stage: Stage): Promise<void> => {
    const before = new Set(told.policies.map(({ metadata }) => pathOf(metadata)[1]));
    for (const policy of stage.policies) {
      const [collection, path] = pathOf(policy.metadata);
      const isThere = before.delete(path);
      await plane.call(isThere ? 'PUT' : 'POST', isThere ? path : collection, real(policy));
    }
    for (const path of before) await plane.call('DELETE', path);
    for (const name of new Set([...Object.keys(told.labels), ...Object.keys(stage.labels)])) {
      const gone = Object.fromEntries(Object.keys(told.labels[name] ?? {}).map((key) => [key, null]));
      const path = `/api/v1/namespaces/${name[0]}${name.length === 1 ? '' : `/pods/${name[1]}`}`;
      await plane.call('PATCH', path, { metadata: { labels: { ...gone, ...stage.labels[name] } } });
    }
    told = stage;
  };
}

async function probeAll(pods: ReadonlyMap<string, PolicyPod>, each: Case, stage: Stage): Promise<Probed[]> {
  const pairs = each.pods.flatMap((from) => each.pods.filter((to) => to !== from).map((to) => [from, to] as const));
  const probes = pairs.flatMap(([from, to]) =>
    stage.probes.flatMap((probe) =>
      (pods.get(to)?.addresses ?? []).map(async (address): Promise<Probed> => {
        const wanted = expected(probe, from, to);
        const patience = wanted ? ALLOWED_MS : DENIED_MS;
        const reached = await pods.get(from)?.probe(address, probe.port, probe.protocol, patience);
        const kind = `${probe.protocol} ${probe.port}, IPv${address.includes(':') ? 6 : 4}`;
        return { kind, from, to, reached: reached === true, expected: wanted };
      }),
    ),
  );
  return Promise.all(probes);
}

t.test('policies hold between pods that kubelets start', { skip: lacking() }, async (t) => {
  const cluster = await openKubeCluster(t, { nodes: 3, dualStack: true });
  await cluster.install({ backend: 'vxlan', flags: ['--policy-source=kube'] });
  const pods = await startPods(t, cluster);
  t.equal(pods.size, PODS.length);
  const tell = teller(cluster, pods);
  for (const each of CASES) {
    for (const [at, stage] of each.stages.entries()) {
      await tell(stage);
      let probed = await probeAll(pods, each, stage);
      for (const end = Date.now() + SLOW; probed.some(isDifferent) && Date.now() < end; )
        probed = await probeAll(pods, each, stage);
      const wrong = probed.filter(isDifferent).length;
      if (wrong > 0) t.comment(`${each.title}\n${probeTables(probed)}`);
      t.equal(wrong, 0, `${each.title}, ${at + 1}: ${probed.length} probes`);
    }
  }
  t.strictSame(await agentWarnings(cluster), [], 'agents have nothing to warn of');
});
