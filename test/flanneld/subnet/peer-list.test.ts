// Peers of a store as a list that changes in few places.

import fc from 'fast-check';
import t from 'tap';
import { createPeerList } from '../../../flanneld/subnet/peer-list.ts';
import type { Lease } from '../../../model/lease.ts';
import { seed } from '../../support/seed.ts';
import { peerLease } from '../fixtures/world.ts';

fc.configureGlobal({ seed });

const KEYS = 12;

t.test('holds what it was told, and a change moves one lease at most', async (t) => {
  const change = fc.record({ key: fc.nat(KEYS - 1), goes: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const list = createPeerList();
      const held = new Map<number, Lease>();
      for (const { key, goes } of changes) {
        const before = list.all();
        const now = goes ? undefined : { ...peerLease([4], key) };
        list.change(held.get(key), now);
        if (now === undefined) held.delete(key);
        else held.set(key, now);
        const after = list.all();
        t.same(new Set(after), new Set(held.values()));
        t.equal(after.length, held.size);
        const different = after.filter((lease, place) => lease !== before[place]);
        t.ok(different.length <= 1);
      }
    }),
  );
});

t.test('a list that was told is never changed, and is the same one while nothing changes', async (t) => {
  const list = createPeerList();
  const lease = peerLease([4], 1);
  list.change(undefined, lease);
  const told = list.all();
  list.change(lease, lease);
  t.equal(list.all(), told);
  list.change(lease, undefined);
  t.same([told, list.all()], [[lease], []]);
});
