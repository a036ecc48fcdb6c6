// Does long work a little at a time: between two slices, whatever else waits has its turn, an ADD of the CNI plugin above all.

import type { Sliced } from '../model/slices.ts';
import type { Clock } from './clock.ts';

/** Milliseconds that nothing else has a turn for. A step that is begun is ended. */
const SLICE_MS = 5;

export interface SlicedWork {
  /** The first slice is done at once. */
  start(): void;
  /** Gives the work up where it is. */
  stop(): void;
}

/** `done` is called with what the work gives, unless it is stopped. */
export function inSlices<T>(clock: Clock, work: Sliced<T>, done: (result: T) => void): SlicedWork {
  let cancel = () => {};
  const slice = () => {
    const end = clock.now() + SLICE_MS;
    for (;;) {
      const step = work.next();
      if (step.done) return done(step.value);
      if (clock.now() >= end) break;
    }
    cancel = clock.soon(slice);
  };
  return {
    start: slice,
    stop: () => cancel(),
  };
}
