// What is given back after a start.

import { getHeapStatistics } from 'node:v8';
import t from 'tap';
import { settleMemory } from '../../flanneld/memory.ts';
import { testClock } from './fixtures/host.ts';

t.test('once, a while after everything is in its place', async (t) => {
  const clock = testClock();
  let times = 0;
  settleMemory(clock, () => times++);
  clock.advance(999);
  t.equal(times, 0, 'not at once');
  clock.advance(1);
  t.equal(times, 1);
  clock.advance(3_600_000);
  t.equal(times, 1);
});

t.test('without a flag on the command line', async (t) => {
  const clock = testClock();
  let garbage: unknown[] | undefined = Array.from({ length: 1_000_000 }, (_, number) => ({ number }));
  t.equal(garbage.length, 1_000_000);
  const before = getHeapStatistics().used_heap_size;
  garbage = undefined;
  settleMemory(clock);
  clock.advance(1000);
  t.ok(getHeapStatistics().used_heap_size < before - 10_000_000);
  t.equal(globalThis.gc, undefined, 'nor for anyone else');
});
