// npm run bench -- NAME: measurements, each ours beside a peer in one run.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { benchAgent, printAgent } from './agent.ts';
import { benchCni, printCni } from './cni.ts';
import { benchKubernetes, printKubernetes } from './kubernetes.ts';
import { type BenchOptions, HELP, readOptions } from './options.ts';
import { benchPolicy, printPolicy } from './policy.ts';
import { benchThroughput, printThroughput } from './throughput.ts';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const progress = (text: string) => void process.stderr.write(`  ${text}\n`);

interface Measured {
  readonly results: unknown;
  readonly text: string;
}

/** @throws Error */
async function measure({ name, peers, backends, count, sizes }: BenchOptions): Promise<Measured> {
  const common = { root, peers, progress };
  switch (name) {
    case 'cni': {
      const results = await benchCni({ ...common, pods: count('pods', 200, 10, 2000) });
      return { results, text: printCni(results) };
    }
    case 'agent': {
      const [rounds, probes] = [count('rounds', 5, 1, 100), count('probes', 10, 1, 200)];
      const results = await benchAgent({ ...common, sizes: sizes([2, 100, 1000, 5000], 1), rounds, probes });
      return { results, text: printAgent(results) };
    }
    case 'policy': {
      const [rounds, batches] = [count('rounds', 5, 1, 100), count('batches', 240, 1, 100_000)];
      const results = benchPolicy({ root, sizes: sizes([0, 100, 1000, 5000], 0), rounds, batches });
      return { results, text: printPolicy(results) };
    }
    case 'kubernetes': {
      const nodes = sizes([5000], 1);
      const replaced = count('replaced', 500, 1, Math.min(1000, ...nodes));
      const results = await benchKubernetes({ ...common, sizes: nodes, rounds: count('rounds', 3, 1, 100), replaced });
      return { results, text: printKubernetes(results) };
    }
    case 'throughput': {
      const [rounds, seconds] = [count('rounds', 5, 1, 100), count('seconds', 5, 1, 600)];
      const results = await benchThroughput({ ...common, backends, rounds, seconds });
      return { results, text: printThroughput(results) };
    }
  }
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(HELP);
    return;
  }
  if (process.getuid?.() !== 0) throw new Error('measurements make network namespaces: run as root');
  const { results, text } = await measure(options);
  process.stdout.write(text);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(results, undefined, 2)}\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
