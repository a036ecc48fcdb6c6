// How peers stand after a run: of several families the worse, and thousands of them a few at a time.

import t from 'tap';
import type { PeerPlan } from '../../flanneld/peer-plan.ts';
import { peerStatuses } from '../../flanneld/peer-status.ts';
import { FAMILIES } from '../../model/ip.ts';
import { leaseKey } from '../../model/lease.ts';
import { finish } from '../../model/slices.ts';
import { peerLease } from './fixtures/world.ts';

const plansOf = (number: number): PeerPlan[] => {
  const lease = peerLease([4, 6], number);
  return FAMILIES.map((family) => ({ key: leaseKey(lease.subnet), lease, family, items: [`${number} ${family}`] }));
};

t.test('one status for a lease, the worse of its families', async (t) => {
  const failures = new Map([['3 6', 'add route: EPERM']]);
  const [two, three, four] = finish(
    peerStatuses(
      [...plansOf(2), ...plansOf(3), ...plansOf(4).map((plan) => ({ ...plan, refused: 'it makes no sense' }))],
      failures,
    ),
  );
  t.match(two, { state: 'programmed', reason: undefined, nodeId: 'node-2' });
  t.match(three, { state: 'failed', reason: 'add route: EPERM' });
  t.match(four, { state: 'refused', reason: 'it makes no sense' });
});

t.test('of thousands, a few at a time', async (t) => {
  const plans = Array.from({ length: 2000 }, () => plansOf(2)).flat();
  const work = peerStatuses(plans, new Map());
  let turns = 1;
  let step = work.next();
  for (; !step.done; step = work.next()) turns++;
  t.equal(step.value.length, 2000, 'in all');
  t.ok(turns > 20, `in ${turns} turns`);
});
