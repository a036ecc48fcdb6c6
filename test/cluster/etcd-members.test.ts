// A cluster of three etcd servers with TLS, client certificates and users, of which one is killed, one partitioned from
// the others and one cut off from everybody, each time the leader or the one in use, while leases change. No agent
// ends, no route to a peer that is there goes away for a moment, and all nodes do what the leases say afterwards.

import type { ChildProcess } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import {
  type Cluster,
  DUAL_NETWORK,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  until,
} from '../../examples/cluster/cluster.ts';
import { type EtcdMember, etcdAddress } from '../../examples/cluster/etcd.ts';
import { makeCertificates, type TestCertificates } from '../support/certificates.ts';
import { storedLeases, unfinished } from '../support/unfinished.ts';

const NETWORK = {
  ...DUAL_NETWORK,
  SubnetMax: '10.244.99.0',
  IPv6SubnetMax: 'fd00:244:0:99::',
  Backend: { Type: 'vxlan' },
};
const USERS = [
  'user add root:secret',
  'user add flannel:password',
  'role add flannel',
  `role grant-permission flannel readwrite --prefix=true ${PREFIX}/`,
  'user grant-role root root',
  'user grant-role flannel flannel',
  'auth enable',
];
const ROOT = '--user=root:secret';
const AGENT_FLAGS = ['--etcd-username=flannel', '--etcd-password=password', '--iptables-resync=600'];
/** A server that can't be reached any more is noticed after a renewal (10 s) and a deadline (5 s). */
const LIMIT_MS = 60_000;

interface Rig {
  readonly cluster: Cluster;
  readonly agents: readonly ChildProcess[];
  /** Routes that went away. */
  readonly removals: string[];
  /** How often each peer that is only a lease was changed. */
  readonly changes: Map<number, number>;
}

async function start(t: Test, certificates: TestCertificates): Promise<Rig> {
  // A token lives two seconds: all of it happens with tokens that expire.
  const etcd = { members: 3, tls: certificates, flags: ['--auth-token-ttl=2'] };
  const cluster = await startCluster({ nodes: 2, etcd });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  for (const words of USERS) await cluster.etcdctl(...words.split(' '));
  const agents = cluster.nodes.map((node) => cluster.startAgent(node, AGENT_FLAGS));
  const rig: Rig = { cluster, agents, removals: [], changes: new Map() };
  await put(rig, cluster.members[0] as EtcdMember, 200);
  for (const node of cluster.nodes) await until(`${node.name}: its peers`, () => hasPeers(node, 2));
  for (const node of cluster.nodes) watchRoutes(rig, node);
  return rig;
}

/** Leases from 200 up have no machine behind them; those from 210 up come and go. */
function watchRoutes({ removals }: Rig, node: Node): void {
  const monitor = node.start('ip', ['-o', 'monitor', 'route']);
  createInterface({ input: monitor.stdout as Readable }).on('line', (line) => {
    if (/^Deleted (10\.244\.|fd00:244:).* dev flannel/.test(line)) removals.push(`${node.name}: ${line}`);
  });
}

const hasLeft = (line: string): boolean => /Deleted (10\.244\.|fd00:244:0:)21\d/.test(line);

const keyOf = (peer: number): string => `${PREFIX}/subnets/10.244.${peer}.0-24&fd00:244:0:${peer}::-64`;

async function put({ changes }: Rig, through: EtcdMember, peer: number): Promise<void> {
  const change = (changes.get(peer) ?? 0) + 1;
  changes.set(peer, change);
  const [host, data] = [
    100 + 5 * (peer - 200) + change,
    { VNI: 1, VtepMAC: `02:00:00:00:${peer.toString(16)}:0${change}` },
  ];
  const value = {
    PublicIP: `192.168.50.${host}`,
    PublicIPv6: `fd00:50::${host}`,
    BackendType: 'vxlan',
    BackendData: data,
    BackendV6Data: data,
  };
  await write(through, 'put', keyOf(peer), JSON.stringify(value));
}

/** For as long as it takes the others to elect a leader. */
async function write(through: EtcdMember, ...words: readonly string[]): Promise<void> {
  const written = () =>
    through.etcdctl(ROOT, ...words).then(
      () => true,
      () => false,
    );
  await until(`etcdctl ${words[0]}`, written);
}

async function settle(t: Test, { cluster }: Rig, through: EtcdMember, what: string): Promise<void> {
  const began = Date.now();
  let problem: string | undefined = 'never asked';
  const settled = async () => {
    const leases = await storedLeases(through.etcdctl, ROOT);
    problem = (await Promise.all(cluster.nodes.map((node) => unfinished(node, leases)))).find(Boolean);
    return problem === undefined;
  };
  await until(what, settled, LIMIT_MS).catch(() => undefined);
  t.equal(problem, undefined, `${what}: all nodes do what the leases say, after ${Date.now() - began} ms`);
}

async function leaderOf({ cluster }: Rig): Promise<EtcdMember> {
  for (const member of cluster.members) {
    const [{ Status }] = JSON.parse(await member.etcdctl(ROOT, 'endpoint', 'status', '--write-out=json'));
    if (Status.leader === Status.header.member_id) return member;
  }
  throw new Error('no member leads');
}

/** The member that the first node is connected to. */
async function serverOf({ cluster }: Rig): Promise<EtcdMember> {
  const [node] = cluster.nodes as readonly [Node];
  const sockets = await node.must('ss', ['-Htn', 'state', 'established', 'dport', '=', ':2379']);
  return cluster.members.find((_, index) => sockets.includes(`${etcdAddress(index)}:`)) as EtcdMember;
}

const another = ({ cluster }: Rig, member: EtcdMember): EtcdMember =>
  cluster.members.find((each) => each !== member) as EtcdMember;

interface Disturbance {
  begin(cluster: Cluster, member: EtcdMember): Promise<unknown>;
  end(cluster: Cluster, member: EtcdMember): Promise<unknown>;
}

const nft = (member: EtcdMember, text: string) => member.machine.must('nft', ['-f', '-'], { input: text });
const port = ({ underlay }: Cluster, { machine }: EtcdMember, state: 'up' | 'down') =>
  underlay.must('ip', ['link', 'set', machine.name, state]);

const DISTURBANCES: Readonly<Record<string, Disturbance>> = {
  killed: { begin: (_, member) => member.kill(), end: async (_, member) => member.start() },
  'partitioned from the others': {
    begin: (_, member) =>
      nft(
        member,
        `table inet cut {
           chain in { type filter hook input priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
           chain out { type filter hook output priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
         }`,
      ),
    end: (_, member) => nft(member, 'delete table inet cut'),
  },
  'cut off from everybody': {
    begin: (cluster, member) => port(cluster, member, 'down'),
    end: (cluster, member) => port(cluster, member, 'up'),
  },
};

const healthy = ({ cluster }: Rig): Promise<unknown> =>
  Promise.all(cluster.members.map(({ isHealthy }) => until('a member of etcd', isHealthy)));

t.test('three etcd servers with TLS, client certificates and users', async (t) => {
  const addresses = [0, 1, 2].map(etcdAddress);
  const [certificates, fresh] = [makeCertificates(addresses), makeCertificates(addresses)];
  t.teardown(() => {
    certificates.remove();
    fresh.remove();
  });
  const rig = await start(t, certificates);
  const { cluster, agents, removals } = rig;
  await settle(t, rig, await leaderOf(rig), 'at the start');

  let peer = 210;
  for (const [what, { begin, end }] of Object.entries(DISTURBANCES)) {
    for (const [whose, find] of [
      ['the leader', leaderOf],
      ['the one in use', serverOf],
    ] as const) {
      const member = await find(rig);
      const other = another(rig, member);
      await begin(cluster, member);
      await put(rig, other, peer);
      await put(rig, other, 200);
      if (peer > 210) await write(other, 'del', keyOf(peer - 1));
      await settle(t, rig, other, `${whose} ${what}`);
      await end(cluster, member);
      await healthy(rig);
      await put(rig, member, peer);
      await settle(t, rig, member, `${whose} ${what}, and back`);
      peer++;
    }
  }

  const leader = await leaderOf(rig);
  const other = another(rig, leader);
  const [{ Status }] = JSON.parse(await leader.etcdctl(ROOT, 'endpoint', 'status', '--write-out=json'));
  await leader.etcdctl(ROOT, 'compact', String(Status.header.revision));
  await put(rig, other, 216);
  await settle(t, rig, other, 'history compacted');

  replace(certificates, fresh);
  await Promise.all(cluster.members.map((member) => member.kill()));
  await cluster.startEtcd();
  await put(rig, other, 216);
  await settle(t, rig, other, 'certificates of another authority, for all servers and agents');

  const [gone, lost] = [removals.filter(hasLeft), removals.filter((line) => !hasLeft(line))];
  t.ok(gone.length >= 2 * 2 * 5, 'the routes to five peers that left are heard to go, on two nodes, of two families');
  t.strictSame(lost, [], 'no route to a peer that is there went away');
  t.strictSame(
    agents.map(({ exitCode, signalCode }) => exitCode ?? signalCode),
    [null, null],
    'no agent has ended',
  );
});

/** On disk, in place of the former ones. */
function replace(former: TestCertificates, fresh: TestCertificates): void {
  copyFileSync(fresh.authority, former.authority);
  for (const name of ['server', 'client'] as const)
    for (const file of ['certificate', 'key'] as const) copyFileSync(fresh[name][file], former[name][file]);
}
