// Runs one test file on what is a machine of its own as far as a test can tell: namespaces for network, mounts and
// processes, with a fresh /run and folder for temporary files. So files run side by side, what one of them leaves behind
// has one culprit, and nothing of it reaches the host.
//
// Called as the first process of those namespaces (privateMachine below): node private-machine.ts TEST-FILE
// Its exit status is the test's, or LEFT_BEHIND if the test passed and left something: standard error says what.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { differences, type MachineState, machineState } from './machine-state.ts';

/** How long a test's processes may take to be gone after its end, ms. */
const GRACE = 5000;
const LEFT_BEHIND = 99;

export interface PrivateMachine {
  /** Runs the test file on it. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** To be called when the command has ended. */
  remove(): void;
}

/**
 * Without `network` it has loopback and what it makes itself; with it, the host's network, for what has to be downloaded.
 * Equivalent to: unshare --mount --pid --net …
 */
export function privateMachine(testFile: string, network: boolean): PrivateMachine {
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', import.meta.filename, testFile];
  const temporary = mkdtempSync(join(tmpdir(), 'test-'));
  return {
    command: ['unshare', ...namespaces, ...(network ? [] : ['--net']), '--', ...node],
    environment: { TMPDIR: temporary },
    remove: () => rmSync(temporary, { recursive: true, force: true }),
  };
}

/** What is there now and was not before, once it has stopped changing. */
async function leaks(before: MachineState): Promise<string[]> {
  const deadline = Date.now() + GRACE;
  for (;;) {
    const found = differences(before, machineState());
    if (found.length === 0 || Date.now() > deadline) return found;
    await sleep(100);
  }
}

const mount = (path: string): unknown => execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path]);

async function main(testFile: string): Promise<number> {
  for (const path of [tmpdir(), '/run']) mount(path);
  for (const name of ['netns', 'lock']) mkdirSync(join('/run', name));
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  // The first process of a namespace is not ended by a signal that it doesn't handle; the test gets it as well.
  process.on('SIGTERM', () => {});

  const before = machineState();
  const test = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', testFile], { stdio: 'inherit' });
  const [code] = await once(test, 'exit');
  const found = await leaks(before);
  if (found.length > 0) process.stderr.write(`${found.join('\n')}\n`);
  return code || (found.length > 0 ? LEFT_BEHIND : 0);
}

const [testFile] = process.argv.slice(2);
if (import.meta.main && testFile !== undefined) process.exit(await main(testFile));
