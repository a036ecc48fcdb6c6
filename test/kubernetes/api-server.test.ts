// Agents on three nodes with a real API server and controller manager, authorised by exactly the role in deploy/rbac.yml.

import t from 'tap';
import {
  agentStatus,
  DUAL_NETWORK,
  hasPeers,
  hasSubnet,
  type Node,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import type { KubeObject } from '../../flanneld/kube/list-watch.ts';
import { count } from '../support/count.ts';
import { DUAL, lacking, openStage, reasonOf, reachEachOther, unreachable } from './stage.ts';

const PREFIX = 'flannel.alpha.coreos.com/';
const SLOW = 60_000;

interface NodeObject extends KubeObject {
  readonly spec: { readonly podCIDRs: string[] };
  readonly status: { readonly conditions?: { type: string; status: string; reason: string }[] };
}

interface EventObject {
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: { readonly name: string };
}

t.test('a cluster', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const { cluster, plane, configure, configFlag } = await openStage(t, 3, DUAL);
  const [n1, n2, n3] = cluster.nodes as [Node, Node, Node];
  const flags = [configFlag, '--healthz-port=10256'];
  const agents = new Map<Node, ReturnType<typeof plane.startAgent>>();
  const start = (node: Node) => void agents.set(node, plane.startAgent(node, { flags }));
  const nodeObject = (node: Node) => plane.call<NodeObject>('GET', `/api/v1/nodes/${node.name}`);
  const annotate = (node: Node, annotations: Record<string, string | null>) =>
    plane.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata: { annotations } });
  const eventsOf = async (node: Node) =>
    (await plane.call<{ items: EventObject[] }>('GET', '/api/v1/namespaces/default/events')).items.filter(
      ({ involvedObject }) => involvedObject.name === node.name,
    );
  const reach = (what: string, pods: readonly Pod[]) => reachEachOther(t, what, pods, SLOW);

  configure({ ...DUAL_NETWORK, Backend: { Type: 'vxlan' } });
  for (const node of cluster.nodes) await plane.giveServiceAccount(node);
  start(n1);
  await until('n1 waits for its Node', async () => (await reasonOf(n1)) !== undefined, SLOW);
  await until('it says so', async () => /there is no Node n1/.test((await reasonOf(n1)) ?? ''), SLOW).catch(
    () => undefined,
  );
  t.match(await reasonOf(n1), /waiting for a subnet: there is no Node n1/);
  t.equal((await n1.run('ip', ['link', 'show', 'flannel.1'])).code, 1, 'nothing has been made yet');
  for (const node of cluster.nodes) await plane.addNode(node.name);
  for (const node of [n2, n3]) start(node);
  for (const node of cluster.nodes) await until(`${node.name}: two peers`, () => hasPeers(node, 2), SLOW);
  const pods: Pod[] = [];
  for (const node of cluster.nodes) pods.push(await startPod(node, { name: `p-${node.name}` }));
  await reach('over vxlan, both families', pods);

  for (const node of cluster.nodes) {
    const [v4, v6] = await plane.podCidrs(node.name);
    const env = await node.must('cat', ['/run/flannel/subnet.env']);
    const gateway = (cidr = '') => cidr.replace(/([.:])0?\//, (_, dot) => `${dot}1/`);
    t.match(env, `FLANNEL_SUBNET=${gateway(v4)}`);
    t.match(env, `FLANNEL_IPV6_SUBNET=${gateway(v6)}`);
    await until('the condition', async () => (await nodeObject(node)).status.conditions !== undefined, SLOW);
    t.match((await nodeObject(node)).status.conditions, [
      { type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp' },
    ]);
    const { annotations = {} } = (await nodeObject(node)).metadata;
    t.match(annotations[`${PREFIX}backend-v6-data`], /^\{"VNI":1,"VtepMAC":"[\da-f:]{17}"\}$/);
  }
  const macs = async () => (await nodeObject(n2)).metadata.annotations?.[`${PREFIX}backend-data`];

  await t.test('a restart without its device: the MAC is that of the annotation', async (t) => {
    const before = await macs();
    await stopAgent(agents.get(n2) as never);
    await n2.must('ip', ['link', 'delete', 'flannel.1']);
    start(n2);
    await until('n2 again', () => hasPeers(n2, 2), SLOW);
    t.equal(await macs(), before);
    await reach('after it', pods);
  });

  await t.test('K1: public-ip-overwrite is published, and peers send there', async (t) => {
    await n2.must('ip', ['address', 'add', '192.168.50.52/24', 'dev', 'eth0']);
    await annotate(n2, { [`${PREFIX}public-ip-overwrite`]: '192.168.50.52' });
    const published = async () => (await nodeObject(n2)).metadata.annotations?.[`${PREFIX}public-ip`];
    await until('published', async () => (await published()) === '192.168.50.52', SLOW).catch(() => undefined);
    t.equal(await published(), '192.168.50.52');
    await until(
      'used',
      async () => (await n1.must('bridge', ['fdb', 'show', 'dev', 'flannel.1'])).includes('dst 192.168.50.52'),
      SLOW,
    );
    await reach('by the other address', pods);
    await annotate(n2, { [`${PREFIX}public-ip-overwrite`]: null });
    await until('taken back', async () => (await published()) === n2.underlay[4], SLOW);
    await n2.must('ip', ['address', 'delete', '192.168.50.52/24', 'dev', 'eth0']);
    await reach('by the interface again', pods);
  });

  await t.test('the API server goes away and comes back', async (t) => {
    await plane.killServer();
    await until('n1 says so', async () => (await agentStatus(n1))?.trouble !== undefined, SLOW);
    t.match(await agentStatus(n1), { ready: true, trouble: /API server/ }, 'pods are served all the same');
    t.strictSame(await unreachable(pods), []);
    const extra = await startPod(n1, { name: 'meanwhile' });
    await reach('a pod that came meanwhile', [...pods, extra]);
    await extra.remove();
    await stopAgent(agents.get(n3) as never);
    start(n3);
    await until('n3 waits', async () => /API server/.test((await reasonOf(n3)) ?? ''), SLOW);
    t.strictSame(await unreachable(pods), [], 'an agent that starts without it leaves the data path as it is');
    await plane.startServer();
    for (const node of cluster.nodes) await until(`${node.name}: again`, () => hasPeers(node, 2), SLOW);
    await until('no trouble', async () => (await agentStatus(n1))?.trouble === undefined, SLOW);
    await reach('afterwards', pods);
  });

  await t.test('a slow server, watches cut while leases change, and etcd compacted', async (t) => {
    const shown = async (address: string) =>
      (await agentStatus(n1))?.peers.some(({ publicIp }) => publicIp.includes(address as never)) === true;
    await plane.call('POST', '/api/v1/nodes', {
      metadata: {
        name: 'n9',
        annotations: {
          [`${PREFIX}kube-subnet-manager`]: 'true',
          [`${PREFIX}backend-type`]: 'vxlan',
          [`${PREFIX}backend-data`]: '{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}',
          [`${PREFIX}public-ip`]: '192.168.50.9',
        },
      },
    });
    await plane.podCidrs('n9');
    await until('n9', () => shown('192.168.50.9'), SLOW);
    await plane.slow(300);
    await plane.cut();
    const slowly = '192.168.50.99';
    await plane.call('PATCH', '/api/v1/nodes/n9', { metadata: { annotations: { [`${PREFIX}public-ip`]: slowly } } });
    await until('by a slow server', () => shown(slowly), SLOW);
    await plane.slow(0);
    for (let cut = 1; cut <= count(100); cut++) {
      await plane.cut();
      const address = `192.168.50.${100 + cut}`;
      await plane.call('PATCH', '/api/v1/nodes/n9', { metadata: { annotations: { [`${PREFIX}public-ip`]: address } } });
      await until(`cut ${cut}`, () => shown(address), SLOW);
    }
    await plane.call('DELETE', '/api/v1/nodes/n9');
    const [status] = JSON.parse(await cluster.etcdctl('endpoint', 'status', '--write-out=json')) as [
      { Status: { header: { revision: number } } },
    ];
    await plane.killServer();
    await cluster.etcdctl('compact', String(status.Status.header.revision));
    await plane.startServer();
    for (const node of cluster.nodes) await until(`${node.name}: n9 is gone`, () => hasPeers(node, 2), SLOW);
    t.strictSame(await unreachable(pods), []);
  });

  await t.test('a Node removed and made again with another pod CIDR', async (t) => {
    const [before] = await plane.podCidrs('n3');
    await plane.call('DELETE', '/api/v1/nodes/n3');
    await until('n1 has forgotten it', () => hasPeers(n1, 1), SLOW);
    await until('n3 is not ready', async () => (await reasonOf(n3)) !== undefined, SLOW);
    t.match(await reasonOf(n3), /Node n3|store/);
    await plane.addNode('n3');
    const [after = ''] = await plane.podCidrs('n3');
    t.not(after, before);
    await until('it says why', async () => /pods on it still use/.test((await reasonOf(n3)) ?? ''), SLOW);
    const old = pods.pop() as Pod;
    await old.remove();
    await until('n3 has taken it up', async () => (await hasPeers(n3, 2)) && (await hasPeers(n1, 2)), SLOW);
    t.match(await n3.must('cat', ['/run/flannel/subnet.env']), `FLANNEL_SUBNET=${after.replace('.0/', '.1/')}`);
    pods.push(await startPod(n3, { name: 'anew' }));
    await reach('with pods of the new subnet', pods);
    t.match((await nodeObject(n3)).status.conditions, [{ type: 'NetworkUnavailable', status: 'False' }]);
  });

  await t.test('a token that is no good, and one that is', async (t) => {
    await plane.giveServiceAccount(n2, 'none');
    await plane.cut();
    await until('refused', async () => /Unauthorized/.test((await agentStatus(n2))?.trouble ?? ''), SLOW);
    t.match(await agentStatus(n2), { ready: true });
    await plane.giveServiceAccount(n2);
    await until('let in', async () => (await agentStatus(n2))?.trouble === undefined, SLOW);
    t.strictSame(await unreachable(pods), []);
  });

  await t.test('another backend: said in an Event, taken up by restarts', async (t) => {
    configure({ ...DUAL_NETWORK, Backend: { Type: 'host-gw' } });
    const told = async () => (await eventsOf(n1)).some(({ reason }) => reason === 'NetworkConfigNotInForce');
    await until('NetworkConfigNotInForce', told, SLOW).catch(() => undefined);
    t.ok(await told(), 'NetworkConfigNotInForce');
    await stopAgent(agents.get(n1) as never);
    start(n1);
    const refusal = /n2: has backend vxlan, we have host-gw/;
    const refusalTold = async () =>
      (await eventsOf(n1)).some(({ reason, message }) => reason === 'PeerUnreachable' && refusal.test(message));
    await until('PeerUnreachable', refusalTold, SLOW).catch(() => undefined);
    t.ok(await refusalTold(), 'PeerUnreachable');
    for (const node of [n2, n3]) {
      await stopAgent(agents.get(node) as never);
      start(node);
    }
    for (const node of cluster.nodes) await until(`${node.name}: host-gw`, () => hasPeers(node, 2, 'host-gw'), SLOW);
    await reach('over host-gw, both families', pods);
    t.match(await n1.must('ip', ['route']), `via ${n2.underlay[4]} dev eth0`);
  });
  t.ok(await hasSubnet(n1));
  for (const pod of pods) await pod.remove();
});
