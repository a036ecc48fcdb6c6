// Addresses against the naive implementation.

import fc from 'fast-check';
import t from 'tap';
import {
  bitsOf,
  compare,
  defaultPrefix,
  FAMILIES,
  familyOf,
  fromBytes,
  fromNumber,
  type Ip,
  ip,
  mac,
  macBytes,
  macOf,
  multicast,
  plus,
  prefix,
  toBytes,
  toNumber,
  tryIp,
  tryMac,
} from '../../model/ip.ts';
import { holds } from './holds.ts';
import { address, naive, naivePrint, number, scraps } from './naive-ip.ts';

/** An address with one character added, removed or changed. */
const damaged = fc
  .tuple(address, fc.nat(40), fc.nat(2), fc.constantFrom('0', 'f', ':', '.', '/', 'g', ' ', ''))
  .map(([{ text }, at, cut, put]) => {
    const where = at % (text.length + 1);
    return text.slice(0, where) + put + text.slice(where + cut);
  });
/** Other spellings of an IPv6 address: upper case, leading zeros, no or another "::", a dotted quad at the end. */
const spelled = fc.tuple(number(6), fc.boolean(), fc.boolean(), fc.boolean()).map(([value, upper, padded, quad]) => {
  const hex = Array.from({ length: 8 }, (_, at) =>
    ((value >> BigInt(112 - 16 * at)) & 0xffffn).toString(16).padStart(padded ? 4 : 1, '0'),
  );
  const text = quad ? [...hex.slice(0, 6), naivePrint(4, value & 0xffffffffn)].join(':') : hex.join(':');
  return upper ? text.toUpperCase() : text;
});

t.test('addresses are told from other text as by the naive implementation, and printed as RFC 5952 says', async (t) => {
  holds(
    t,
    fc.property(
      fc.oneof(
        scraps,
        damaged,
        spelled,
        address.map(({ text }) => text),
        fc.string(),
      ),
      (text) => {
        const [found, expected] = [tryIp(text), text.length > 45 ? undefined : naive(text)];
        if (found !== expected) throw new Error(`${JSON.stringify(text)}: ${found}, not ${expected}`);
      },
    ),
  );
  for (const value of [undefined, null, 1, {}, ['1.2.3.4'], new String('1.2.3.4')]) t.equal(tryIp(value), undefined);
});

t.test('spellings people use', async (t) => {
  const spellings: readonly (readonly [string, string | undefined])[] = [
    ['10.0.0.1', '10.0.0.1'],
    ['010.0.0.1', undefined],
    ['10.0.1', undefined],
    ['10.0.0.1/24', undefined],
    ['0x0a000001', undefined],
    ['FD00:0:0:0::0001', 'fd00::1'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['fe80::1%eth0', undefined],
    ['[::1]', undefined],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::', '::'],
    [' ::1', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of spellings) t.equal(tryIp(text), expected, text);
});

t.test('numbers, bytes and text are one', async (t) => {
  holds(
    t,
    fc.property(address, ({ family: of, value, text }) => {
      if (familyOf(text) !== of) throw new Error('family');
      if (toNumber(text) !== value) throw new Error('toNumber');
      if (fromNumber(of, value) !== text) throw new Error('fromNumber');
      const bytes = toBytes(text);
      const expected = Array.from({ length: of === 4 ? 4 : 16 }, (_, at) =>
        Number((value >> BigInt(8 * ((of === 4 ? 3 : 15) - at))) & 255n),
      );
      if (bytes.join() !== expected.join()) throw new Error(`toBytes: ${bytes}`);
      if (fromBytes(bytes) !== text) throw new Error('fromBytes');
      if (ip(text) !== text || tryIp(text) !== text) throw new Error('canonical text is its own canonical text');
    }),
  );
});

t.test('outside of a family', async (t) => {
  for (const [of, value] of [
    [4, -1n],
    [4, 1n << 32n],
    [6, -1n],
    [6, 1n << 128n],
  ] as const) {
    t.throws(() => fromNumber(of, value), { name: 'NetError', code: 'invalid-address' }, `${value}`);
  }
  t.throws(() => plus('255.255.255.255' as Ip, 1n), { code: 'invalid-address' });
  t.throws(() => plus('::' as Ip, -1n), { code: 'invalid-address' });
  for (const length of [0, 3, 5, 15, 17])
    t.throws(() => fromBytes(new Uint8Array(length)), { code: 'invalid-address' }, `${length} bytes`);
});

t.test('sums and order are those of the numbers', async (t) => {
  holds(
    t,
    fc.property(address, address, fc.bigInt({ min: -70_000n, max: 70_000n }), (a, b, offset) => {
      const sum = a.value + offset;
      if (sum >= 0n && sum < 1n << BigInt(bitsOf(a.family)) && plus(a.text, offset) !== naivePrint(a.family, sum))
        throw new Error('plus');
      const order = a.family !== b.family ? a.family - b.family : a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
      if (Math.sign(compare(a.text, b.text)) !== Math.sign(order)) throw new Error(`compare ${a.text} ${b.text}`);
    }),
  );
});

t.test('Ethernet addresses', async (t) => {
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), fc.boolean(), (bytes, upper) => {
      const text = [...bytes].map((byte) => (byte < 16 ? '0' : '') + byte.toString(16)).join(':');
      if (macOf(bytes) !== text || tryMac(upper ? text.toUpperCase() : text) !== text) throw new Error(text);
      if (macBytes(mac(text)).join() !== bytes.join()) throw new Error(`bytes of ${text}`);
    }),
  );
  for (const text of [
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:00:00',
    '02-00-00-00-00-00',
    '2:0:0:0:0:0',
    '02:00:00:00:00:0g',
    ' 02:00:00:00:00:00',
    '02:00:00:00:00:00\n',
    2,
  ]) {
    t.equal(tryMac(text), undefined, JSON.stringify(text));
  }
});

t.test('what is refused is named', async (t) => {
  const shout = (make: (text: unknown) => unknown, text: unknown, words: string) =>
    t.throws(() => make(text), { name: 'NetError', code: 'invalid-address', message: words });
  shout(ip, '10.0.0', '"10.0.0" is not an IP address');
  shout(ip, undefined, 'undefined is not an IP address');
  shout(ip, 'a"b\n', '"a\\"b\\n" is not an IP address');
  shout(prefix, '10.0.0.1', '"10.0.0.1" is not an address with prefix length');
  shout(mac, 'xx', '"xx" is not an Ethernet address');
});

t.test('constants of the families', async (t) => {
  t.strictSame(FAMILIES, [4, 6]);
  t.strictSame(FAMILIES.map(defaultPrefix), ['0.0.0.0/0', '::/0']);
  t.strictSame(FAMILIES.map(multicast), ['224.0.0.0/4', 'ff00::/8']);
  t.strictSame(FAMILIES.map(bitsOf), [32, 128]);
});
