// Runs a program under agent-timer on a machine and waits for what it tells.

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Machine } from '../examples/cluster/machine.ts';

export interface Timed {
  readonly pid: number;
  /**
   * Milliseconds of CLOCK_MONOTONIC at which the event came, whether it has come already or not.
   * @throws Error after a minute
   */
  when(event: string): Promise<number>;
  /** Ends the program. */
  stop(): Promise<void>;
}

export interface TimedOptions {
  readonly timer: string;
  /** An IPv4 /8. */
  readonly network: string;
  readonly peers: number;
  /** The program and its arguments. */
  readonly command: readonly string[];
}

const PATIENCE_MS = 60_000;
const DIRECTORY = '/run/flannel';

export const milliseconds = (nanoseconds: string): number => Number(BigInt(nanoseconds) / 1000n) / 1000;

export async function startTimed(machine: Machine, { timer, network, peers, command }: TimedOptions): Promise<Timed> {
  await machine.must('mkdir', ['-p', DIRECTORY]);
  const child = machine.start(timer, [network, String(peers), DIRECTORY, 'subnet.env', ...command]);
  const seen = new Map<string, string>();
  let said = '';
  let look = () => {};
  child.stderr?.on('data', (chunk: Buffer) => {
    said = `${said}${chunk}`.slice(-2000);
  });
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const [name = '', value = '', subnet] = line.split(' ');
    seen.set(subnet === undefined ? name : `${name} ${subnet}`, value);
    look();
  });
  const wait = (event: string) =>
    new Promise<string>((resolve, reject) => {
      const fail = () => reject(new Error(`${command[0]}: no ${event} within ${PATIENCE_MS / 1000} s: ${said}`));
      const deadline = setTimeout(fail, PATIENCE_MS);
      look = () => {
        const value = seen.get(event);
        if (value === undefined) return;
        clearTimeout(deadline);
        resolve(value);
      };
      look();
    });
  const ended = once(child, 'exit');
  return {
    pid: Number(await wait('pid')),
    when: async (event) => milliseconds(await wait(event)),
    async stop() {
      child.stdin?.end();
      await ended;
    },
  };
}
