// Trying again, with growing pauses, for as long as an error says that it may pass.

import { asNetError, describe, type NetError } from '../model/errors.ts'
import { type Clock, sleep } from './clock.ts'
import type { Log } from './log.ts'

const FIRST_PAUSE_MS = 1000
const LONGEST_PAUSE_MS = 30_000

/** The pause before attempt number `attempt` (from 1) is repeated: 1 s, 2 s, 4 s … at most 30 s. */
export const pauseAfter = (attempt: number): number =>
  Math.min(FIRST_PAUSE_MS * 2 ** Math.min(attempt - 1, 10), LONGEST_PAUSE_MS)

export interface RetryOptions {
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  /** What is tried, for the log: "read the network configuration". */
  readonly what: string
  /** Told the trouble after each failure, and undefined when it has passed. */
  readonly onTrouble?: ((trouble: NetError | undefined) => void) | undefined
}

/**
 * The attempt's result. A transient failure is logged when it is new and tried again until the signal aborts.
 * @throws the signal's reason when aborted; the attempt's error when it isn't transient
 */
export async function retry<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, log, signal, what, onTrouble } = options
  let reported: string | undefined
  for (let count = 1; ; count++) {
    signal.throwIfAborted()
    try {
      const result = await attempt()
      if (reported !== undefined) log.info({}, `${what}: works again`)
      onTrouble?.(undefined)
      return result
    } catch (thrown) {
      signal.throwIfAborted()
      const error = asNetError(thrown)
      if (!error.transient) throw error
      onTrouble?.(error)
      const text = describe(error)
      if (text !== reported) log.warn({ code: error.code }, `${what}: ${text}; trying again`)
      reported = text
      await sleep(clock, pauseAfter(count), signal)
    }
  }
}
