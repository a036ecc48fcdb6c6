// How much memory V8 keeps. A start makes garbage of all it reads and is over soon: collecting it as eagerly as later would
// take a third of that time. Afterwards the agent lives for months, and its memory counts more than the time that
// collecting takes. None of this is said on the command line: with other flags than it was built with, Node.js compiles its
// own modules at each start.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Clock } from './clock.ts';

/** After everything was found in its place (ms): runs that find it so again make little garbage. */
const LATER_MS = 1000;
/** The heap may outgrow what was alive when it was last collected by so much: during the start, and from then on. */
const START_GROWTH_PERCENT = 60;
const GROWTH_PERCENT = 33;

/** To be called when all modules are loaded. */
export function boundMemory(): void {
  setFlagsFromString(`--heap-growing-percent=${START_GROWTH_PERCENT}`);
}

/** How memory is given back. */
export interface Release {
  /** What is not alive any more. */
  collect(): void;
  /** What the collector has left, and is of no use now. */
  giveBack(): void;
}

/**
 * Gives back what a start has left, which takes two tenths of a second with 5000 peers, and keeps the heap small from then on.
 */
export function settleMemory(clock: Clock, { collect, giveBack }: Release): void {
  clock.after(LATER_MS, () => {
    setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
    // What was alive by what the first time has found dead: code that is no longer used, above all.
    collect();
    collect();
    giveBack();
  });
}

/** V8 gives its collector to contexts that are made while it is exposed. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as NonNullable<typeof globalThis.gc>;
  setFlagsFromString('--no-expose-gc');
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
