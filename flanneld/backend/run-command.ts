// One run of an operator's command: no shell, no terminal, a bound on time and output, and nothing of the agent's own
// environment, where passwords may be.

import type { Execute } from '../../kernel/execute.ts';
import { NetError } from '../../model/errors.ts';
import { type Command, type Environment, expand } from './command-words.ts';

/** Milliseconds a command may take. */
const LONGEST_MS = 30_000;
const MOST_BYTES = 64 * 1024;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Characters of what it said that a message takes. */
const SAID = 300;

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;

/** Milliseconds until a command that failed so many times in a row is tried again. */
export const retryAfter = (failures: number): number =>
  Math.min(FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10), LONGEST_RETRY_MS);

export interface CommandRun {
  /** Its key: "SubnetAddCommand". */
  readonly key: string;
  readonly command: Command;
  readonly environment: Environment;
  /** A line end is added. */
  readonly input: string;
  readonly signal: AbortSignal;
}

/** What it printed, without blanks around it. @throws NetError command-failed naming the key and what it said */
export async function runCommand(
  run: Execute,
  { key, command, environment, input, signal }: CommandRun,
): Promise<string> {
  const [program = '', ...args] = expand(command, environment);
  const fail = (why: string, cause?: unknown) =>
    new NetError('command-failed', `${key} (${program}): ${why}`, { cause, subject: key });
  const ended = await run(program, {
    args,
    environment: { PATH, ...environment },
    input: `${input}\n`,
    timeoutMs: LONGEST_MS,
    maxBytes: MOST_BYTES,
    signal,
  }).catch((cause) => {
    throw fail('could not be started', cause);
  });
  if (ended.status === 0) return ended.output.trim();
  const said = (ended.errors.trim() || ended.output.trim()).slice(-SAID);
  throw fail(`exit status ${ended.status}${said === '' ? '' : `: ${said}`}`);
}
