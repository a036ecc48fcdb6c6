// Work over thousands of things that can be put aside between two of its steps, so that nothing else has to wait until all
// of it is done.

/** Each yield is a place where something else may happen; the work goes on at the next call. */
export type Sliced<T> = Generator<void, T, void>;

/** Things looked at between two yields: a millisecond or two of work, whatever the things are. */
const SLICE = 100;

/** Does all of the work at once. */
export function finish<T>(work: Sliced<T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

/** Short work, where long is allowed for. */
// biome-ignore lint/correctness/useYield: that is the point
export function* once<T>(work: () => T): Sliced<T> {
  return work();
}

/** Calls a function for each value, in their order. */
export function* eachOf<T>(values: Iterable<T>, use: (value: T) => void): Sliced<void> {
  let left = SLICE;
  for (const value of values) {
    if (left-- === 0) {
      yield;
      left = SLICE;
    }
    use(value);
  }
}

/** What a function makes of each value, without what it makes nothing of. */
export function* mapped<T, R>(values: Iterable<T>, make: (value: T) => R | undefined): Sliced<R[]> {
  const made: R[] = [];
  yield* eachOf(values, (value) => {
    const result = make(value);
    if (result !== undefined) made.push(result);
  });
  return made;
}
