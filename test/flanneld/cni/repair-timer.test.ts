// When the agent looks for what died.

import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { repairTimer } from '../../../flanneld/cni/repair-timer.ts';
import { testClock } from '../fixtures/host.ts';

t.test('soon after the start, then every minute, sooner when asked', async (t) => {
  const clock = testClock();
  let runs = 0;
  const timer = repairTimer(clock, async () => void runs++);
  /** How often it ran in the time, one second after the other. */
  const passed = async (seconds: number): Promise<number> => {
    const before = runs;
    for (let left = seconds; left > 0; left--) {
      clock.advance(1000);
      await turn();
    }
    return runs - before;
  };
  timer.within(0);
  t.equal(await passed(120), 0, 'not before the start');
  timer.start();
  t.equal(await passed(1), 0);
  t.equal(await passed(1), 1, 'two seconds after it');
  t.equal(await passed(59), 0);
  t.equal(await passed(1), 1, 'a minute later');
  t.equal(await passed(600), 10, 'and every minute');
  await passed(30);
  timer.within(2000);
  timer.within(5000);
  t.equal(await passed(1), 0);
  t.equal(await passed(1), 1, 'sooner when asked, once');
  t.equal(await passed(59), 0, 'and a minute after that');
  t.equal(await passed(1), 1);
  timer.stop();
  timer.within(0);
  t.equal(await passed(120), 0, 'not after the stop');
});

t.test('one at a time: the next minute begins with the end', async (t) => {
  const clock = testClock();
  const ends: (() => void)[] = [];
  const timer = repairTimer(clock, () => new Promise((resolve) => ends.push(resolve)));
  timer.start();
  clock.advance(2000);
  clock.advance(600_000);
  t.equal(ends.length, 1);
  ends[0]?.();
  await turn();
  clock.advance(59_000);
  t.equal(ends.length, 1);
  clock.advance(1000);
  t.equal(ends.length, 2);
});
