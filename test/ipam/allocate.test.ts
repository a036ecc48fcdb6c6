// Which addresses are tried and in what order, against a model that lists a small range whole.

import fc from 'fast-check';
import t from 'tap';
import { candidates, demandsOf, exhausted } from '../../ipam/allocate.ts';
import { addressesAfter, type Range, type RangeSet, withDefaults } from '../../ipam/ranges.ts';
import { type Ip, lastOf, type Prefix, plus } from '../../model/ip.ts';
import { seed } from '../support/seed.ts';

fc.configureGlobal({ seed });

const V4 = '10.1.2.0/28' as Prefix;
const V6 = 'fd00::/124' as Prefix;
const first = (count: number, of: Iterable<{ readonly ip: Ip }>): Ip[] => {
  const found: Ip[] = [];
  for (const { ip } of of) if (found.push(ip) === count) break;
  return found;
};

/** Ranges of up to 14 addresses, their bounds and gateway anywhere in 16. */
const range = (subnet: Prefix): fc.Arbitrary<Range> =>
  fc
    .tuple(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 0, max: 13 }), fc.integer({ min: 0, max: 15 }))
    .map(([start, span, gateway]) =>
      withDefaults({
        subnet,
        rangeStart: at(subnet, start),
        rangeEnd: at(subnet, Math.min(start + span, 15)),
        gateway: at(subnet, gateway),
      }),
    );

const at = (subnet: Prefix, offset: number): Ip => plus(subnet.split('/')[0] as Ip, BigInt(offset));

const set: fc.Arbitrary<RangeSet> = fc.oneof(
  fc.tuple(range(V4)),
  fc.tuple(range(V6)),
  fc.tuple(range(V4), range('10.9.9.0/28' as Prefix)),
  fc.tuple(range(V6), range('fd00:9::/124' as Prefix)),
);

/** Every address of a set that may be handed out, in order. */
function listed(ranges: RangeSet): Ip[] {
  return ranges.flatMap(({ subnet, start, end, gateway }) => {
    const all = Array.from({ length: 16 }, (_, offset) => at(subnet, offset));
    const inside = all.slice(all.indexOf(start), all.indexOf(end) + 1);
    return inside.filter((ip) => ip !== gateway && !(ip.includes('.') && ip === lastOf(subnet)));
  });
}

/** As host-local goes round: from behind `last`, wherever that lies within the set. */
function rotated(ranges: RangeSet, last: Ip): Ip[] {
  const all = ranges.flatMap(({ subnet, start, end }) => {
    const whole = Array.from({ length: 16 }, (_, offset) => at(subnet, offset));
    return whole.slice(whole.indexOf(start), whole.indexOf(end) + 1);
  });
  const index = all.indexOf(last);
  const may = new Set(listed(ranges));
  return [...all.slice(index + 1), ...all.slice(0, index + 1)].filter((ip) => may.has(ip));
}

t.test('every address once, from the one after the last reserved', async (t) => {
  fc.assert(
    fc.property(set, fc.nat(1), fc.nat(15), (ranges, which, offset) => {
      const { subnet } = ranges[which % ranges.length] as Range;
      const last = at(subnet, offset);
      t.strictSame(
        [...addressesAfter(ranges, last)].map(({ ip }) => ip),
        rotated(ranges, last),
      );
    }),
  );
});

t.test('without a last reserved address, or one of another set: from the start', async (t) => {
  fc.assert(
    fc.property(set, (ranges) => {
      t.strictSame(
        [...addressesAfter(ranges, undefined)].map(({ ip }) => ip),
        listed(ranges),
      );
      t.strictSame(
        [...addressesAfter(ranges, '192.0.2.1' as Ip)].map(({ ip }) => ip),
        listed(ranges),
      );
    }),
  );
});

t.test('allocating and freeing at random never hands out a taken address, nor none while one is free', async (t) => {
  fc.assert(
    fc.property(set, fc.array(fc.nat(40), { maxLength: 60 }), (ranges, moves) => {
      const all = listed(ranges);
      const taken = new Set<Ip>();
      let last: Ip | undefined;
      for (const move of moves) {
        const victim = [...taken][move];
        if (victim !== undefined) taken.delete(victim);
        else {
          const [demand] = demandsOf([ranges], []);
          const next = candidates(demand as never, last, (ip) => taken.has(ip)).next().value;
          const model = (last === undefined ? all : rotated(ranges, last)).find((ip) => !taken.has(ip));
          t.equal(next?.ip, model);
          if (next !== undefined) taken.add(next.ip);
          last = next?.ip ?? last;
        }
      }
    }),
  );
});

t.test('the network and both ends of 2^64 addresses without walking them', async (t) => {
  const whole = withDefaults({ subnet: 'fd00::/64' as Prefix });
  t.strictSame(first(2, addressesAfter([whole], undefined)), ['fd00::2', 'fd00::3']);
  const end = 'fd00::ffff:ffff:ffff:fffe' as Ip;
  t.strictSame(first(3, addressesAfter([whole], end)), ['fd00::ffff:ffff:ffff:ffff', 'fd00::2', 'fd00::3']);
});

t.test('an explicit end does not make the broadcast address one to hand out; IPv6 has none', async (t) => {
  const ends = (subnet: string, rangeStart: string, rangeEnd: string) =>
    [
      ...addressesAfter(
        [withDefaults({ subnet: subnet as Prefix, rangeStart: rangeStart as Ip, rangeEnd: rangeEnd as Ip })],
        undefined,
      ),
    ].map(({ ip }) => ip);
  t.strictSame(ends('10.1.2.0/24', '10.1.2.254', '10.1.2.255'), ['10.1.2.254']);
  t.strictSame(ends('fd00::/120', 'fd00::fe', 'fd00::ff'), ['fd00::fe', 'fd00::ff']);
});

t.test('requested addresses go to the set that spans them, one each', async (t) => {
  const sets = [[withDefaults({ subnet: V4 })], [withDefaults({ subnet: V6 })]];
  const wanted = (...ips: string[]) => demandsOf(sets, ips as Ip[]).map(({ requested }) => requested?.address);
  t.strictSame(wanted(), [undefined, undefined]);
  t.strictSame(wanted('fd00::5'), [undefined, 'fd00::5/124']);
  t.strictSame(wanted('fd00::5', '10.1.2.7'), ['10.1.2.7/28', 'fd00::5/124']);
  t.throws(() => wanted('10.1.2.1'), { code: 'address-taken', subject: '10.1.2.1' });
  t.throws(() => wanted('10.1.2.7', '10.1.2.8'), { code: 'invalid-config', subject: '10.1.2.8' });
  t.throws(
    () => wanted('10.1.2.0'),
    { code: 'invalid-config', subject: '10.1.2.0' },
    'the network address is in no range',
  );
});

t.test('the failure names the ranges, or the address that was requested', async (t) => {
  const sets = [[withDefaults({ subnet: V4 }), withDefaults({ subnet: '10.9.9.0/28' as Prefix })]];
  const [any] = demandsOf(sets, []);
  const [one] = demandsOf(sets, ['10.9.9.4' as Ip]);
  const name = '10.1.2.1-10.1.2.14,10.9.9.1-10.9.9.14';
  t.match(exhausted(any as never), {
    code: 'no-addresses',
    message: `no IP addresses available in range set: ${name}`,
  });
  t.match(exhausted(one as never), {
    code: 'address-taken',
    message: `requested IP address 10.9.9.4 is not available in range set ${name}`,
  });
});
