// Messages to bytes and back; bytes of others; and what is no message is a RangeError, never a wrong value or a loop.

import fc from 'fast-check';
import t from 'tap';
import { decode, encode, Repeated, Shape } from '../../../flanneld/subnet/etcd-protobuf.ts';
import { METHODS } from '../../../flanneld/subnet/etcd-methods.ts';
import { seed } from '../../support/seed.ts';

fc.configureGlobal({ seed });

const INNER = new Shape({ key: [1, 'bytes'], count: [2, 'int64'] });
const OUTER = new Shape({
  text: [1, 'text'],
  flag: [3, 'bool'],
  kind: [4, ['Put', 'Delete']],
  number: [15, 'int64'],
  far: [16, 'int64'],
  one: [17, INNER],
  many: [2047, new Repeated(INNER)],
});

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String);
const inner = fc.record({ key: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)), count: int64 });
const outer = fc.record({
  text: fc.string({ unit: 'grapheme' }),
  flag: fc.boolean(),
  kind: fc.constantFrom('Put', 'Delete'),
  number: int64,
  far: int64,
  one: fc.option(inner, { nil: undefined }),
  many: fc.array(inner, { maxLength: 5 }),
});

t.test('what was encoded is decoded', async (t) => {
  fc.assert(
    fc.property(outer, (message) => {
      t.same(decode(OUTER, encode(OUTER, message)), message);
    }),
  );
});

t.test('bytes as the specification and etcd have them', async (t) => {
  const number = new Shape({ a: [1, 'int64'] });
  t.equal(encode(number, { a: 150 }).toString('hex'), '089601');
  t.equal(encode(number, { a: -1 }).toString('hex'), '08ffffffffffffffffff01');
  t.same(decode(number, Buffer.from('08ffffffffffffffffff01', 'hex')), { a: '-1' });
  const range = { key: Buffer.from('a'), range_end: Buffer.from('b'), count_only: true };
  t.equal(encode(METHODS.range.request, range).toString('hex'), '0a0161' + '120162' + '4801');
});

t.test('what is absent has its default, what is unknown is passed over', async (t) => {
  const empty = { text: '', flag: false, kind: 'Put', number: '0', far: '0', one: undefined, many: [] };
  t.same(decode(OUTER, Buffer.alloc(0)), empty);
  const unknown = Buffer.from('2807' + '310102030405060708' + '3a03616263' + '4501020304', 'hex');
  t.same(decode(OUTER, unknown), empty, 'a number, eight bytes, a text, four bytes');
  t.same(decode(OUTER, Buffer.from('0801', 'hex')), empty, 'a known number with another kind of value');
  t.throws(() => encode(OUTER, { txet: '' }), { message: /txet/ });
});

t.test('what is no message', async (t) => {
  for (const hex of [
    '08',
    '0a',
    '0a05',
    '0a0561',
    '8a0108' + '0a0461',
    '8a0102' + '0a04616263',
    '07',
    `08${'ff'.repeat(11)}`,
  ])
    t.throws(() => decode(OUTER, Buffer.from(hex, 'hex')), RangeError, hex);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decode(OUTER, Buffer.from(bytes));
      } catch (error) {
        t.type(error, RangeError);
      }
    }),
  );
});
