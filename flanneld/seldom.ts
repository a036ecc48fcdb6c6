// What takes long to read and anyone may ask for: with thousands of peers reading the host does.

import { finish, type Sliced } from '../model/slices.ts';
import type { Clock } from './clock.ts';
import { inSlices } from './in-slices.ts';

export interface Seldom<T> {
  /** As it was read last; read now, where that is long ago. */
  value(): T;
  /** Resolves when it has been read not long ago: where it is to be read, other work has its turn meanwhile. */
  refresh(): Promise<void>;
}

/** Reading takes a tenth of the time at most. */
const REST_FACTOR = 10;

/** Reads nothing before it is asked. */
export function seldom<T>(clock: Clock, read: () => Sliced<T>): Seldom<T> {
  let last: { readonly value: T; readonly until: number } | undefined;
  let reading: Promise<void> | undefined;
  const keep = (value: T, began: number): T => {
    last = { value, until: clock.now() + REST_FACTOR * (clock.now() - began) };
    return value;
  };
  const readAside = () => {
    const began = clock.now();
    return new Promise<T>((resolve) => inSlices(clock, read(), resolve).start()).then((value) => {
      keep(value, began);
      reading = undefined;
    });
  };
  return {
    value() {
      const began = clock.now();
      return last !== undefined && began < last.until ? last.value : keep(finish(read()), began);
    },
    async refresh() {
      if (last !== undefined && clock.now() < last.until) return;
      reading ??= readAside();
      await reading;
    },
  };
}
