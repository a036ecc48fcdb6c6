// Runs plugin executions through exec-timer, in a machine of namespaces of their own.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Machine } from '../examples/cluster/machine.ts';

export interface Execution {
  readonly program: string;
  readonly arguments?: readonly string[] | undefined;
  readonly environment: Readonly<Record<string, string>>;
  readonly input: string;
}

export interface Timing {
  /** Milliseconds from before the start to after the end. */
  readonly wall: number;
  /** Milliseconds of processor time of the process and what it waited for. */
  readonly cpu: number;
  readonly output: string;
}

export interface Series {
  readonly timings: readonly Timing[];
  /** Milliseconds for all of it. */
  readonly wall: number;
}

/** Executes all, `parallel` at a time. @throws Error with the output of the first that failed */
export async function executeAll(
  machine: Machine,
  timer: string,
  scratch: string,
  executions: readonly Execution[],
  parallel = 1,
): Promise<Series> {
  mkdirSync(scratch, { recursive: true });
  const jobs = executions.map(({ program, arguments: words = [], environment, input }, index) => {
    writeFileSync(`${scratch}/in.${index}`, input);
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const files = [`${scratch}/in.${index}`, `${scratch}/out.${index}`];
    return [...files, String(words.length + 1), program, ...words, String(variables.length), ...variables];
  });
  const began = performance.now();
  const text = await machine.must(timer, [], {
    input: [String(parallel), ...jobs.flat()].map((word) => `${word}\0`).join(''),
    timeoutMs: 600_000,
  });
  const wall = performance.now() - began;
  const timings: Timing[] = [];
  for (const line of text.trim().split('\n')) {
    const [index = 0, ns = 0, user = 0, system = 0, status = 0] = line.split(' ').map(Number);
    const output = readFileSync(`${scratch}/out.${index}`, 'utf8');
    if (status !== 0)
      throw new Error(
        `${executions[index]?.program} ${executions[index]?.environment.CNI_COMMAND}: exit code ${status}: ${output}`,
      );
    timings[index] = { wall: ns / 1e6, cpu: (user + system) / 1e3, output };
  }
  return { timings, wall };
}
