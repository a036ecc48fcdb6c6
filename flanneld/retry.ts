// Trying again, with growing pauses, for as long as an error says that it may pass.

import { asNetError, describe, type NetError } from '../model/errors.ts';
import { type Clock, sleep } from './clock.ts';
import type { Log } from './log.ts';
import { pauses } from './subnet/pauses.ts';

export interface RetryOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** What is tried, for the log: "read the network configuration". */
  readonly what: string;
  /** Told the trouble after each failure, and undefined when it has passed. */
  readonly onTrouble?: ((trouble: NetError | undefined) => void) | undefined;
}

/**
 * The attempt's result. A transient failure is logged when it is new and tried again until the signal aborts.
 * @throws the signal's reason when aborted; the attempt's error when it isn't transient
 */
export async function retry<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, log, signal, what, onTrouble } = options;
  const pause = pauses();
  let reported: string | undefined;
  for (;;) {
    signal.throwIfAborted();
    const began = clock.now();
    try {
      const result = await attempt();
      if (reported !== undefined) log.info({}, `${what}: works again`);
      onTrouble?.(undefined);
      return result;
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asNetError(thrown);
      if (!error.transient) throw error;
      onTrouble?.(error);
      const text = describe(error);
      if (text !== reported) log.warn({ code: error.code }, `${what}: ${text}; trying again`);
      reported = text;
      await sleep(clock, pause(clock.now() - began), signal);
    }
  }
}
