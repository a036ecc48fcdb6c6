// Pods that send to each other all the time (stream.c), and what of it has come through, by epochs that the test begins.

import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Test } from 'tap';

export interface StreamOptions {
  /** Where the program is compiled to. */
  readonly directory: string;
  readonly port: number;
  readonly everyMs: number;
  /** Each with its addresses, to which all the others send. */
  readonly pods: ReadonlyMap<string, readonly string[]>;
  /** Starts a program in a pod's network namespace, with pipes. */
  start(pod: string, program: string, args: readonly string[]): ChildProcess;
}

/** What one pod has sent to an address of another in one epoch. */
export interface Stream {
  readonly from: string;
  readonly to: string;
  readonly address: string;
  readonly epoch: number;
  readonly sent: number;
  /** How many came, and how many of those that were sent back. */
  readonly came: number;
  readonly back: number;
}

export interface Streams {
  /** What is sent from when it resolves on belongs to another epoch. */
  begin(epoch: number): Promise<void>;
  /** Everybody has sent everything twice more. */
  round(): Promise<void>;
  /** Ends the sending. */
  report(): Promise<Stream[]>;
}

interface Pod {
  readonly name: string;
  readonly targets: readonly { readonly pod: string; readonly address: string }[];
  ask(order: string): Promise<string[]>;
}

/** They end with the test. */
export async function startStreams(t: Test, options: StreamOptions): Promise<Streams> {
  const program = join(options.directory, 'stream');
  execFileSync('cc', ['-O2', '-o', program, join(import.meta.dirname, 'stream.c')]);
  const names = [...options.pods.keys()];
  const pods = await Promise.all(names.map((name, self) => startPod(t, options, program, name, self)));
  const all = async (order: string) => void (await Promise.all(pods.map((pod) => pod.ask(order))));
  return {
    begin: (epoch) => all(`epoch ${epoch}`),
    round: () => all('round'),
    async report() {
      const told = await Promise.all(pods.map((pod) => pod.ask('report')));
      return pods.flatMap((pod, self) => streamsOf(pod, self, names, told));
    },
  };
}

async function startPod(t: Test, options: StreamOptions, program: string, name: string, self: number): Promise<Pod> {
  const targets = [...options.pods].flatMap(([pod, addresses]) =>
    pod === name ? [] : addresses.map((address) => ({ pod, address })),
  );
  const words = [self, options.port, options.everyMs, ...targets.map(({ address }) => address)].map(String);
  const child = options.start(name, program, words);
  const lines = createInterface({ input: child.stdout as Readable });
  let waiting: { readonly lines: string[]; readonly done: (lines: string[]) => void } | undefined;
  lines.on('line', (line) => {
    waiting?.lines.push(line);
    if (/^(ready|end|epoch|round)/.test(line)) waiting?.done(waiting.lines);
  });
  const answer = () => new Promise<string[]>((done) => (waiting = { lines: [], done }));
  t.teardown(async () => {
    (child.stdin as Writable).end();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  await answer();
  return {
    name,
    targets,
    ask(order) {
      const answered = answer();
      (child.stdin as Writable).write(`${order}\n`);
      return answered;
    },
  };
}

function streamsOf(pod: Pod, self: number, names: readonly string[], told: readonly (readonly string[])[]): Stream[] {
  const own = told[self] ?? [];
  return pod.targets.flatMap(({ pod: to, address }, at) => {
    const sent = counts(own, `sent ${at} `);
    const back = counts(own, `back ${at} `);
    const came = counts(told[names.indexOf(to)] ?? [], `got ${self} ${at} `);
    return [...sent].map(([epoch, count]) => ({
      from: pod.name,
      to,
      address,
      epoch,
      sent: count,
      came: came.get(epoch) ?? 0,
      back: back.get(epoch) ?? 0,
    }));
  });
}

/** By epoch. */
const counts = (lines: readonly string[], beginning: string): Map<number, number> =>
  new Map(
    lines
      .filter((line) => line.startsWith(beginning))
      .map((line) => line.slice(beginning.length).split(' ').map(Number) as [number, number]),
  );
