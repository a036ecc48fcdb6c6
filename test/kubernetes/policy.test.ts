// NetworkPolicy from a real API server: what it tells is in force for the pods of a node, through restarts of either.

import t from 'tap';
import { hasPeers, type Node, until } from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import { lacking, openStage, SINGLE } from './stage.ts';

const SLOW = 60_000;
const POLICIES = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';

t.test('policies', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const { cluster, plane, configure, configFlag } = await openStage(t, 2, SINGLE);
  const [n1, n2] = cluster.nodes as [Node, Node];
  configure({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  for (const node of cluster.nodes) {
    await plane.addNode(node.name);
    await plane.giveServiceAccount(node);
    plane.startAgent(node, { flags: [configFlag, '--policy-source=kube'] });
  }
  for (const node of cluster.nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1), SLOW);
  const account = '/api/v1/namespaces/default/serviceaccounts/default';
  await until(
    'the service account of pods',
    () =>
      plane.call('GET', account).then(
        () => true,
        () => false,
      ),
    SLOW,
  );

  const pods = new Map<string, Pod>();
  for (const [name, node] of [
    ['server', n1],
    ['friend', n2],
    ['stranger', n2],
  ] as const) {
    await plane.call('POST', '/api/v1/namespaces/default/pods', {
      metadata: { name, labels: { role: name } },
      spec: { nodeName: node.name, containers: [{ name: 'c', image: 'none' }] },
    });
    const pod = await startPod(node, { name });
    pods.set(name, pod);
    await plane.call('PATCH', `/api/v1/namespaces/default/pods/${name}/status`, {
      status: { podIP: pod.ips[0], podIPs: pod.ips.map((ip) => ({ ip })) },
    });
  }
  const server = pods.get('server') as Pod;
  const reaches = async (name: string) =>
    (await (pods.get(name) as Pod).probe({ kind: 'tcp', to: server.ips[0] as string })).ok;
  const settle = (what: string, wanted: Record<string, boolean>) =>
    until(
      what,
      async () => {
        for (const [name, expected] of Object.entries(wanted)) if ((await reaches(name)) !== expected) return false;
        return true;
      },
      SLOW,
    ).then(
      () => t.pass(what),
      (error) => t.fail(what, { error: String(error) }),
    );
  const policy = (role: string) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'server' },
    spec: {
      podSelector: { matchLabels: { role: 'server' } },
      policyTypes: ['Ingress'],
      ingress: [{ from: [{ podSelector: { matchLabels: { role } } }] }],
    },
  });

  await settle('without policy everybody', { friend: true, stranger: true });
  await plane.call('POST', POLICIES, policy('friend'));
  await settle('only the friend', { friend: true, stranger: false });
  await plane.call('PATCH', '/api/v1/namespaces/default/pods/stranger', { metadata: { labels: { role: 'friend' } } });
  await settle('a label makes one', { friend: true, stranger: true });
  await plane.killServer();
  t.ok((await reaches('friend')) && (await reaches('stranger')), 'the last state holds without API server');
  await plane.startServer();
  await plane.cut();
  await plane.call('PATCH', `${POLICIES}/server`, { spec: policy('nobody').spec });
  await settle('nobody any more', { friend: false, stranger: false });
  await plane.call('DELETE', `${POLICIES}/server`);
  await settle('everybody again', { friend: true, stranger: true });
  for (const pod of pods.values()) await pod.remove();
});
