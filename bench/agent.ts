// npm run bench -- agent: an agent's start among many peers, and how fast it follows a lease. Each contender has a
// machine and a prefix in one etcd of its own; each round starts every one of them afresh, one after the other.

import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type Cluster, ETCD, type Node, startCluster } from '../examples/cluster/cluster.ts';
import { CONFIG, entryOf, peerLease } from './agent-leases.ts';
import { milliseconds, startTimed, type Timed } from './agent-timer.ts';
import { build, install } from './build.ts';
import type { WriterReply, WriterRequest } from './lease-writer.ts';
import type { PeerOptions } from './options.ts';
import { cpuOf, memoryOf } from './process.ts';
import { type FiguresOf, takeTurns } from './rounds.ts';
import { shown, table } from './stats.ts';
import { startWriter, type Writer } from './writer.ts';

type LeaseWriter = Writer<WriterRequest, WriterReply>;

export interface AgentOptions extends PeerOptions {
  /** Numbers of peers. */
  readonly sizes: readonly number[];
  /** Starts of each contender with each number of peers. */
  readonly rounds: number;
  /** Leases that are put and deleted after each start. */
  readonly probes: number;
}

interface Contender {
  readonly name: string;
  readonly node: Node;
  /** In etcd, for each number of peers; undefined for the floor, which reads files. */
  readonly prefix: ((size: number) => string) | undefined;
  readonly command: (size: number) => readonly string[];
}

/** What one start showed. Times in milliseconds, memory in MB. */
interface Round {
  /** Start → the subnet file is there. */
  readonly subnetFile: number;
  /** Start → a route to each peer, and all that belongs to it, is there. */
  readonly programmed: number;
  /** Processor time until a second after that. */
  readonly cpu: number;
  readonly memory: number;
  readonly peakMemory: number;
  /** REST_MS later, of the last start alone. */
  readonly memoryAtRest: readonly number[];
  readonly putToRoute: readonly number[];
  readonly deleteToGone: readonly number[];
}

export type AgentFigures = FiguresOf<Round> & { readonly contender: string; readonly size: number };

const FLOOR = 'floor (ip -batch)';
const SETTLE_MS = 1000;
/** Until an agent to which nothing happens has done what it does after a start. */
const REST_MS = 10_000;

const rest = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function contenders(cluster: Cluster, { root, peers }: AgentOptions): Contender[] {
  const agents = [
    ['ours', install(root)],
    ...peers.map((path, index) => [peers.length === 1 ? basename(path) : `${basename(path)} ${index + 1}`, path]),
  ];
  const agent = ([name, program]: string[], index: number): Contender => {
    const prefix = (size: number) => `/bench/${index}/${size}`;
    return {
      name: name as string,
      node: cluster.nodes[index] as Node,
      prefix,
      command: (size) => [program as string, `--etcd-endpoints=${ETCD}`, `--etcd-prefix=${prefix(size)}`],
    };
  };
  const floor: Contender = {
    name: FLOOR,
    node: cluster.nodes[agents.length] as Node,
    prefix: undefined,
    command: (size) => ['/bin/sh', '-ec', floorScript(`${cluster.logs}/${size}`)],
  };
  return [floor, ...agents.map(agent)];
}

/** What a person would do who knew the peers: the least that this machine takes for it, without any reading. */
const floorScript = (files: string): string =>
  [
    'ip link add flannel.1 type vxlan id 1 dev eth0 dstport 8472 nolearning',
    'ip address add 10.0.0.0/32 dev flannel.1',
    'ip link set flannel.1 up',
    `bridge -batch ${files}.bridge`,
    `ip -batch ${files}.ip`,
    'exec sleep infinity',
  ].join('; ');

function writeFloorFiles(files: string, size: number): void {
  const peers = Array.from({ length: size }, (_, number) => peerLease(number));
  const lines = (of: (peer: (typeof peers)[number]) => string) => peers.map((peer) => `${of(peer)}\n`).join('');
  writeFileSync(
    `${files}.bridge`,
    lines(({ mac, publicIp }) => `fdb add ${mac} dev flannel.1 dst ${publicIp} self permanent`),
  );
  const neighbours = lines(({ subnet, mac }) => `neighbour add ${subnet} lladdr ${mac} nud permanent dev flannel.1`);
  const routes = lines(({ subnet }) => `route add ${subnet}/24 via ${subnet} dev flannel.1 onlink`);
  writeFileSync(`${files}.ip`, neighbours + routes);
}

/** Configuration and leases of every contender. */
async function load(cluster: Cluster, writer: LeaseWriter, each: readonly Contender[], size: number): Promise<void> {
  writeFloorFiles(`${cluster.logs}/${size}`, size);
  for (const { prefix } of each) {
    if (prefix === undefined) continue;
    await cluster.etcdctl('put', `${prefix(size)}/config`, JSON.stringify(CONFIG));
    const entries = Array.from({ length: size }, (_, number) => entryOf(prefix(size), peerLease(number)));
    await writer.ask({ verb: 'put', entries });
  }
}

/** As a machine that never ran an agent. */
async function clear({ node, prefix }: Contender, cluster: Cluster, size: number): Promise<void> {
  await node.run('ip', ['link', 'delete', 'flannel.1']);
  if (prefix === undefined) return;
  const own = /^FLANNEL_SUBNET=(.*)\.1\/24$/m.exec((await node.run('cat', ['/run/flannel/subnet.env'])).stdout)?.[1];
  if (own !== undefined) await cluster.etcdctl('del', `${prefix(size)}/subnets/${own}.0-24`);
  await node.must('sh', ['-ec', 'nft flush ruleset; rm -rf /run/flannel /var/lib/flannel']);
}

/** Milliseconds from asking etcd until the kernel told of it, for leases of peers that are not there yet. */
async function probe(writer: LeaseWriter, timed: Timed, prefix: string, size: number, count: number) {
  const putToRoute: number[] = [];
  const deleteToGone: number[] = [];
  for (let number = size; number < size + count; number++) {
    const peer = peerLease(number);
    const entry = entryOf(prefix, peer);
    const put = await writer.ask({ verb: 'put', entries: [entry] });
    putToRoute.push((await timed.when(`add ${peer.subnet}`)) - milliseconds(put.asked));
    const deleted = await writer.ask({ verb: 'delete', key: entry[0] });
    deleteToGone.push((await timed.when(`delete ${peer.subnet}`)) - milliseconds(deleted.asked));
    await rest(100);
  }
  return { putToRoute, deleteToGone };
}

/** Forwarding entries, neighbours and routes must all be there. @throws Error telling what isn't */
async function checkComplete({ name, node }: Contender, size: number): Promise<void> {
  const commands = ['bridge fdb show dev flannel.1', 'ip neighbour show dev flannel.1', 'ip route show dev flannel.1'];
  for (const command of commands) {
    const lines = (await node.must('sh', ['-ec', command]))
      .split('\n')
      .filter((line) => /172\.16|lladdr|via/.test(line));
    if (lines.length !== size) throw new Error(`${name}: ${command}: ${lines.length} of ${size} peers`);
  }
}

async function round(
  options: AgentOptions,
  timer: string,
  cluster: Cluster,
  writer: LeaseWriter,
  contender: Contender,
  size: number,
  isLast: boolean,
): Promise<Round> {
  const { node, prefix, command } = contender;
  const timed = await startTimed(node, { timer, network: '10.0.0.0', peers: size, command: command(size) });
  try {
    const start = await timed.when('start');
    const programmed = (await timed.when('programmed')) - start;
    const subnetFile = prefix === undefined ? Number.NaN : (await timed.when('file')) - start;
    await rest(SETTLE_MS);
    const cpu = cpuOf(timed.pid);
    await checkComplete(contender, size);
    const probed =
      prefix === undefined
        ? { putToRoute: [], deleteToGone: [] }
        : await probe(writer, timed, prefix(size), size, options.probes);
    await rest(SETTLE_MS);
    const { now, peak } = memoryOf(timed.pid);
    const memoryAtRest: number[] = [];
    if (isLast && prefix !== undefined) {
      await rest(REST_MS);
      memoryAtRest.push(memoryOf(timed.pid).now);
    }
    return { subnetFile, programmed, cpu, memory: now, peakMemory: peak, memoryAtRest, ...probed };
  } finally {
    await timed.stop();
    await clear(contender, cluster, size);
  }
}

/** Every contender with every number of peers, the contenders taking turns. @throws Error when one doesn't get there */
export async function benchAgent(options: AgentOptions): Promise<AgentFigures[]> {
  const timer = build(options.root, 'agent-timer');
  const cluster = await startCluster({ nodes: options.peers.length + 2 });
  const results: AgentFigures[] = [];
  try {
    const writer = startWriter<WriterRequest, WriterReply>(cluster.etcd, 'lease-writer', [ETCD]);
    const all = contenders(cluster, options);
    for (const size of options.sizes) {
      options.progress(`${size} peers: leases`);
      await load(cluster, writer, all, size);
      const figures = await takeTurns(all, options.rounds, (contender, number) => {
        options.progress(`${size} peers: ${contender.name}, ${number} of ${options.rounds}`);
        return round(options, timer, cluster, writer, contender, size, number === options.rounds);
      });
      results.push(...figures.map((each) => ({ size, ...each })));
    }
    await writer.close();
  } finally {
    await cluster.down();
  }
  return results;
}

/** The results as tables, and how the time grows with the number of peers. */
export function printAgent(results: readonly AgentFigures[]): string {
  const sizes = [...new Set(results.map(({ size }) => size))];
  const names = [...new Set(results.map(({ contender }) => contender))];
  const parts = sizes.map((size) => sizeTable(size, results));
  const growth = names.map((name) => [
    name,
    ...sizes.map((size) => {
      const row = results.find((each) => each.contender === name && each.size === size);
      return shown((row?.programmed.median ?? Number.NaN) / size, 3);
    }),
  ]);
  parts.push(`Start → all programmed, ms a peer\n${table(['', ...sizes.map(String)], growth)}`);
  return parts.join('');
}

function sizeTable(size: number, results: readonly AgentFigures[]): string {
  const rows = results.filter((row) => row.size === size);
  const ours = rows.find(({ contender }) => contender === 'ours');
  const cells = rows.map((row) => [
    row.contender,
    shown(row.subnetFile.median, 0),
    shown(row.programmed.median, 0),
    shown((ours?.programmed.median ?? Number.NaN) / row.programmed.median, 2),
    shown(row.putToRoute.median, 2),
    shown(row.deleteToGone.median, 2),
    shown(row.cpu.median, 0),
    shown(row.memory.median, 1),
    shown(row.peakMemory.median, 1),
    shown(row.memoryAtRest.median, 1),
  ]);
  const head = ['', 'subnet.env', 'programmed', 'ours/this', 'put → route', 'delete → gone', 'CPU'];
  const memory = ['MB', 'MB at most', 'MB at rest'];
  return `${size} peers, from the start (ms)\n${table([...head, ...memory], cells)}`;
}
