// npm run bench -- throughput: iperf3 from pod to pod. All paths stand side by side, and every round goes over each of
// them once, so that whatever else the machine does hits all alike.

import { basename } from 'node:path';
import { type Cluster, type Node, startCluster, until } from '../examples/cluster/cluster.ts';
import { install } from './build.ts';
import type { PeerOptions } from './options.ts';
import { figures, type Figures, table } from './stats.ts';
import { type Backend, byAgent, byHand, inPod, type Pair, podAddress } from './throughput-paths.ts';

/** The peers are for the udp backend, where packets don't stay in the kernel. */
export interface ThroughputOptions extends PeerOptions {
  readonly backends: readonly Backend[];
  readonly rounds: number;
  /** Of each transfer. */
  readonly seconds: number;
}

const TRAFFIC = [
  { name: 'tcp', title: 'TCP, one connection (Gbit/s)', flags: [] },
  { name: 'small', title: 'UDP, 64 bytes (1000 packets/s received)', flags: ['-u', '-b', '0', '-l', '64'] },
] as const;
type Traffic = (typeof TRAFFIC)[number];

export interface ThroughputFigures {
  readonly backend: Backend;
  readonly contender: string;
  readonly traffic: Traffic['name'];
  readonly rate: Figures;
}

interface Path {
  readonly backend: Backend;
  readonly contender: string;
  readonly pair: Pair;
  readonly target: string;
}

const BY_HAND = 'by hand';

function plan({ root, peers, backends }: ThroughputOptions) {
  const ours = { contender: 'ours', make: byAgent(install(root)) };
  const hand = { contender: BY_HAND, make: byHand };
  const others = peers.map((peer) => ({ contender: basename(peer), make: byAgent(peer) }));
  return backends.flatMap((backend) =>
    (backend === 'udp' ? [ours, ...others] : [hand, ours]).map((each) => ({ backend, ...each })),
  );
}

async function openPath(cluster: Cluster, pair: Pair, planned: ReturnType<typeof plan>[number]): Promise<Path> {
  const { backend, contender, make } = planned;
  await make(cluster, pair, backend);
  const [from, to] = pair;
  const target = await podAddress(to);
  const server = to.start('ip', inPod('iperf3', '-s'));
  server.stdout?.resume();
  server.stderr?.resume();
  const reachable = async (command: string[]) => (await from.run('ip', inPod(...command))).code === 0;
  await until(`${contender}, ${backend}: pods reach each other`, () => reachable(['ping', '-c1', '-W1', target]));
  await until(`${contender}, ${backend}: iperf3 answers`, () => reachable(['iperf3', '-c', target, '-n', '1K']));
  return { backend, contender, pair, target };
}

interface Report {
  readonly end: {
    readonly sum_received: { readonly bits_per_second: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number };
  };
}

/** Gbit/s, or thousands of packets a second. */
async function transfer({ pair: [from], target }: Path, { name, flags }: Traffic, seconds: number): Promise<number> {
  const command = inPod('iperf3', '-J', '-c', target, '-t', String(seconds), ...flags);
  const { end } = JSON.parse(await from.must('ip', command, { timeoutMs: 1000 * seconds + 30_000 })) as Report;
  if (name === 'tcp') return end.sum_received.bits_per_second / 1e9;
  return (end.sum.packets - end.sum.lost_packets) / end.sum.seconds / 1000;
}

/** Every kind of traffic over every path. @throws Error when pods don't reach each other */
export async function benchThroughput(options: ThroughputOptions): Promise<ThroughputFigures[]> {
  const { rounds, seconds, progress } = options;
  const planned = plan(options);
  const cluster = await startCluster({ nodes: 2 * planned.length });
  try {
    const paths: Path[] = [];
    for (const [index, each] of planned.entries()) {
      progress(`${each.backend}, ${each.contender}: nodes and pods`);
      const pair: Pair = [cluster.nodes[2 * index] as Node, cluster.nodes[2 * index + 1] as Node];
      paths.push(await openPath(cluster, pair, each));
    }
    const series = TRAFFIC.flatMap((traffic) => paths.map((path) => ({ traffic, path, rates: [] as number[] })));
    for (let round = 1; round <= rounds; round++) {
      progress(`round ${round} of ${rounds}`);
      for (const { traffic, path, rates } of series) rates.push(await transfer(path, traffic, seconds));
    }
    return series.map(({ traffic, path: { backend, contender }, rates }) => ({
      backend,
      contender,
      traffic: traffic.name,
      rate: figures(rates),
    }));
  } finally {
    await cluster.down();
  }
}

/** The results as a table for each kind of traffic, with the ratio of ours to each other. */
export function printThroughput(results: readonly ThroughputFigures[]): string {
  return TRAFFIC.map(({ name, title }) => {
    const rows = results.filter(({ traffic }) => traffic === name);
    const cells = rows.map(({ backend, contender, rate }) => {
      const ours = rows.find((row) => row.backend === backend && row.contender === 'ours');
      return [
        `${backend}, ${contender}`,
        rate.median.toFixed(3),
        ((ours?.rate.median ?? Number.NaN) / rate.median).toFixed(2),
      ];
    });
    return `${title}\n${table(['', 'median', 'ours/this'], cells)}`;
  }).join('');
}
