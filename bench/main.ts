// npm run bench -- NAME: measurements, each ours beside a peer in one run.

import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchAgent, printAgent } from './agent.ts';
import { benchCni, printCni } from './cni.ts';
import { benchKubernetes, printKubernetes } from './kubernetes.ts';
import { benchPolicy, printPolicy } from './policy.ts';
import { benchThroughput, printThroughput } from './throughput.ts';
import { BACKENDS } from './throughput-paths.ts';

const HELP = `usage: npm run bench -- NAME [OPTIONS]

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

/** A whole number. @throws Error naming the flag */
function whole(flag: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`--${flag} ${text}: expected a whole number from ${least} to ${most}`);
}

const sizesOf = (text: string, least: number): number[] =>
  text.split(',').map((size) => whole('sizes', size, least, 7000));

function commandLine() {
  return parseArgs({
    allowPositionals: true,
    options: {
      peer: { type: 'string', multiple: true, default: [] },
      pods: { type: 'string', default: '200' },
      sizes: { type: 'string' },
      batches: { type: 'string', default: '240' },
      rounds: { type: 'string' },
      replaced: { type: 'string', default: '500' },
      probes: { type: 'string', default: '10' },
      backend: { type: 'string', multiple: true, default: [...BACKENDS] },
      seconds: { type: 'string', default: '5' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
}

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const progress = (text: string) => void process.stderr.write(`  ${text}\n`);

/** Measures, and gives the figures and the same as text. @throws Error */
async function measure(
  name: string | undefined,
  values: ReturnType<typeof commandLine>['values'],
): Promise<{ readonly results: unknown; readonly text: string }> {
  const peers = values.peer.map((path) => resolve(path));
  switch (name) {
    case 'cni': {
      const results = await benchCni({ root, pods: whole('pods', values.pods, 10, 2000), peers, progress });
      return { results, text: printCni(results) };
    }
    case 'agent': {
      const sizes = sizesOf(values.sizes ?? '2,100,1000,5000', 1);
      const rounds = whole('rounds', values.rounds ?? '5', 1, 100);
      const probes = whole('probes', values.probes, 1, 200);
      const results = await benchAgent({ root, sizes, rounds, probes, peers, progress });
      return { results, text: printAgent(results) };
    }
    case 'policy': {
      const sizes = sizesOf(values.sizes ?? '0,100,1000,5000', 0);
      const rounds = whole('rounds', values.rounds ?? '5', 1, 100);
      const batches = whole('batches', values.batches, 1, 100_000);
      const results = benchPolicy({ root, sizes, rounds, batches });
      return { results, text: printPolicy(results) };
    }
    case 'kubernetes': {
      const sizes = sizesOf(values.sizes ?? '5000', 1);
      const rounds = whole('rounds', values.rounds ?? '3', 1, 100);
      const replaced = whole('replaced', values.replaced, 1, Math.min(1000, ...sizes));
      const results = await benchKubernetes({ root, sizes, rounds, replaced, peers, progress });
      return { results, text: printKubernetes(results) };
    }
    case 'throughput': {
      const rounds = whole('rounds', values.rounds ?? '5', 1, 100);
      const seconds = whole('seconds', values.seconds, 1, 600);
      const backends = BACKENDS.filter((backend) => values.backend.includes(backend));
      if (backends.length === 0) throw new Error(`--backend ${values.backend}: expected one of ${BACKENDS.join(', ')}`);
      const results = await benchThroughput({ root, backends, rounds, seconds, peers, progress });
      return { results, text: printThroughput(results) };
    }
    default:
      throw new Error(`${name}: no such measurement; see --help`);
  }
}

async function main(): Promise<void> {
  const { values, positionals } = commandLine();
  if (values.help || positionals.length === 0) {
    process.stdout.write(HELP);
    return;
  }
  const { results, text } = await measure(positionals[0], values);
  process.stdout.write(text);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
