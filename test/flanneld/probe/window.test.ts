// What a window of rounds says, against its meaning said in another way.

import fc from 'fast-check';
import t from 'tap';
import {
  addRound,
  type Findings,
  findingsOf,
  KEPT_ROUNDS,
  type Round,
  type Window,
} from '../../../flanneld/probe/window.ts';
import { holds } from '../../model/holds.ts';

const time = fc.option(fc.double({ min: 0, max: 2000, noNaN: true }), { nil: undefined });
const rounds = fc.array(fc.record({ small: time, full: time }));
const GOOD: Round = { small: 1, full: 2 };
const LOST: Round = { small: undefined, full: undefined };
const NARROW: Round = { small: 1, full: undefined };
const after = (...given: readonly Round[]): Findings => findingsOf(given.reduce(addRound, [] as Window));

t.test('by example', async (t) => {
  t.match(after(), { state: 'unknown', loss: 0, rounds: 0 });
  t.match(after(LOST), { state: 'unknown', loss: 1 });
  t.match(after(LOST, LOST), { state: 'unreachable', loss: 1, rttMs: undefined, fits: undefined });
  t.match(after(GOOD), { state: 'reachable', fits: true, rttMs: 1, loss: 0 });
  t.match(after(GOOD, LOST), { state: 'reachable', fits: true, loss: 0.5 }, 'one lost packet is no news');
  t.match(after(NARROW), { state: 'reachable', fits: undefined });
  t.match(after(NARROW, NARROW), { state: 'mtu-too-small', fits: false, loss: 0 });
  t.match(after(GOOD, NARROW, NARROW), { state: 'mtu-too-small' });
  t.match(after(NARROW, LOST, NARROW), { state: 'mtu-too-small' }, 'a lost round says nothing of size');
  t.match(after(NARROW, NARROW, GOOD), { state: 'reachable', fits: true });
  t.match(after(LOST, LOST, GOOD), { state: 'reachable' });
  t.match(after({ small: undefined, full: 3 }), { state: 'reachable', fits: true, rttMs: 3, loss: 1 });
});

t.test('for any rounds', async (t) => {
  holds(
    t,
    fc.property(rounds, (given) => {
      const { state, loss, rttMs, fits, rounds: count } = after(...given);
      const kept = given.slice(-KEPT_ROUNDS);
      const answered = (round: Round | undefined) => round?.small !== undefined || round?.full !== undefined;
      const lastTwo = kept.slice(-2);
      const times = kept.flatMap(({ small, full }) => small ?? full ?? []);
      return (
        count === kept.length &&
        loss >= 0 &&
        loss <= 1 &&
        (loss === 0) === kept.every(({ small }) => small !== undefined) &&
        (rttMs === undefined) === (times.length === 0) &&
        (rttMs === undefined || (rttMs >= Math.min(...times) - 1e-9 && rttMs <= Math.max(...times) + 1e-9)) &&
        (state === 'unreachable') === (lastTwo.length === 2 && !lastTwo.some(answered)) &&
        (state === 'unknown') === (lastTwo.length < 2 && !lastTwo.some(answered)) &&
        (state !== 'mtu-too-small' || fits === false) &&
        (fits !== false || kept.filter(({ small }) => small !== undefined).length >= 2)
      );
    }),
  );
});

t.test('only the kept rounds count', async (t) => {
  holds(
    t,
    fc.property(
      rounds,
      fc.array(fc.record({ small: time, full: time }), { minLength: KEPT_ROUNDS, maxLength: KEPT_ROUNDS }),
      (old, last) => JSON.stringify(after(...old, ...last)) === JSON.stringify(after(...last)),
    ),
  );
});
