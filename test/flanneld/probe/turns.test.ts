// Whose turn it is: everybody's within each interval, and never too many a second.

import fc from 'fast-check';
import t from 'tap';
import { MOST_PER_SECOND, NO_TURNS, paceOf, takeTurn, type Turns, withTargets } from '../../../flanneld/probe/turns.ts';
import { holds } from '../../model/holds.ts';

interface Named {
  readonly id: string;
}
const named = (ids: readonly number[]): Named[] => ids.map((id) => ({ id: String(id) }));
const some = fc.uniqueArray(fc.integer({ min: 0, max: 30 }));

function take(turns: Turns<Named>, count: number): { readonly taken: string[]; readonly turns: Turns<Named> } {
  const taken: string[] = [];
  let rest = turns;
  for (let left = count; left > 0; left--) {
    const { target, turns } = takeTurn(rest);
    if (target !== undefined) taken.push(target.id);
    rest = turns;
  }
  return { taken, turns: rest };
}

t.test('an interval is shared by all targets, down to the quickest pace', async (t) => {
  t.equal(paceOf(1, 30_000), 30_000);
  t.equal(paceOf(3, 30_000), 10_000);
  t.equal(paceOf(5000, 30_000), 20, 'a large cluster takes longer than the interval');
  t.equal(paceOf(0, 30_000), 30_000);
  holds(
    t,
    fc.property(fc.nat(10_000), fc.integer({ min: 1000, max: 1e8 }), (targets, interval) => {
      const pace = paceOf(targets, interval);
      return (
        1000 / pace <= MOST_PER_SECOND &&
        pace * targets >= interval - 1e-6 * interval * Number(targets > 0) - Number(targets === 0) * interval
      );
    }),
  );
});

t.test('everybody has one turn in each round', async (t) => {
  holds(
    t,
    fc.property(some, fc.nat(50), (ids, skipped) => {
      const started = take(withTargets(NO_TURNS as Turns<Named>, named(ids)), ids.length);
      const later = take(started.turns, skipped).turns;
      const { taken } = take(later, ids.length);
      return started.taken.toSorted().join() === taken.toSorted().join() && new Set(taken).size === ids.length;
    }),
  );
});

t.test('whoever comes goes first, whoever goes has no turn, nobody else is passed over', async (t) => {
  holds(
    t,
    fc.property(some, some, fc.nat(50), (before, after, skipped) => {
      const first = take(withTargets(NO_TURNS as Turns<Named>, named(before)), before.length + skipped).turns;
      const changed = withTargets(first, named(after));
      const fresh = after.filter((id) => !before.includes(id)).map(String);
      const { taken } = take(changed, fresh.length + after.length);
      return (
        taken.slice(0, fresh.length).join() === fresh.join() &&
        new Set(taken.slice(fresh.length)).size === after.length &&
        taken.every((id) => after.includes(Number(id)))
      );
    }),
  );
});
