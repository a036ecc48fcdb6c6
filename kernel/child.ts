// A program of ours that runs beside the agent and is spoken to over a stream socket at its descriptor 3. It ends with the
// agent, whose end of the socket closes then.

import { spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';

export interface ChildListeners {
  /** What it sends. */
  readonly onData: (data: Buffer) => void;
  /** Called once, also when it could not be started; `why`: the last line that it said, or how it ended. */
  readonly onEnd: (why: string) => void;
}

export interface Child {
  readonly pid: number | undefined;
  send(data: Uint8Array): void;
  /** Asks it to end, by closing the socket. `onEnd` is called all the same. */
  close(): void;
}

export type StartChild = (program: string, args: readonly string[], listeners: ChildListeners) => Child;

const LAST_WORDS = 1000;

/** Starts a program in the namespaces of this process. */
export const startChild: StartChild = (program, args, { onData, onEnd }) => {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'], env: {} });
  const control = child.stdio[3] as Duplex;
  let said = '';
  let ended = false;
  const end = (why: string) => {
    if (ended) return;
    ended = true;
    control.destroy();
    onEnd(said.trim().split('\n').at(-1) || why);
  };
  (child.stderr as Readable).on('data', (chunk) => {
    said = (said + chunk).slice(-LAST_WORDS);
  });
  control.on('data', onData);
  // What is sent to one that has ended is lost; its end is what counts.
  control.on('error', () => undefined);
  child.once('error', (error: NodeJS.ErrnoException) => end(`start ${program}: ${error.code ?? error.message}`));
  child.once('close', (code, signal) => end(`ended with ${signal ?? `exit code ${code}`}`));
  return {
    pid: child.pid,
    send: (data) => void (ended || control.write(data)),
    close: () => void control.end(),
  };
};
