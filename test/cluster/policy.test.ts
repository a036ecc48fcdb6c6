// NetworkPolicy over two nodes: each enforces for its own pods, from the same manifests.

import t from 'tap';
import { agentStatus, hasPeers, type Node, startCluster, until } from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
const DIRECTORY = '/run/policies';

const podOf = (name: string, group: string, ips: readonly string[] = []) => ({
  kind: 'Pod',
  apiVersion: 'v1',
  metadata: { name, namespace: 'default', labels: { group } },
  spec: {},
  status: { podIPs: ips.map((ip) => ({ ip })) },
});
const policyOf = (name: string, spec: object) => ({
  kind: 'NetworkPolicy',
  apiVersion: 'networking.k8s.io/v1',
  metadata: { name, namespace: 'default' },
  spec,
});
const SERVER = policyOf('server', {
  podSelector: { matchLabels: { group: 'server' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { group: 'client' } } }] }],
});
const NO_EGRESS = policyOf('silent', {
  podSelector: { matchLabels: { group: 'client' } },
  policyTypes: ['Egress'],
});

t.test('policies hold between pods of two nodes', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  /** The same file on both nodes, in place of what was there. */
  const manifests = async (name: string, ...objects: object[]) => {
    for (const node of nodes) {
      const script = `cat >${DIRECTORY}/.new && mv ${DIRECTORY}/.new ${DIRECTORY}/${name}.json`;
      await node.must('sh', ['-c', script], { input: JSON.stringify({ kind: 'List', items: objects }) });
    }
  };
  for (const node of nodes) await node.must('mkdir', ['-p', DIRECTORY]);
  await manifests('pods', podOf('a', 'server'), podOf('b', 'other'), podOf('c', 'client'));
  for (const node of nodes) cluster.startAgent(node, [`--policy-source=dir:${DIRECTORY}`]);
  for (const node of nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1));
  for (const node of nodes) await until(`${node.name}: ready`, async () => (await agentStatus(node))?.ready === true);
  const a = await startPod(nodes[0], { name: 'a' });
  const b = await startPod(nodes[0], { name: 'b' });
  const c = await startPod(nodes[1], { name: 'c' });
  const named = (group: string) => [podOf('a', 'server', a.ips), podOf('b', 'other', b.ips), podOf('c', group, c.ips)];
  const pings = async (from: Pod, to: Pod) => (await from.probe({ kind: 'ping', to: to.ips[0] as string })).ok;
  const becomes = async (what: string, from: Pod, to: Pod, wanted: boolean) => {
    await until(what, async () => (await pings(from, to)) === wanted).catch(() => undefined);
    t.equal(await pings(from, to), wanted, what);
  };

  await becomes('no policy', c, a, true);
  await manifests('pods', ...named('client'));
  await manifests('policy', SERVER);
  await becomes('another pod of the same node', b, a, false);
  await becomes('a pod of the other node that is let in', c, a, true);
  await becomes('the other way', a, b, true);
  const why = (node: Node, from: string, to: string) =>
    node.run(FLANNELD, ['policy', 'why', '--from', from, '--to', to, '--port', '80']);
  const denied = await why(nodes[0], 'default/b', 'default/a');
  t.equal(denied.code, 1, denied.stderr);
  t.match(denied.stdout, 'ingress of default/a: denied, it is isolated, and no policy allows it: default/server');
  const allowed = await why(nodes[0], 'default/c', 'default/a');
  t.equal(allowed.code, 0, allowed.stderr);
  t.match(allowed.stdout, 'egress of default/c: allowed, not on this node: its own node judges');

  await manifests('pods', ...named('other'));
  await becomes('its label is gone', c, a, false);
  await manifests('pods', ...named('client'));
  await becomes('it has it again', c, a, true);
  await manifests('policy', SERVER, NO_EGRESS);
  await becomes('its own node forbids it', c, a, false);
  t.equal((await why(nodes[0], 'default/c', 'default/a')).code, 0, 'of which the other node knows nothing');
  t.equal((await why(nodes[1], 'default/c', 'default/a')).code, 1);
  await manifests('policy');
  await becomes('no policy any more', c, a, true);
  for (const node of nodes) t.not((await node.run('nft', ['list', 'table', 'inet', 'flannel-policy'])).code, 0);
});
