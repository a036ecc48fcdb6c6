// Starts processes of test/root/ipam-process.ts and talks to them.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { IpamProcessSetup } from '../root/ipam-process.ts';

const PROGRAM = join(import.meta.dirname, '../root/ipam-process.ts');

export class IpamProcess {
  readonly name: string;
  readonly #progress: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #exited: Promise<unknown>;

  constructor(setup: IpamProcessSetup, compileCache: string) {
    this.name = setup.name;
    this.#progress = setup.progress;
    const env = { ...process.env, NODE_COMPILE_CACHE: compileCache };
    this.#child = spawn(process.execPath, [PROGRAM, JSON.stringify(setup)], {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#exited = once(this.#child, 'exit');
    // What is written to a process that was killed is lost; its answer will be missed.
    this.#child.stdin?.on('error', () => {});
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  }

  /** Sends a command without waiting for its answer. */
  tell(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  /** The next line of the process. @throws Error when there is none: the process has ended */
  async answer(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.name} ended`);
    return value;
  }

  /** Whether it is inside a verb: between its first and its last effect. */
  inside(): boolean {
    return /[AD]/.test(readFileSync(this.#progress, 'utf8'));
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** Ends its input; resolves when the process has finished. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    await this.#exited;
  }
}
