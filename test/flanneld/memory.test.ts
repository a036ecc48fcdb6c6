// What is given back after a start.

import { getHeapStatistics } from 'node:v8';
import t from 'tap';
import { collectGarbage, settleMemory } from '../../flanneld/memory.ts';
import { testClock } from './fixtures/host.ts';

t.test('once, a while after everything is in its place', async (t) => {
  const clock = testClock();
  const done: string[] = [];
  settleMemory(clock, { collect: () => done.push('collect'), giveBack: () => done.push('give back') });
  clock.advance(999);
  t.strictSame(done, [], 'not at once');
  clock.advance(1);
  const all = ['collect', 'collect', 'give back'];
  t.strictSame(done, all);
  clock.advance(3_600_000);
  t.strictSame(done, all);
});

t.test('without a flag on the command line', async (t) => {
  let garbage: unknown[] | undefined = Array.from({ length: 1_000_000 }, (_, number) => ({ number }));
  t.equal(garbage.length, 1_000_000);
  const before = getHeapStatistics().used_heap_size;
  garbage = undefined;
  collectGarbage();
  t.ok(getHeapStatistics().used_heap_size < before - 10_000_000);
  t.equal(globalThis.gc, undefined, 'nor for anyone else');
});
