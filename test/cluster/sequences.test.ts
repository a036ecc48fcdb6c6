// Whatever happens, in whatever order: the end is the state that a fresh start gives, within 5 s, and every pod reaches every
// other. A sequence that fails is printed; FLANNEL_TEST_SEQUENCE='[…]' runs that one again, or what a person has left of it.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
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
import { endChild } from '../../examples/cluster/machine.ts';
import { patience } from '../../examples/cluster/patience.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import { count } from '../support/count.ts';
import { hostState, stateDifference } from '../support/host-state.ts';
import { random } from '../support/seed.ts';
import { storedLeases, unfinished } from '../support/unfinished.ts';
import { type Event, FIRST_LEASE, randomSequence } from '../support/sequence.ts';

/** Exactly as many subnets as nodes, so that one that comes back finds its own free. */
const NETWORK = {
  ...DUAL_NETWORK,
  SubnetMin: '10.244.1.0',
  SubnetMax: '10.244.3.0',
  IPv6SubnetMin: 'fd00:244:0:1::',
  IPv6SubnetMax: 'fd00:244:0:3::',
};
const LIMIT_MS = 5000;
const EVENTS = 8;
const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
/** Of a node's log, when a sequence fails or takes longer than it may on an idle machine: characters. */
const LOG_SHOWN = 8000;
/** Of 200 in all. */
const SEQUENCES = { vxlan: 100, 'host-gw': 60, udp: 40 };

interface World {
  readonly type: string;
  readonly cluster: Cluster;
  readonly agents: Map<Node, ChildProcess>;
  readonly pods: Map<Node, Pod>;
  /** Host number of each peer's public address: those of leases, and of node 3. */
  readonly hosts: Map<number, number>;
  /** Resolves when etcd answers. */
  etcd: Promise<void>;
}

const nodeOf = ({ cluster }: World, number: number): Node => cluster.nodes[number - 1] as Node;
const start = ({ cluster, agents }: World, node: Node): void => void agents.set(node, cluster.startAgent(node));

async function world(t: Test, type: string): Promise<World> {
  const cluster = await startCluster({ nodes: 3 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ ...NETWORK, Backend: { Type: type } });
  const made: World = {
    type,
    cluster,
    agents: new Map(),
    pods: new Map(),
    hosts: new Map([[3, 3]]),
    etcd: Promise.resolve(),
  };
  for (const node of cluster.nodes) start(made, node);
  for (const node of cluster.nodes) await until(`${node.name}: its peers`, () => hasPeers(node, 2));
  for (const node of cluster.nodes) made.pods.set(node, await startPod(node, { name: `${node.name}-a` }));
  return made;
}

// What happens.

async function happen(world: World, event: Event): Promise<void> {
  await sleep(event.after);
  const { cluster } = world;
  switch (event.what) {
    case 'peer joins':
      return event.peer < FIRST_LEASE ? joinNode(world, nodeOf(world, event.peer)) : putLease(world, event.peer);
    case 'peer leaves':
      return event.peer < FIRST_LEASE ? removeNode(world, nodeOf(world, event.peer)) : deleteLease(world, event.peer);
    case 'peer changes':
      return event.peer < FIRST_LEASE ? moveNode(world, event.peer) : putLease(world, event.peer);
    case 'device deleted':
    case 'route deleted':
    case 'neighbour deleted':
    case 'rule deleted':
      await nodeOf(world, event.node).must('sh', ['-c', LOSSES[event.what](event.which)]);
      return;
    case 'agent killed':
      return killAgent(world, nodeOf(world, event.node));
    case 'etcd restarted':
      await world.etcd;
      world.etcd = restartEtcd(cluster, event.downMs);
      return;
    case 'etcd compacted':
      await world.etcd;
      return compact(cluster);
    case 'underlay flapped':
      return flap(world, nodeOf(world, event.node), event.downMs, event.carrier);
  }
}

/** The line of `list` that a number picks, counted round, for the command in which it stands as $LINE. */
const pick = (list: string, which: number, command: string): string =>
  `N=$(${list} | wc -l); if [ $N -gt 0 ]; then LINE=$(${list} | sed -n "$((${which} % $N + 1))p"); ${command}; fi 2>/dev/null || true`;

const RULE_LOSSES = ['flush chain inet flannel masquerade-10.244.0.0-16', 'delete table inet flannel', 'flush ruleset'];

const LOSSES = {
  'device deleted': (which: number) =>
    pick("ip -o link show | grep -oE '^[0-9]+: flannel[^:@]*' | cut -d' ' -f2", which, 'ip link delete $LINE'),
  'route deleted': (which: number) =>
    pick(
      "{ ip route show proto 251 | sed 's/^/-4 /'; ip -6 route show proto 251 | sed 's/^/-6 /'; }",
      which,
      'set -- $LINE; ip $1 route delete $2',
    ),
  'neighbour deleted': (which: number) =>
    pick(
      "{ ip neigh show nud permanent; ip -6 neigh show nud permanent; bridge fdb show | grep 'dev flannel' | sed 's/^/fdb /'; }",
      which,
      'case "$LINE" in fdb*) set -- $LINE; bridge fdb del $2 dev $4;; *) ip neigh del $(echo $LINE | cut -d" " -f1-3);; esac',
    ),
  'rule deleted': (which: number) => `nft ${RULE_LOSSES[which % RULE_LOSSES.length]} 2>/dev/null || true`,
};

async function joinNode(world: World, node: Node): Promise<void> {
  if (!world.agents.has(node)) start(world, node);
}

/** A node is taken out of the cluster: agent, what it made, lease. Its pods stay. */
async function removeNode(world: World, node: Node): Promise<void> {
  const agent = world.agents.get(node);
  if (agent === undefined) return;
  world.agents.delete(node);
  await endChild(agent);
  await node.must(FLANNELD, ['cleanup']);
  await world.etcd;
  await world.cluster.etcdctl('del', '--prefix', `${PREFIX}/subnets/10.244.${await subnetOf(world, node)}.0-24`);
}

/** The third number of the node's subnet, which its pod's address has too. */
const subnetOf = async ({ pods }: World, node: Node): Promise<string> =>
  pods.get(node)?.ips[0]?.split('.')[2] as string;

async function moveNode(world: World, number: number): Promise<void> {
  const node = nodeOf(world, number);
  const host = (world.hosts.get(number) as number) > 100 ? number : number + 100;
  world.hosts.set(number, host);
  await node.must('sh', [
    '-ec',
    `ip addr flush dev eth0 scope global; ip addr add 192.168.50.${host}/24 dev eth0; ip addr add fd00:50::${host}/64 dev eth0 nodad; ${DEFAULTS}`,
  ]);
}

const DEFAULTS = 'ip route replace default via 192.168.50.254; ip -6 route replace default via fd00:50::254';

const keyOf = (peer: number): string => `${PREFIX}/subnets/10.244.${peer}.0-24&fd00:244:0:${peer}::-64`;

/** A lease that says something else each time. */
async function putLease(world: World, peer: number): Promise<void> {
  const host = 150 + (((world.hosts.get(peer) ?? 0) + 1) % 10) + 10 * (peer - FIRST_LEASE);
  world.hosts.set(peer, host - 150);
  const data = { VNI: 1, VtepMAC: `02:00:00:00:00:${host.toString(16)}` };
  const value = {
    PublicIP: `192.168.50.${host}`,
    PublicIPv6: `fd00:50::${host}`,
    ...(world.type === 'udp' ? {} : { BackendType: world.type }),
    ...(world.type === 'vxlan' ? { BackendData: data, BackendV6Data: data } : {}),
  };
  await world.etcd;
  await world.cluster.etcdctl('put', keyOf(peer), JSON.stringify(value));
}

async function deleteLease({ cluster, etcd }: World, peer: number): Promise<void> {
  await etcd;
  await cluster.etcdctl('del', keyOf(peer));
}

/** As an init system starts it again. */
async function killAgent(world: World, node: Node): Promise<void> {
  const agent = world.agents.get(node);
  if (agent === undefined) return;
  const gone = once(agent, 'exit');
  agent.kill('SIGKILL');
  await gone;
  start(world, node);
}

async function restartEtcd(cluster: Cluster, downMs: number): Promise<void> {
  await cluster.members[0]?.kill();
  await sleep(downMs);
  await cluster.startEtcd();
}

async function compact(cluster: Cluster): Promise<void> {
  const [status] = JSON.parse(await cluster.etcdctl('endpoint', 'status', '--write-out=json'));
  // Twice at one revision is an error.
  await cluster.etcdctl('compact', String(status.Status.header.revision)).catch(() => undefined);
}

async function flap(world: World, node: Node, downMs: number, carrier: boolean): Promise<void> {
  const { cluster } = world;
  if (carrier) {
    await cluster.underlay.must('ip', ['link', 'set', node.name, 'down']);
    await sleep(downMs);
    await cluster.underlay.must('ip', ['link', 'set', node.name, 'up']);
    return;
  }
  await node.must('ip', ['link', 'set', 'eth0', 'down']);
  await sleep(downMs);
  const host = hostOf(world, node);
  await node.must('sh', [
    '-ec',
    `ip link set eth0 up; ip -6 addr replace fd00:50::${host}/64 dev eth0 nodad; ${DEFAULTS}`,
  ]);
}

// What must come of it.

const hostOf = ({ hosts }: World, { number }: Node): number => hosts.get(number) ?? number;

async function unreached({ agents, pods }: World): Promise<string | undefined> {
  const there = [...agents.keys()].map((node) => pods.get(node) as Pod);
  const probes = there.flatMap((from) =>
    there
      .filter((to) => to !== from)
      .flatMap((to) =>
        to.ips.map(async (ip) => {
          const { ok, detail } = await from.probe({ kind: 'ping', to: ip });
          return ok ? undefined : `${from.name} does not reach ${ip}: ${detail}`;
        }),
      ),
  );
  return (await Promise.all(probes)).find((problem) => problem !== undefined);
}

interface Convergence {
  readonly took: number;
  /** What was amiss last, and when. */
  readonly last: string;
}

/** Waits until every agent has done all that etcd says and all pods reach each other. @throws Error */
async function converge(world: World): Promise<Convergence> {
  const began = Date.now();
  let last = '';
  for (;;) {
    const leases = await storedLeases(world.cluster.etcdctl);
    const problems = await Promise.all(
      [...world.agents.keys()].map((node) => {
        const host = hostOf(world, node);
        return unfinished(node, leases, `192.168.50.${host},fd00:50::${host}`);
      }),
    );
    const problem = problems.find((each) => each !== undefined) ?? (await unreached(world));
    const took = Date.now() - began;
    if (problem === undefined) return { took, last };
    last = `${took} ms: ${problem}`;
    if (took > 6 * LIMIT_MS * patience()) throw new Error(`not within ${took} ms: ${problem}`);
    await sleep(20);
  }
}

/** Everything that tells one state of the cluster from another. */
async function stateOf(world: World): Promise<string[]> {
  const nodes = [...world.agents.keys()];
  const states = await Promise.all(nodes.map(hostState));
  const stored = (await storedLeases(world.cluster.etcdctl)).map((lease) => `lease ${JSON.stringify(lease)}`);
  return [...stored, ...nodes.flatMap((node, index) => (states[index] ?? []).map((line) => `${node.name} ${line}`))];
}

const WIPE = `
  for device in $(ip -o link show | grep -oE 'flannel[^:@]*' | sort -u); do ip link delete $device; done
  ip route flush proto 251; ip -6 route flush proto 251
  nft flush ruleset; rm -f /run/flannel/subnet.env`;

/** All agents start anew on hosts without a trace of them. */
async function startFresh(world: World): Promise<void> {
  const nodes = [...world.agents.keys()];
  await Promise.all(
    nodes.map(async (node) => {
      await endChild(world.agents.get(node) as ChildProcess);
      await node.must('sh', ['-c', WIPE]);
    }),
  );
  for (const node of nodes) start(world, node);
}

async function play(t: Test, world: World, sequence: readonly Event[]): Promise<number> {
  for (const event of sequence) await happen(world, event);
  await world.etcd;
  const { took, last } = await converge(world);
  const state = await stateOf(world);
  t.ok(took <= LIMIT_MS * patience(), `converged in ${took} ms, after ${last}`);
  await startFresh(world);
  await converge(world);
  t.strictSame(stateDifference(state, await stateOf(world)), [], 'as after a fresh start');
  return took;
}

const given = process.env.FLANNEL_TEST_SEQUENCE;

for (const [type, full] of Object.entries(SEQUENCES)) {
  t.test(`random sequences, ${type}`, async (t) => {
    const next = random(`sequences ${type}`);
    const made = await world(t, type);
    const took: number[] = [];
    for (let number = 1; number <= count(full); number++) {
      const sequence: Event[] = given === undefined ? randomSequence(EVENTS, next) : JSON.parse(given);
      await t.test(`sequence ${number}`, async (t) => {
        const logged = made.cluster.nodes.map((node) => made.cluster.agentLog(node).length);
        const problem = await play(t, made, sequence).then(
          (ms) => void took.push(ms),
          (error: unknown) => error,
        );
        const failed = problem !== undefined || !t.passing();
        if (!failed && (took.at(-1) as number) <= LIMIT_MS) return;
        t.comment(`FLANNEL_TEST_SEQUENCE='${JSON.stringify(sequence)}'`);
        for (const [at, node] of made.cluster.nodes.entries()) {
          t.comment(node.name, made.cluster.agentLog(node).slice(logged[at]).slice(0, LOG_SHOWN));
        }
        if (failed) throw problem;
      });
      if (!t.passing()) break;
    }
    t.comment(`longest convergence ${Math.max(...took)} ms of ${took.length}`);
  });
}
