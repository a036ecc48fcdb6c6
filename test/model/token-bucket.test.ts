// A token bucket's size in ticks and back, with the numbers of the reference plugin's formula.

import fc from 'fast-check';
import t from 'tap';
import { burstOf, ticksOf } from '../../model/token-bucket.ts';
import { seed } from '../support/seed.ts';

t.test('ticks as tc and the reference plugin count them', async (t) => {
  // burst / rate in whole microseconds, times 15.625.
  t.equal(ticksOf({ rate: 125_000, burst: 12_500 }), 1_562_500);
  t.equal(ticksOf({ rate: 3, burst: 1 }), Math.floor(333_333 * 15.625));
  t.equal(ticksOf({ rate: 1, burst: 0xffffffff }), 0xffffffff, 'the longest that can be counted');
  t.equal(ticksOf({ rate: 6e9, burst: 1 }), 0, 'too short to be counted');
  t.equal(burstOf(125_000, 1_562_500), 12_500);
});

t.test('a bucket that was read is the bucket that was written', async (t) => {
  const rate = fc.integer({ min: 1, max: 10_000_000_000 });
  fc.assert(
    fc.property(rate, fc.integer({ min: 1, max: 0xfffffffe }), (rate, burst) => {
      const ticks = ticksOf({ rate, burst });
      const read = burstOf(rate, ticks);
      t.equal(ticksOf({ rate, burst: read }), ticks, `${rate} ${burst}`);
      t.ok(read <= burst, 'never larger');
      if (rate <= 1_000_000 && ticks < 0xffffffff) t.equal(read, burst, `${rate} ${burst}: exactly`);
    }),
    { seed },
  );
});
