// A flanneld that a test has started in a machine: its log, its end, and what its status says.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import type { Machine } from '../../examples/cluster/machine.ts';

export interface AgentProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it has logged. */
  log(): string;
  /** Asks it to end; its exit code. */
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

/** The part of /status that is about CNI clients. */
export interface AgentStatus {
  readonly ready: boolean;
  readonly reason?: string;
  readonly cni: {
    readonly reason?: string;
    readonly running: number;
    readonly waiting: number;
    readonly requests: Record<string, { succeeded: number; failed: number; undone: number }>;
    readonly reclaimed: number;
    readonly lastReclaimed: readonly string[];
    readonly problems: readonly string[];
    readonly spool: { done: number; waiting: number; aside: number };
  };
}

/** Starts it by these words. */
export function agentProcess(machine: Machine, [program = '', ...words]: readonly string[]): AgentProcess {
  const child = machine.start(program, words);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk;
    });
  }
  const ended = once(child, 'exit') as Promise<[number | null]>;
  return {
    child,
    pid: child.pid as number,
    log: () => text,
    async stop() {
      child.kill('SIGTERM');
      const [code] = await ended;
      return code;
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** What the socket of `flanneld status` answers. */
export function askStatus(socketPath: string): Promise<AgentStatus> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: '/status' }, async (response) => {
      resolve((await new Response(Readable.toWeb(response) as ReadableStream).json()) as AgentStatus);
    });
    call.on('error', reject);
    call.end();
  });
}
