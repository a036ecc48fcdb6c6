// npm run bench -- policy: what NetworkPolicy costs each packet, beside conntrack alone and linear rules for the same
// policies, and how long it takes until a change is in force.

import { execFileSync } from 'node:child_process';
import { build } from './build.ts';
import type { Spread } from './policy-rules.ts';
import { figures, ms, table } from './stats.ts';

export interface PolicyBenchOptions {
  readonly root: string;
  /** Numbers of policies. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Of 1024 packets, in each round. */
  readonly batches: number;
}

export interface RunOptions extends Omit<PolicyBenchOptions, 'root'> {
  /** Path of the sender. */
  readonly flood: string;
}

/** Nanoseconds a packet: of a flow that nobody has answered, and of an established one. */
interface Costs {
  readonly fresh: number;
  readonly established: number;
}

/** Milliseconds: as a clock on the wall has them, and of processor time of the agent. */
interface Times {
  readonly ms: number;
  readonly cpuMs: number;
}

export interface PolicyResults {
  readonly packets: readonly {
    readonly spread: Spread;
    readonly policies: number;
    readonly conntrack: Costs;
    readonly ours: Costs;
    readonly linear: Costs;
  }[];
  readonly changes: readonly {
    readonly policies: number;
    readonly cold: readonly Times[];
    readonly edit: readonly Times[];
    readonly add: readonly Times[];
    /** From a manifest's renaming. */
    readonly event: readonly Times[];
  }[];
}

/** @throws Error when the measurement fails */
export function benchPolicy({ root, ...options }: PolicyBenchOptions): PolicyResults {
  const run: RunOptions = { ...options, flood: build(root, 'policy-flood') };
  const words = ['--net', process.execPath, `${root}/bench/policy-run.ts`, JSON.stringify(run)];
  const output = execFileSync('unshare', words, {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(output) as PolicyResults;
}

const CONTENDERS = ['conntrack', 'ours', 'linear'] as const;

/** As tables: nanoseconds with the ratio to conntrack alone, and medians of milliseconds. */
export function printPolicy({ packets, changes }: PolicyResults): string {
  const cell = (row: PolicyResults['packets'][number], who: (typeof CONTENDERS)[number], what: keyof Costs) =>
    `${row[who][what]} (${(row[who][what] / row.conntrack[what]).toFixed(2)})`;
  const costs = packets.map((row) => [
    `${row.policies} policies, ${row.spread}`,
    ...(['fresh', 'established'] as const).flatMap((what) => CONTENDERS.map((who) => cell(row, who, what))),
  ]);
  const head = ['new', 'established'].flatMap((what) => CONTENDERS.map((who) => `${what}, ${who}`));
  const times = changes.map(({ policies, ...kinds }) => [
    `${policies} policies`,
    ...(['cold', 'edit', 'add', 'event'] as const).flatMap((kind) =>
      (['ms', 'cpuMs'] as const).map((what) => ms(figures(kinds[kind].map((each) => each[what])).median)),
    ),
  ]);
  const kinds = ['cold load', 'a policy edited', 'a pod added', 'a manifest replaced'];
  return [
    `ns per packet (ratio to conntrack alone)\n${table(['', ...head], costs)}`,
    `until in force (ms, and processor ms of the agent)\n${table(['', ...kinds.flatMap((kind) => [kind, 'cpu'])], times)}`,
  ].join('');
}
