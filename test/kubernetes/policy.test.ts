// NetworkPolicy from a real API server: what it tells is in force for the pods of a node, through restarts of either.

import t from 'tap';
import { agentStatus, hasPeers, type Node, until } from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import { lacking, openStage, SINGLE } from './stage.ts';

const SLOW = 60_000;
const PODS = '/api/v1/namespaces/default/pods';
const POLICIES = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';

const podObject = (name: string, node: Node, role: string) => ({
  metadata: { name, labels: { role } },
  spec: { nodeName: node.name, containers: [{ name: 'c', image: 'none' }] },
});
const FOREIGN = `ip netns add foreign
ip link add foreign type veth peer name eth0 netns foreign
ip link set foreign master cni0 up
ip -n foreign address add $1/24 dev eth0
ip -n foreign link set eth0 up
ip -n foreign route add default via $(ip -o -4 address show cni0 | sed 's/.*inet \\([^/]*\\).*/\\1/')`;

interface EventObject {
  readonly reason: string;
}

t.test(
  'policies of an API server hold between nodes',
  { skip: lacking(['kube-apiserver', 'kube-controller-manager']) },
  async (t) => {
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

    const setAddresses = (name: string, ips: readonly string[]) =>
      plane.call('PATCH', `${PODS}/${name}/status`, {
        status: { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) },
      });
    const makePod = async (name: string, node: Node, ips: readonly string[], role = name) => {
      await plane.call('POST', PODS, podObject(name, node, role));
      await setAddresses(name, ips);
    };
    const pods = new Map<string, Pod>();
    for (const [name, node] of [
      ['server', n1],
      ['friend', n2],
      ['stranger', n2],
    ] as const) {
      await plane.call('POST', PODS, podObject(name, node, name));
      const pod = await startPod(node, { name });
      pods.set(name, pod);
      await setAddresses(name, pod.ips);
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
    const fresh = await startPod(n2, { name: 'fresh' });
    pods.set('fresh', fresh);
    const isReached = async () => (await server.probe({ kind: 'ping', to: fresh.ips[0] as string })).ok;
    t.notOk(await isReached(), 'a pod that nobody knows starts, shut');
    await plane.startServer();
    await plane.cut();
    await makePod('fresh', n2, fresh.ips);
    await until('the pod is known', isReached, SLOW);

    // What another plugin attached to the bridge, here by hand, has the addresses that the API server tells.
    const [subnet = ''] = server.ips;
    const foreign = subnet.replace(/\d+$/, '250');
    await n1.must('sh', ['-ec', FOREIGN, 'sh', foreign]);
    const toForeign = async (name: string) => (await (pods.get(name) as Pod).probe({ kind: 'ping', to: foreign })).ok;
    t.ok((await toForeign('friend')) && (await toForeign('fresh')), 'a pod of another plugin');
    await makePod('foreign', n1, [foreign], 'server');
    await until('its policy is in force', async () => !(await toForeign('fresh')), SLOW);
    t.ok(await toForeign('friend'), 'and lets in whom it says');
    await plane.call('PATCH', `${POLICIES}/server`, { spec: policy('nobody').spec });
    await settle('nobody any more', { friend: false, stranger: false });

    // The API server takes zeros at the front, as Go once read them; nobody else can tell what they mean.
    const odd = { ingress: [{ from: [{ ipBlock: { cidr: '010.0.0.0/8' } }] }] };
    await plane.call('PATCH', `${POLICIES}/server`, { spec: odd });
    const invalid = async () =>
      (await plane.call<{ items: EventObject[] }>('GET', '/api/v1/namespaces/default/events')).items.filter(
        ({ reason }) => reason === 'PolicyInvalid',
      );
    await until('PolicyInvalid', async () => (await invalid()).length > 0, SLOW).catch(() => undefined);
    const { metadata } = await plane.call('GET', `${POLICIES}/server`);
    const where = /spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr/;
    const involvedObject = { kind: 'NetworkPolicy', namespace: 'default', name: 'server', uid: metadata.uid };
    const expected = { involvedObject, source: { host: 'n1' }, message: where };
    t.match(await invalid(), [expected], 'one Event, by the node that has a pod of it');
    t.equal((await invalid()).length, 1);
    t.match((await agentStatus(n1))?.cni?.policy?.invalid, [/NetworkPolicy default\/server: spec\.ingress/]);
    t.match(cluster.agentLog(n1), /NetworkPolicy default\/server: spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr/);
    await settle('a rule with a mistake allows nothing', { friend: false, stranger: false });

    await plane.call('DELETE', `${POLICIES}/server`);
    await settle('everybody again', { friend: true, stranger: true });
    for (const pod of pods.values()) await pod.remove();
  },
);
