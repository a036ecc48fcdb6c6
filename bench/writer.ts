// A program on one of the practice cluster's machines that carries out requests, a JSON line each way.

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { endChild, type Machine } from '../examples/cluster/machine.ts';

export interface Writer<Request, Reply> {
  /** @throws Error when the program has ended */
  ask(request: Request): Promise<Reply>;
  close(): Promise<void>;
}

/** Starts bench/NAME.ts. */
export function startWriter<Request, Reply>(
  machine: Machine,
  name: string,
  args: readonly string[],
): Writer<Request, Reply> {
  const program = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
  const child = machine.start(process.execPath, [program, ...args]);
  child.stderr?.pipe(process.stderr);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${name} ended`)));
  ended.catch(() => undefined);
  return {
    async ask(request) {
      child.stdin?.write(`${JSON.stringify(request)}\n`);
      const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
      return JSON.parse(line) as Reply;
    },
    async close() {
      await endChild(child);
    },
  };
}
