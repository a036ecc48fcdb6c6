// The extension backend's second command, run with our subnet until it has succeeded, and once more when what it is told
// has changed. Peers wait for its first success.

import { describe } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Environment } from './command-words.ts';
import { retryAfter } from './run-command.ts';

export interface PostStartup {
  /** Says what it is to be told from now on. */
  hold(environment: Environment): void;
  /** Whether it has ever succeeded. */
  isDone(): boolean;
  /** Why it has not succeeded with what it was last told. */
  trouble(): string | undefined;
  stop(): void;
}

export interface PostStartupOptions {
  readonly run: (environment: Environment) => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of every success. */
  readonly onDone: () => void;
}

/** Runs nothing before it has something to tell. */
export function keepPostStartup({ run, clock, log, onDone }: PostStartupOptions): PostStartup {
  let wanted: Environment | undefined;
  let done: Environment | undefined;
  let failures = 0;
  let running = false;
  let stopped = false;
  let trouble: string | undefined;
  let cancel = () => {};

  const attempt = async () => {
    const current = wanted;
    if (current === undefined || running || stopped) return;
    running = true;
    try {
      await run(current);
      [done, failures, trouble] = [current, 0, undefined];
    } catch (error) {
      const text = describe(error);
      if (text !== trouble && !stopped) log.warn({}, `${text}; trying again`);
      trouble = text;
      failures++;
    }
    running = false;
    if (stopped) return;
    if (done !== wanted) cancel = clock.after(failures === 0 ? 0 : retryAfter(failures), () => void attempt());
    if (failures === 0) onDone();
  };

  return {
    hold(environment) {
      if (JSON.stringify(environment) === JSON.stringify(wanted)) return;
      wanted = environment;
      cancel();
      void attempt();
    },
    isDone: () => done !== undefined,
    trouble: () => trouble ?? (done === undefined ? 'PostStartupCommand has not succeeded yet' : undefined),
    stop() {
      stopped = true;
      cancel();
    },
  };
}
