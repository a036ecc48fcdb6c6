// What peers do in etcd shows in a node's routes, forwarding entries and neighbours: exactly, at once, and after a restart
// during which things changed. flannel leaves stale entries in both cases (flannel.md, defects B and C).

import t, { type Test } from 'tap';
import {
  type Cluster,
  DUAL_NETWORK,
  hasSubnet,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };

interface Peer {
  readonly octet: number;
  readonly host: number;
  readonly mac: string;
}

const key = ({ octet }: Peer) => `${PREFIX}/subnets/10.244.${octet}.0-24&fd00:244:0:${octet}::-64`;

/** A lease as flannel writes it. */
const value = ({ host, mac }: Peer) =>
  JSON.stringify({
    PublicIP: `192.168.50.${host}`,
    PublicIPv6: `fd00:50::${host}`,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: mac },
    BackendV6Data: { VNI: 1, VtepMAC: mac },
  });

/** The lines a person would see, for exactly these peers. */
function expected(peers: readonly Peer[]): string[] {
  return peers
    .flatMap(({ octet, host, mac }) => [
      `route 10.244.${octet}.0/24 via 10.244.${octet}.0 dev flannel.1 onlink`,
      `route fd00:244:0:${octet}::/64 via fd00:244:0:${octet}:: dev flannel-v6.1 onlink`,
      `neigh 10.244.${octet}.0 lladdr ${mac}`,
      `neigh fd00:244:0:${octet}:: lladdr ${mac}`,
      `fdb ${mac} dst 192.168.50.${host}`,
      `fdb ${mac} dst fd00:50::${host}`,
    ])
    .sort();
}

async function actual(node: Node): Promise<string[]> {
  const lines = async (command: string) =>
    (await node.must('sh', ['-c', command]))
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  const routes = await lines(
    'ip route show dev flannel.1; ip -6 route show dev flannel-v6.1 | grep -v -e ^fe80 -e ^ff00 -e "proto kernel"',
  );
  const withDevice = (line: string) => {
    const [, destination, gateway] = /^(\S+) via (\S+)/.exec(line) ?? [];
    return `route ${destination} via ${gateway} dev ${line.includes(':') ? 'flannel-v6.1' : 'flannel.1'}${line.includes('onlink') ? ' onlink' : ''}`;
  };
  const neighbours = await lines(
    'ip neigh show dev flannel.1 nud permanent; ip -6 neigh show dev flannel-v6.1 nud permanent',
  );
  const fdb = await lines('bridge fdb show dev flannel.1; bridge fdb show dev flannel-v6.1');
  return [
    ...routes.map(withDevice),
    ...neighbours.map((line) => `neigh ${line.replace(/^(\S+) lladdr (\S+).*/, '$1 lladdr $2')}`),
    ...fdb.map((line) => `fdb ${line.replace(/^(\S+) dst (\S+).*/, '$1 dst $2')}`),
  ].sort();
}

async function settles(node: Node, peers: readonly Peer[], when: string, t: Test) {
  const want = expected(peers);
  await until(when, async () => JSON.stringify(await actual(node)) === JSON.stringify(want), 10_000).catch(
    () => undefined,
  );
  t.same(await actual(node), want, when);
}

t.test('defect B, defect C, report 10: leases of peers', async (t) => {
  const cluster: Cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  const node = cluster.nodes[0] as Node;
  const put = (peer: Peer) => cluster.etcdctl('put', key(peer), value(peer));
  const remove = (peer: Peer) => cluster.etcdctl('del', key(peer));
  const a: Peer = { octet: 201, host: 21, mac: '02:00:00:00:00:0a' };
  const b: Peer = { octet: 202, host: 22, mac: '02:00:00:00:00:0b' };
  const c: Peer = { octet: 203, host: 23, mac: '02:00:00:00:00:0c' };

  await put(a);
  let agent = cluster.startAgent(node);
  await until('subnet file', () => hasSubnet(node));
  await settles(node, [a], 'a lease that was there before', t);
  await put(b);
  await settles(node, [a, b], 'a lease added', t);
  const moved = { ...a, host: 31 };
  await put(moved);
  await settles(node, [moved, b], 'a new public address', t);
  const reborn = { ...b, mac: '02:00:00:00:00:bb' };
  await put(reborn);
  await settles(node, [moved, reborn], 'a new VTEP MAC', t);
  await remove(moved);
  await settles(node, [reborn], 'a lease removed', t);
  await put(a);
  await settles(node, [a, reborn], 'and there again', t);
  // The agent stands still meanwhile: it finds the entry gone that it would remove.
  agent.kill('SIGSTOP');
  await node.must('bridge', ['fdb', 'del', a.mac, 'dev', 'flannel.1']);
  await remove(a);
  await put(c);
  agent.kill('SIGCONT');
  await settles(node, [c, reborn], 'defect H: a forwarding entry that is gone delays no other peer', t);
  await remove(c);
  await settles(node, [reborn], 'which leaves', t);

  const subnet = await node.must('cat', ['/run/flannel/subnet.env']);
  await stopAgent(agent);
  t.same(await actual(node), expected([reborn]), 'a stop leaves the data path as it is');
  const both = { ...reborn, host: 42, mac: '02:00:00:00:0b:0b' };
  await put(a);
  await put(c);
  await remove(a);
  await put(both);
  agent = cluster.startAgent(node);
  await settles(node, [both, c], 'after a restart with changes made meanwhile', t);
  t.equal(await node.must('cat', ['/run/flannel/subnet.env']), subnet, 'the subnet is kept over a restart');

  await cluster.etcdctl(
    'put',
    `${PREFIX}/subnets/10.244.204.0-24`,
    '{"PublicIP":"192.168.50.24","BackendType":"vxlan","BackendData":{"VNI":1}}',
  );
  await cluster.etcdctl('put', `${PREFIX}/subnets/nonsense`, 'not json');
  const d: Peer = { octet: 205, host: 25, mac: '02:00:00:00:00:0d' };
  await put(d);
  await settles(node, [both, c, d], 'a peer without a MAC and a key that is none delay nobody', t);
  await stopAgent(agent);
});
