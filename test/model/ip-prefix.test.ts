// Prefixes against the naive implementation and against arithmetic on numbers.

import fc from 'fast-check';
import t from 'tap';
import {
  addressOf,
  contains,
  firstOf,
  hostPrefix,
  lastOf,
  lengthOf,
  networkOf,
  overlaps,
  type Prefix,
  sizeOf,
  tryPrefix,
  withLength,
} from '../../model/ip.ts';
import { holds } from './holds.ts';
import { address, naive, naivePrint, scraps, subnet } from './naive-ip.ts';

t.test('prefixes: first, last, size, parts', async (t) => {
  holds(
    t,
    fc.property(subnet, ({ family: of, value, length, bits, text }) => {
      const size = 1n << BigInt(bits - length);
      const first = value - (value % size);
      const results = [
        [addressOf(text), naivePrint(of, value)],
        [lengthOf(text), length],
        [firstOf(text), naivePrint(of, first)],
        [lastOf(text), naivePrint(of, first + size - 1n)],
        [networkOf(text), `${naivePrint(of, first)}/${length}`],
        [sizeOf(text), size],
        [withLength(addressOf(text), length), text],
        [hostPrefix(addressOf(text)), `${naivePrint(of, value)}/${bits}`],
      ] as const;
      for (const [found, expected] of results)
        if (found !== expected) throw new Error(`${text}: ${found}, not ${expected}`);
    }),
  );
});

/** A pair that has something to do with each other: the second starts near the first one's edges. */
const related = subnet.chain((a) => {
  const size = 1n << BigInt(a.bits - a.length);
  const limit = (1n << BigInt(a.bits)) - 1n;
  const near = fc.constantFrom(
    a.value,
    a.value - (a.value % size) - 1n,
    a.value - (a.value % size),
    a.value - (a.value % size) + size - 1n,
    a.value - (a.value % size) + size,
  );
  return fc.tuple(fc.constant(a), near, fc.integer({ min: 0, max: a.bits })).map(([, at, length]) => {
    const value = at < 0n ? 0n : at > limit ? limit : at;
    return [a, { ...a, value, length, text: `${naivePrint(a.family, value)}/${length}` as Prefix }] as const;
  });
});

t.test('contains and overlaps are statements about numbers', async (t) => {
  holds(
    t,
    fc.property(fc.oneof(related, fc.tuple(subnet, subnet)), ([a, b]) => {
      const span = ({ value, length, bits }: typeof a) => {
        const size = 1n << BigInt(bits - length);
        return [value - (value % size), value - (value % size) + size - 1n] as const;
      };
      const same = a.family === b.family;
      const [[from, to], [from2, to2]] = [span(a), span(b)];
      const expected = [
        same && from <= from2 && to2 <= to,
        same && from <= b.value && b.value <= to,
        same && from <= to2 && from2 <= to,
      ];
      const found = [contains(a.text, b.text), contains(a.text, addressOf(b.text)), overlaps(a.text, b.text)];
      if (found.join() !== expected.join()) throw new Error(`${a.text} ${b.text}: ${found}, not ${expected}`);
      if (overlaps(b.text, a.text) !== overlaps(a.text, b.text)) throw new Error('overlaps is symmetric');
    }),
  );
});

t.test('prefixes as text', async (t) => {
  holds(
    t,
    fc.property(
      fc.oneof(
        address.map(({ text }) => text),
        scraps,
      ),
      fc.oneof(
        fc.integer({ min: -2, max: 140 }).map(String),
        fc.constantFrom('', '01', '+1', '1.0', '24 ', '0x8', '1e1'),
      ),
      (text, length) => {
        const known = text.length > 45 ? undefined : naive(text);
        const limit = text.includes(':') ? 128 : 32;
        const good =
          known !== undefined && String(Number(length)) === length && /^\d+$/.test(length) && Number(length) <= limit;
        const expected = good ? `${known}/${length}` : undefined;
        const found = tryPrefix(`${text}/${length}`);
        if (found !== expected) throw new Error(`${text}/${length}: ${found}, not ${expected}`);
      },
    ),
  );
  t.equal(tryPrefix('10.0.0.1'), undefined, 'a length is required');
  t.equal(tryPrefix('10.0.0.1/24/24'), undefined);
  t.equal(tryPrefix(24), undefined);
});
