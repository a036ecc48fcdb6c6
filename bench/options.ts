// The command line of the measurements. All of it is checked before anything begins: they take minutes.

import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { type Backend, BACKENDS } from './throughput-paths.ts';

/** What every measurement that stands beside peers is given. */
export interface PeerOptions {
  /** Path of the tree. */
  readonly root: string;
  /** Paths of other contenders. */
  readonly peers: readonly string[];
  readonly progress: (text: string) => void;
}

export const HELP = `usage: npm run bench -- NAME [OPTIONS]

  cni            ADD and DEL of the CNI plugin, beside the reference plugins in /usr/lib/cni and a floor program in C
  agent          the agent's start among many peers and how it follows a lease, beside a floor of ip -batch
  policy         what network policies cost a packet, beside conntrack alone and linear rules; load and changes
  kubernetes     the agent in a big cluster with a real API server: start, memory, traffic, nodes that are replaced
  throughput     iperf3 from pod to pod over vxlan, host-gw and udp, beside the same path set up by hand with ip

  --peer PATH    another contender; may be repeated. cni: a directory with reference plugins; agent,
                 kubernetes, throughput (udp): an agent with flannel's command line
  --pods N       cni: pods of a sequential series (200)
  --sizes N,…    agent: numbers of peers (2,100,1000,5000); policy: of policies (0,100,1000,5000);
                 kubernetes: of nodes, with ten pods on each (5000)
  --batches N    policy: of 1024 packets in a round (240)
  --rounds N     agent: starts of each contender with each number of peers; throughput: transfers of each kind;
                 policy: of everything (5); kubernetes: starts (3)
  --replaced N   kubernetes: nodes that are replaced (500)
  --probes N     agent: leases put and deleted after each start (10)
  --backend NAME throughput: only this one; may be repeated (vxlan, host-gw, udp)
  --seconds N    throughput: of each transfer (5)
  --json FILE    write the figures there too
  --help         this text

Needs root and an otherwise idle machine. Compare figures of one run only.
`;

/** The options of each, besides --json. */
const TAKEN = {
  cni: ['peer', 'pods'],
  agent: ['peer', 'sizes', 'rounds', 'probes'],
  policy: ['sizes', 'rounds', 'batches'],
  kubernetes: ['peer', 'sizes', 'rounds', 'replaced'],
  throughput: ['peer', 'rounds', 'backend', 'seconds'],
} as const satisfies Record<string, readonly string[]>;

export type Measurement = keyof typeof TAKEN;
type Counted = 'pods' | 'rounds' | 'probes' | 'batches' | 'replaced' | 'seconds';

export interface BenchOptions {
  readonly name: Measurement;
  /** Absolute paths. */
  readonly peers: readonly string[];
  readonly backends: readonly Backend[];
  /** Path of the file for the figures. */
  readonly json: string | undefined;
  /** A whole number within bounds, or `initial`. @throws Error naming the option */
  count(option: Counted, initial: number, least: number, most: number): number;
  /** Numbers from `least` to 7000, or `initial`. @throws Error naming the option */
  sizes(initial: readonly number[], least: number): readonly number[];
}

/** Undefined: help is asked for. @throws Error, one line */
export function readOptions(argv: readonly string[]): BenchOptions | undefined {
  if (argv.length === 0 || argv.includes('--help') || argv.includes('-h')) return undefined;
  const name = (Object.keys(TAKEN) as Measurement[]).find((each) => each === argv[0]);
  if (name === undefined) throw new Error(`${argv[0]}: no such measurement; see --help`);
  const given = textsOf(name, argv.slice(1));
  const last = (option: string): string | undefined => given.get(option)?.at(-1);
  return {
    name,
    peers: (given.get('peer') ?? []).map((path) => peerAt(name, resolve(path))),
    backends: backendsOf(given.get('backend') ?? BACKENDS),
    json: writable(last('json')),
    count: (option, initial, least, most) => whole(option, last(option) ?? String(initial), least, most),
    sizes: (initial, least) =>
      last('sizes')
        ?.split(',')
        .map((size) => whole('sizes', size, least, 7000)) ?? initial,
  };
}

/** The texts of every option that was given, which may have been repeated. */
function textsOf(name: Measurement, args: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const options: ParseArgsOptionsConfig = Object.fromEntries(
    [...TAKEN[name], 'json'].map((option) => [option, { type: 'string', multiple: true }]),
  );
  try {
    const { values } = parseArgs({ args: [...args], options });
    return new Map(Object.entries(values as Record<string, string[]>));
  } catch (error) {
    // Node goes on with advice that is about something else.
    const [problem] = (error as Error).message.split('. ');
    throw new Error(`${name}: ${problem}; see --help`);
  }
}

function whole(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`--${option} ${text}: expected a whole number from ${least} to ${most}`);
}

function peerAt(name: Measurement, path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (name === 'cni') {
    if (found?.isDirectory()) return path;
    throw new Error(`--peer ${path}: expected a directory with reference plugins`);
  }
  if (found?.isFile() && (found.mode & 0o111) !== 0) return path;
  throw new Error(`--peer ${path}: expected an executable, an agent with flannel's command line`);
}

function backendsOf(names: readonly string[]): readonly Backend[] {
  const unknown = names.find((name) => !(BACKENDS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`--backend ${unknown}: expected one of ${BACKENDS.join(', ')}`);
  return BACKENDS.filter((backend) => names.includes(backend));
}

function writable(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    accessSync(dirname(resolve(path)), constants.W_OK);
  } catch (error) {
    throw new Error(`--json ${path}: its directory can't be written to: ${(error as NodeJS.ErrnoException).code}`);
  }
  return path;
}
