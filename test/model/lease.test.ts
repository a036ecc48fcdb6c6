// Leases as values: identity, families, and what differs between two snapshots.

import fc from 'fast-check';
import t from 'tap';
import { type Ip, prefix } from '../../model/ip.ts';
import { familiesOf, type Lease, leaseChanges, leaseKey } from '../../model/lease.ts';
import { holds } from './holds.ts';

const lease = (subnet: string, more: Partial<Lease> = {}): Lease => ({
  subnet: { 4: prefix(subnet) },
  publicIp: { 4: '192.0.2.1' as Ip },
  backendType: 'vxlan',
  backendData: { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:01' } },
  ...more,
});

const names = (leases: readonly Lease[]) => leases.map(({ subnet }) => leaseKey(subnet));
const changes = (before: readonly Lease[], after: readonly Lease[]) => {
  const { added, changed, removed } = leaseChanges(before, after);
  return [names(added), names(changed), names(removed)];
};

t.test('a key is the one in etcd', async (t) => {
  t.equal(leaseKey({ 4: prefix('10.5.34.0/24') }), '10.5.34.0-24');
  t.equal(leaseKey({ 6: prefix('fc00::/64') }), 'fc00::-64');
  t.equal(
    leaseKey({ 6: prefix('fc00::/64'), 4: prefix('10.5.34.0/24') }),
    '10.5.34.0-24&fc00::-64',
    'IPv4 first, whatever the order',
  );
  t.equal(leaseKey({}), '');
});

t.test('families that have a value', async (t) => {
  t.strictSame(familiesOf({ 6: 'x', 4: 'y' }), [4, 6]);
  t.strictSame(familiesOf({ 6: 'x', 4: undefined }), [6]);
  t.strictSame(familiesOf({ 4: null, 6: 0 }), [4, 6], 'null and 0 are values');
  t.strictSame(familiesOf({}), []);
});

t.test('added, changed, removed', async (t) => {
  const [a, b] = [lease('10.5.1.0/24'), lease('10.5.2.0/24')];
  t.strictSame(changes([], []), [[], [], []]);
  t.strictSame(changes([], [a, b]), [['10.5.1.0-24', '10.5.2.0-24'], [], []]);
  t.strictSame(changes([a, b], [b]), [[], [], ['10.5.1.0-24']]);
  t.strictSame(changes([a], [b]), [['10.5.2.0-24'], [], ['10.5.1.0-24']]);
  t.strictSame(changes([a, b], [b, a]), [[], [], []], 'the order is no change');
});

t.test('any field is a change: flannel misses a new address or MAC of a known subnet', async (t) => {
  const before = lease('10.5.1.0/24');
  const others: Partial<Lease>[] = [
    { publicIp: { 4: '192.0.2.9' as Ip } },
    { publicIp: { 4: '192.0.2.1' as Ip, 6: 'fd00::1' as Ip } },
    { backendType: 'host-gw' },
    { backendData: { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:02' } } },
    { backendData: {} },
    { nodeId: 'a' },
  ];
  for (const other of others)
    t.strictSame(changes([before], [lease('10.5.1.0/24', other)]), [[], ['10.5.1.0-24'], []], JSON.stringify(other));
});

t.test('how a value is written is no change', async (t) => {
  const before = lease('10.5.1.0/24', { backendData: { 4: { VNI: 1, nested: { a: [1, { b: 2, c: 3 }], d: null } } } });
  const after = lease('10.5.1.0/24', {
    backendData: { 4: { nested: { d: null, a: [1, { c: 3, b: 2 }] }, VNI: 1 } },
    nodeId: undefined,
  });
  t.strictSame(changes([before], [after]), [[], [], []]);
  const reordered = lease('10.5.1.0/24', {
    backendData: { 4: { VNI: 1, nested: { a: [{ b: 2, c: 3 }, 1], d: null } } },
  });
  t.strictSame(changes([before], [reordered]), [[], ['10.5.1.0-24'], []], 'the order of a list is');
});

t.test('the new snapshot is the old one with the changes', async (t) => {
  const one = fc.record({
    number: fc.integer({ min: 0, max: 6 }),
    ip: fc.constantFrom('192.0.2.1', '192.0.2.2'),
    type: fc.constantFrom('vxlan', 'host-gw'),
  });
  const snapshot = fc
    .uniqueArray(one, { selector: ({ number }) => number })
    .map((all) =>
      all.map(({ number, ip, type }) => lease(`10.5.${number}.0/24`, { publicIp: { 4: ip as Ip }, backendType: type })),
    );
  const text = (leases: readonly Lease[]) =>
    leases
      .map((each) => `${leaseKey(each.subnet)} ${each.publicIp[4]} ${each.backendType}`)
      .sort()
      .join();
  holds(
    t,
    fc.property(snapshot, snapshot, (before, after) => {
      const { added, changed, removed } = leaseChanges(before, after);
      const [gone, moved] = [names(removed), names(changed)];
      const kept = before.filter(({ subnet }) => !gone.includes(leaseKey(subnet)) && !moved.includes(leaseKey(subnet)));
      if (text([...kept, ...added, ...changed]) !== text(after)) throw new Error(text([...kept, ...added, ...changed]));
      if (changed.some((each) => before.some((old) => text([old]) === text([each]))))
        throw new Error('a change that is none');
    }),
  );
});
