// One family, host-gw; agents that find their access and their node in the other ways there are.

import { writeFileSync } from 'node:fs';
import t from 'tap';
import { hasPeers, type Node, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';
import type { KubeObject } from '../../flanneld/kube/list-watch.ts';
import { lacking, openStage, reachEachOther, SINGLE } from './stage.ts';

t.test('one family', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const { cluster, plane, configure, configFlag } = await openStage(t, 2, SINGLE);
  const [n1, n2] = cluster.nodes as [Node, Node];
  configure({ Network: '10.99.0.0/16', Backend: { Type: 'host-gw' } });
  for (const node of cluster.nodes) {
    await plane.addNode(node.name);
    t.equal((await plane.podCidrs(node.name)).length, 1);
  }
  await plane.call('POST', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies', {
    metadata: { name: 'deny' },
    spec: { podSelector: {} },
  });
  const flags = [configFlag, '--kube-annotation-prefix=example.org/net'];

  const kubeconfig = `${cluster.logs}/kubeconfig`;
  const token = `${cluster.logs}/token`;
  writeFileSync(token, `${await plane.token()}\n`);
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: 'https://192.0.2.1:1', 'certificate-authority': plane.authority } }],
      users: [{ name: 'u', user: { tokenFile: 'token' } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  const startN1 = () =>
    plane.startAgent(n1, {
      flags: [...flags, `--kubeconfig-file=${kubeconfig}`, `--kube-api-url=${plane.url}`],
      env: { KUBERNETES_SERVICE_HOST: '', KUBERNETES_SERVICE_PORT: '' },
    });
  const misled = startN1();
  const events = async () => (await plane.call<{ items: object[] }>('GET', '/api/v1/namespaces/default/events')).items;
  await until('NoPodCIDR', async () => (await events()).length > 0, 60_000).catch(() => undefined);
  const about = { kind: 'Node', name: 'n1' };
  t.match(await events(), [
    { reason: 'NoPodCIDR', involvedObject: about, message: /10\.244\.\d\.0\/24 is not inside/ },
  ]);
  await stopAgent(misled);
  configure({ Network: '10.244.0.0/16', Backend: { Type: 'host-gw' } });
  startN1();

  await plane.giveServiceAccount(n2);
  await plane.call('POST', '/api/v1/namespaces/kube-flannel/pods', {
    metadata: { name: 'agent-2' },
    spec: { nodeName: 'n2', serviceAccountName: 'flannel', containers: [{ name: 'a', image: 'none' }] },
  });
  plane.startAgent(n2, { flags, env: { NODE_NAME: '', POD_NAME: 'agent-2', POD_NAMESPACE: 'kube-flannel' } });

  for (const node of cluster.nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1, 'host-gw'), 60_000);
  const pods = [await startPod(n1, { name: 'a' }), await startPod(n2, { name: 'b' })];
  await reachEachOther(t, 'traffic', pods, 30_000);
  const { metadata } = await plane.call<KubeObject>('GET', '/api/v1/nodes/n2');
  t.match(metadata.annotations, {
    'example.org/net-kube-subnet-manager': 'true',
    'example.org/net-backend-type': 'host-gw',
    'example.org/net-backend-data': 'null',
    'example.org/net-public-ip': '192.168.50.2',
  });
  for (const pod of pods) await pod.remove();
  for (const node of cluster.nodes) {
    const warned = () => cluster.agentLog(node).includes('has NetworkPolicies and this agent enforces none');
    await until(`${node.name}: a warning of policies that nobody enforces`, async () => warned(), 60_000);
  }
});
