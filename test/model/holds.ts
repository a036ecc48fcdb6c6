// Properties as assertions: how often they are tried, and by which seed.

import fc from 'fast-check';
import type { Test } from 'tap';
import { count } from '../support/count.ts';
import { seed } from '../support/seed.ts';

/** Whether the property holds, as one assertion. */
export function holds<T>(t: Test, property: fc.IProperty<T>): void {
  fc.assert(property, { seed, numRuns: count(20_000) });
  t.pass('holds');
}
