// The assertions of flannel's own functional tests (reference: its suites functional-etcd and multi), over namespaces, with an
// etcd that demands client certificates: each backend for IPv4, IPv6 and both; two networks on one host; a subnet that is
// kept over restarts. As there, what is pinged is the subnet's first address on a device of the host.

import type { ChildProcess } from 'node:child_process';
import t, { type Test } from 'tap';
import { type Cluster, hasPeers, type Node, startCluster, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { etcdAddress } from '../../examples/cluster/etcd.ts';
import { makeCertificates } from '../support/certificates.ts';

const BACKENDS = {
  vxlan: { Type: 'vxlan' },
  'vxlan with DirectRouting': { Type: 'vxlan', DirectRouting: true },
  'host-gw': { Type: 'host-gw' },
  udp: { Type: 'udp' },
} as const;

const FAMILIES = {
  IPv4: { families: [4], config: { Network: '10.10.0.0/16' } },
  IPv6: { families: [6], config: { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:10::/48' } },
  'dual stack': {
    families: [4, 6],
    config: { Network: '10.10.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:10::/48' },
  },
} as const;

/** How the way to the peer looks to `ip route show proto 251`. */
const ROUTES: Readonly<Record<keyof typeof BACKENDS, RegExp>> = {
  vxlan: /^\S+ via \S+ dev flannel(-v6)?\.1 .*onlink/m,
  'vxlan with DirectRouting': /^\S+ via (192\.168\.50|fd00:50:)\S+ dev eth0/m,
  'host-gw': /^\S+ via (192\.168\.50|fd00:50:)\S+ dev eth0/m,
  udp: /^\S+ dev flannel0/m,
};

/** flannel's own bound for the subnet file. */
const SUBNET_FILE_MS = 30_000;
const FLANNELD = `${process.cwd()}/build/bin/flanneld`;

async function secureCluster(t: Test, nodes: number): Promise<Cluster> {
  const certificates = makeCertificates([etcdAddress(0)]);
  t.teardown(certificates.remove);
  const cluster = await startCluster({ nodes, etcd: { tls: certificates } });
  t.teardown(() => cluster.down());
  return cluster;
}

type Pair = readonly [Node, Node];

/** One network that the agents of some nodes make. */
interface Network {
  readonly prefix: string;
  readonly file: string;
  readonly config: unknown;
}

const flagsOf = ({ prefix, file }: Network): string[] => [`--etcd-prefix=${prefix}`, `--subnet-file=${file}`];

const startAgents = (cluster: Cluster, nodes: Pair, network: Network): ChildProcess[] =>
  nodes.map((node) => cluster.startAgent(node, flagsOf(network), { name: network.prefix.replaceAll('/', '_') }));

/** FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET, those that there are. */
const subnetsIn = (text: string): string[] =>
  [...text.matchAll(/^FLANNEL_(?:IPV6_)?SUBNET=(.+)$/gm)].map(([, subnet]) => subnet as string);

const addressOf = (subnet: string): string => subnet.slice(0, subnet.indexOf('/'));

async function subnetFile(node: Node, { file }: Network): Promise<string> {
  const there = async () => (await node.run('test', ['-s', file])).code === 0;
  await until(`${node.name}: ${file}`, there, SUBNET_FILE_MS);
  return node.must('cat', [file]);
}

/** Puts the first address of each subnet on a device; flannel's tests take a dummy, here a bridge without ports serves. */
async function addDevice(node: Node, device: string, subnets: readonly string[]): Promise<void> {
  await node.must('ip', ['link', 'add', device, 'up', 'type', 'bridge']);
  for (const subnet of subnets)
    await node.must('ip', ['addr', 'add', subnet, 'dev', device, ...(subnet.includes(':') ? ['nodad'] : [])]);
}

const ping = async (node: Node, from: string, to: string, count = 3): Promise<boolean> =>
  (await node.run('ping', ['-n', '-q', '-I', from, '-c', String(count), '-i', '0.1', '-W', '1', to])).code === 0;

/** `ping -I own -c 3 other`, both ways. */
async function pingBothWays(
  t: Test,
  nodes: Pair,
  subnets: readonly (readonly string[])[],
  what: string,
): Promise<void> {
  const [here, there] = subnets as [readonly string[], readonly string[]];
  for (const [index, subnet] of here.entries()) {
    const [a, b] = [addressOf(subnet), addressOf(there[index] as string)];
    // The subnet file says that this node is ready; the other may still be on its way.
    await until(`${a} reaches ${b}`, () => ping(nodes[0], a, b, 1)).catch(() => undefined);
    const reached = await Promise.all([ping(nodes[0], a, b), ping(nodes[1], b, a)]);
    t.strictSame(reached, [true, true], `${what}: ping ${a} ${b} both ways`);
  }
}

async function checkBackend(
  t: Test,
  cluster: Cluster,
  nodes: Pair,
  backend: keyof typeof BACKENDS,
  kind: keyof typeof FAMILIES,
): Promise<void> {
  const what = `${backend}, ${kind}`;
  const { config, families } = FAMILIES[kind];
  const prefix = `/${what.replace(/\W/g, '')}/network`;
  const network: Network = { prefix, file: '/run/flannel/subnet.env', config };
  await cluster.etcdctl('put', `${prefix}/config`, JSON.stringify({ ...config, Backend: BACKENDS[backend] }));
  const agents = startAgents(cluster, nodes, network);
  const files = await Promise.all(nodes.map((node) => subnetFile(node, network)));
  const subnets = files.map(subnetsIn);
  t.strictSame(
    subnets.map(({ length }) => length),
    [families.length, families.length],
    `${what}: subnet files`,
  );
  for (const [index, node] of nodes.entries()) await addDevice(node, 'ping0', subnets[index] as string[]);
  await pingBothWays(t, nodes, subnets, what);
  for (const family of families)
    t.match(await nodes[0].must('ip', [`-${family}`, 'route', 'show', 'proto', '251']), ROUTES[backend], what);

  await Promise.all(agents.map(stopAgent));
  const keys = () => cluster.etcdctl('get', '--prefix', '--keys-only', `${prefix}/subnets`);
  const before = await keys();
  const again = startAgents(cluster, nodes, network);
  for (const node of nodes) await until(`${what}: ${node.name} ready`, () => hasPeers(node, 1));
  await pingBothWays(t, nodes, subnets, `${what}, restarted`);
  const after = await Promise.all(nodes.map((node) => subnetFile(node, network)));
  t.strictSame([after, await keys()], [files, before], `${what}: subnet kept over restart`);

  await Promise.all(again.map(stopAgent));
  for (const node of nodes) {
    await node.must('ip', ['link', 'delete', 'ping0']);
    await node.must(FLANNELD, ['cleanup']);
  }
}

t.test('report 21: two nodes, each backend for IPv4, IPv6 and both', async (t) => {
  const backends = Object.keys(BACKENDS) as (keyof typeof BACKENDS)[];
  const cluster = await secureCluster(t, 2 * backends.length);
  await Promise.all(
    backends.map(async (backend, lane) => {
      const nodes = cluster.nodes.slice(2 * lane, 2 * lane + 2) as unknown as Pair;
      for (const kind of Object.keys(FAMILIES) as (keyof typeof FAMILIES)[])
        await checkBackend(t, cluster, nodes, backend, kind);
    }),
  );
});

t.test('multi: two networks on one host', async (t) => {
  const cluster = await secureCluster(t, 2);
  const nodes = cluster.nodes as unknown as Pair;
  const networks = [
    {
      prefix: '/vxlan/network',
      file: '/run/flannel/vxlan.env',
      config: { Network: '10.11.0.0/16', Backend: { Type: 'vxlan' } },
    },
    {
      prefix: '/hostgw/network',
      file: '/run/flannel/hostgw.env',
      config: { Network: '10.12.0.0/16', Backend: { Type: 'host-gw' } },
    },
  ];
  const subnets: string[][][] = [];
  for (const network of networks) {
    await cluster.etcdctl('put', `${network.prefix}/config`, JSON.stringify(network.config));
    startAgents(cluster, nodes, network);
  }
  for (const [index, network] of networks.entries()) {
    const files = await Promise.all(nodes.map((node) => subnetFile(node, network)));
    subnets.push(files.map(subnetsIn));
    for (const [at, node] of nodes.entries()) await addDevice(node, `ping${index}`, subnets[index]?.[at] as string[]);
    await pingBothWays(t, nodes, subnets[index] as string[][], network.prefix);
  }
  const [vxlan, hostgw] = subnets.map((each) => addressOf(each[1]?.[0] as string)) as [string, string];
  t.notOk(await ping(nodes[0], 'flannel.1', hostgw, 1), 'the host-gw network is not reached over flannel.1');
  t.notOk(await ping(nodes[0], 'eth0', vxlan, 1), 'the vxlan network is not reached over eth0');
  t.ok(await ping(nodes[0], 'flannel.1', vxlan, 1), 'but each over its own');
});

t.test('report 22: a host without bridge filters', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ Network: '10.10.0.0/16', Backend: { Type: 'vxlan' } });
  const [node] = cluster.nodes as readonly [Node];
  // Where the module is loaded, its settings are covered up.
  await node.must('sh', ['-ec', 'if [ -e /proc/sys/net/bridge ]; then mount -t tmpfs tmpfs /proc/sys/net/bridge; fi']);
  t.not((await node.run('test', ['-e', '/proc/sys/net/bridge/bridge-nf-call-iptables'])).code, 0);
  cluster.startAgent(node);
  await until('ready', () => hasPeers(node, 0, 'vxlan'));
  t.pass('starts all the same');
});
