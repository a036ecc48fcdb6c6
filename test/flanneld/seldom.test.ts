// What is read for whoever asks: seldom, and a little at a time.

import t from 'tap';
import { seldom } from '../../flanneld/seldom.ts';
import type { Sliced } from '../../model/slices.ts';
import { testClock } from './fixtures/host.ts';

/** A clock, and something whose reading takes three slices of 10 ms: its value is how often it was begun. */
function reading() {
  const time = testClock();
  let [times, spent] = [0, 0];
  function* read(): Sliced<number> {
    const value = ++times;
    for (let slice = 0; slice < 3; slice++) {
      spent += 10;
      yield;
    }
    return value;
  }
  return { read, clock: { ...time, now: () => time.now() + spent }, times: () => times };
}

t.test('at once, and again when ten times as long has passed', async (t) => {
  const { clock, read } = reading();
  const { value } = seldom(clock, read);
  t.equal(value(), 1);
  clock.advance(299);
  t.equal(value(), 1);
  clock.advance(1);
  t.equal(value(), 2);
});

t.test('with room for others, once for all who ask meanwhile', async (t) => {
  const { clock, read, times } = reading();
  const { refresh, value } = seldom(clock, read);
  const order: string[] = [];
  const waiting = Promise.all([refresh(), refresh()]).then(() => order.push('read'));
  clock.soon(() => order.push('others'));
  while (order.length < 2) {
    clock.advance(1);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await waiting;
  t.strictSame(order, ['others', 'read']);
  t.equal(times(), 1);
  t.equal(value(), 1, 'it is not read anew');
  await refresh();
  t.equal(times(), 1, 'nor when somebody else asks soon');
});
