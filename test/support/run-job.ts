// Runs one test file, or one tool, in a process of its own with a bounded time, and gives its outcomes.

import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Outcome, tapResults } from './tap-results.ts';

export interface Job {
  /** The file's path, or the tool's name. */
  readonly name: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Whether its standard output is TAP; otherwise the exit status is the outcome. */
  readonly tap: boolean;
  readonly seconds: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly logFolder: string;
}

/** Room for a test file that got SIGTERM to take down what it has put up. */
const STOP_SECONDS = 20;
/** tap itself ends a test that takes too long, and can tell which; this is how much later the process is ended. */
const TAP_SECONDS = 10;
const KEPT_OUTPUT = 8000;

export async function runJob(job: Job, stop: AbortSignal, report: (outcome: Outcome) => void): Promise<void> {
  let silent = true;
  let failed = false;
  const add = (outcome: Outcome): void => {
    silent = false;
    failed ||= outcome.state === 'failed';
    report(outcome);
  };
  const fail = (details: string): void => add({ state: 'failed', name: '', details });

  const logFile = join(job.logFolder, `${job.name.replaceAll('/', '-')}.log`);
  mkdirSync(dirname(logFile), { recursive: true });
  const log = createWriteStream(logFile);
  // A process group of its own, so that a stop reaches what the file has started too.
  const [program = process.execPath, ...args] = job.command;
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...job.environment, TAP_TIMEOUT: String(job.seconds) },
  });
  const parser = job.tap ? tapResults(add) : undefined;
  let output = '';
  const keep = (chunk: Buffer): void => {
    log.write(chunk);
    output = (output + chunk).slice(-KEPT_OUTPUT);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    if (parser) {
      log.write(chunk);
      parser.write(chunk);
    } else keep(chunk);
  });
  child.stderr.on('data', keep);

  const signal = (name: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // The group is gone.
    }
  };
  const closed = new Promise((resolve) => child.once('close', resolve));
  const exited = Promise.withResolvers<string>();
  child.once('error', (error) => exited.resolve(error.message));
  child.once('exit', (code, by) => exited.resolve(by ? `ended by ${by}` : code === 0 ? '' : `exit status ${code}`));

  let stopped = '';
  const halt = (why: string): void => {
    if (stopped) return;
    stopped = why;
    signal('SIGTERM');
    setTimeout(() => signal('SIGKILL'), STOP_SECONDS * 1000).unref();
  };
  const timer = setTimeout(() => halt(`not done after ${job.seconds} s`), (job.seconds + TAP_SECONDS) * 1000);
  const onStop = (): void => halt('interrupted');
  stop.addEventListener('abort', onStop);
  const status = await exited.promise;
  clearTimeout(timer);
  stop.removeEventListener('abort', onStop);

  // A process that was left behind may hold the pipes open for ever.
  await Promise.race([closed, sleep(1000, undefined, { ref: false })]);
  child.stdout.destroy();
  child.stderr.destroy();
  parser?.end();
  log.end();

  if (stopped) fail(stopped);
  else if (status && !failed) fail([status, output.trim()].filter(Boolean).join('\n'));
  else if (!job.tap) add({ state: 'passed', name: '' });
  else if (silent) fail('no test ran');
}
