// Which peers count, snapshot by snapshot.

import fc from 'fast-check';
import t from 'tap';
import { type KnownPeers, learn, mayRemove, noPeers, peerChanges, settle } from '../../flanneld/known-peers.ts';
import { leaseKey } from '../../model/lease.ts';
import { seed } from '../support/seed.ts';
import { ourLease, peerLease } from './fixtures/world.ts';

fc.configureGlobal({ seed });

const GRACE = 60_000;
const own = ourLease([4]);
const [b, c, d] = [2, 3, 4].map((number) => peerLease([4], number)) as [typeof own, typeof own, typeof own];
const keys = ({ peers }: KnownPeers) => peers.map(({ subnet }) => leaseKey(subnet));

t.test('a snapshot with our lease is the truth', async (t) => {
  const known = learn(learn(noPeers(), { own, peers: [b, c] }, 0, GRACE), { own, peers: [c, d] }, 1, GRACE);
  t.same([keys(known), known.missing, mayRemove(known, 1)], [['10.244.3.0-24', '10.244.4.0-24'], 0, true]);
});

t.test('one without it forgets nobody, for a while', async (t) => {
  const before = learn(noPeers(), { own, peers: [b, c] }, 0, GRACE);
  const wiped = learn(before, { own: undefined, peers: [] }, 1000, GRACE);
  t.same([keys(wiped), wiped.missing, mayRemove(wiped, 60_999)], [['10.244.2.0-24', '10.244.3.0-24'], 2, false]);
  const ours = learn(wiped, { own, peers: [] }, 2000, GRACE);
  t.same(keys(ours), keys(before), 'also when ours is there again');
  const changed = { ...b, backendData: { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:22' } } };
  const partly = learn(ours, { own, peers: [d, changed] }, 3000, GRACE);
  t.same(keys(partly), ['10.244.4.0-24', '10.244.2.0-24', '10.244.3.0-24'], 'those in the snapshot come first');
  t.equal(partly.peers[1], changed, 'as they are now');
  t.equal(settle(partly, 60_999), partly);
  t.same(keys(settle(partly, 61_000)), ['10.244.4.0-24', '10.244.2.0-24']);
  t.ok(mayRemove(partly, 61_000));
  const late = learn(partly, { own, peers: [d] }, 70_000, GRACE);
  t.same(keys(late), ['10.244.4.0-24'], 'after the grace period a snapshot is the truth again');
});

t.test('each snapshot without our lease starts the grace period anew', async (t) => {
  const first = learn(noPeers(), { own: undefined, peers: [b] }, 0, GRACE);
  const second = learn(first, { own: undefined, peers: [b] }, 50_000, GRACE);
  t.notOk(mayRemove(second, 100_000));
});

t.test('a store that is not believed from the start', async (t) => {
  const known = learn(noPeers(60_000), { own, peers: [] }, 0, GRACE);
  t.notOk(mayRemove(known, 59_999));
});

t.test('what came or changed, and what is gone, in whatever order', async (t) => {
  const leases = Array.from({ length: 12 }, (_, number) => peerLease([4], number));
  const some = fc.shuffledSubarray(leases);
  const replaced = fc.subarray(leases);
  fc.assert(
    fc.property(some, some, replaced, (before, now, changed) => {
      const after = now.map((lease) => (changed.includes(lease) ? { ...lease } : lease));
      const { fresh, departed } = peerChanges(before, after);
      t.same(new Set(fresh), new Set(after.filter((lease) => !before.includes(lease))));
      t.same(new Set(departed), new Set(before.filter((lease) => !now.includes(lease))));
    }),
  );
});
