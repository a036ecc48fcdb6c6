// How long to wait before trying a server again, and when to speak of it.

import { describe } from '../../model/errors.ts';

const FIRST_MS = 100;
const LONGEST_MS = 2000;
/** What went well for so long starts anew. */
const SETTLED_MS = 10_000;

/**
 * Pauses of 0.1 s, 0.2 s, 0.4 s … at most `longestMs`, each somewhat random so that the nodes of a cluster don't come back all
 * at once. Told how many milliseconds the last try lasted.
 */
export function pauses(
  random: () => number = Math.random,
  longestMs: number = LONGEST_MS,
): (lastedMs: number) => number {
  let next = FIRST_MS;
  return (lastedMs) => {
    if (lastedMs >= SETTLED_MS) next = FIRST_MS;
    const pause = next * (0.75 + random() / 2);
    next = Math.min(next * 2, longestMs);
    return pause;
  };
}

/** Passes on a trouble unless it is the same as the last; undefined says that there is none any more. */
export function whenNew(report: (trouble: unknown) => void): (trouble: unknown) => void {
  let last: string | undefined;
  return (trouble) => {
    const text = trouble === undefined ? undefined : describe(trouble);
    if (text !== undefined && text !== last) report(trouble);
    last = text;
  };
}
