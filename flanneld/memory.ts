// How much memory V8 keeps. A start makes garbage of all it reads and is over soon: collecting it as eagerly as later would
// take a third of that time. Afterwards the agent lives for months, and its memory counts more than the time that
// collecting takes.

import { setFlagsFromString } from 'node:v8';
import type { Clock } from './clock.ts';

/** After everything was found in its place (ms): runs that find it so again make little garbage. */
const LATER_MS = 1000;
/** The heap may outgrow what was alive when it was last collected by so much. */
const GROWTH_PERCENT = 33;

/**
 * Gives back what the start has left, once, which takes a tenth of a second with 5000 peers, and keeps the heap small from
 * then on. Needs --expose-gc for the former.
 */
export function settleMemory(clock: Clock): void {
  clock.after(LATER_MS, () => {
    setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  });
}
