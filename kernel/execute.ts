// Other programs: found in a list of directories and run to their end, with bounds on time and output. A program's failure
// is an ending like any other.

import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { asNetError } from '../model/errors.ts';

/** What a program left; 128 + signal when it was ended by one. */
export interface Ended {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

export interface ExecuteOptions {
  /** None by default. */
  readonly args?: readonly string[] | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly input: string;
  readonly timeoutMs: number;
  /** More on either output ends the program. */
  readonly maxBytes: number;
  /** Ends the program when it aborts. */
  readonly signal?: AbortSignal | undefined;
}

export type Execute = typeof execute;

/** The path of the first regular file of that name; a name with a slash is none. */
export function findProgram(name: string, directories: readonly string[]): string | undefined {
  if (name === '' || name.includes('/') || name.includes('\0')) return undefined;
  return directories.map((directory) => join(directory, name)).find(isFile);
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** A program that was killed by us has said nothing that counts. */
const FORCED = { output: '', errors: 'ended by force: it took too long or said too much' };
/** After the program's end: for what it said to be read, should something it has started hold the pipes open. */
const LINGER_MS = 200;

/**
 * Runs a program (a path, or a name to be found by the PATH of its environment) to its end. Past its bounds it is
 * killed, with all it has started.
 * @throws NetError io when it can't start
 */
export function execute(path: string, options: ExecuteOptions): Promise<Ended> {
  const { args = [], environment, input, timeoutMs, maxBytes, signal } = options;
  return new Promise((resolve, reject) => {
    // A group of its own, so that whatever it starts ends with it.
    const child = spawn(path, args, { env: environment, detached: true });
    let forced = false;
    const force = () => {
      forced = true;
      endGroup(child.pid);
    };
    const timer = setTimeout(force, timeoutMs);
    signal?.addEventListener('abort', force);
    const over = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', force);
    };
    const output = gather(child.stdout, maxBytes, force);
    const errors = gather(child.stderr, maxBytes, force);
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.on('error', (error) => {
      over();
      reject(asNetError(error));
    });
    child.on('exit', () => {
      const outputs = [child.stdout, child.stderr];
      setTimeout(() => outputs.forEach((stream) => void stream.destroy()), LINGER_MS).unref();
    });
    child.on('close', (code, by) => {
      over();
      const status = code ?? 128 + (by === null ? 0 : constants.signals[by]);
      resolve({ status, ...(forced ? FORCED : { output: textOf(output), errors: textOf(errors) }) });
    });
  });
}

const textOf = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString();

function gather(stream: Readable, maxBytes: number, tooMuch: () => void): Buffer[] {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxBytes) tooMuch();
    else chunks.push(chunk);
  });
  return chunks;
}

/** The group is there as long as one of its processes is. */
function endGroup(leader: number | undefined): void {
  try {
    if (leader !== undefined) process.kill(-leader, 'SIGKILL');
  } catch {}
}
