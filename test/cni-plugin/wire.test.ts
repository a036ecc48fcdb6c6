// Messages between the client and the agent: what is encoded is decoded, in whatever pieces it comes, and nothing else is.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { decode, encode, type Message, MAX_MESSAGE_BYTES, messageReader, type NetnsId } from '../../cni-plugin/wire.ts';
import { hasCode } from '../../model/errors.ts';
import { count } from '../support/count.ts';
import { seed } from '../support/seed.ts';

const numRuns = count(20_000);

const text = fc.string({ unit: 'grapheme', maxLength: 200 });
const variables = fc
  .array(fc.tuple(fc.stringMatching(/^CNI_[A-Z_]{1,20}$/), text), { maxLength: 8 })
  .map((pairs) => Object.fromEntries(pairs));
const netns = fc.option(
  fc.tuple(fc.nat(), fc.nat()).map(([device, inode]): NetnsId => `${device}:${inode}`),
  { nil: undefined },
);
const plain = { noNullPrototype: true };
const spooled = fc.option(fc.record({ bootId: fc.uuid(), at: fc.nat({ max: 4e12 }) }, plain), { nil: undefined });
const ending = { status: fc.nat(255), output: text, errors: text };
const kind = <K extends Message['kind']>(name: K): fc.Arbitrary<K> => fc.constant(name);
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record(
    {
      kind: kind('request'),
      name: text,
      environment: variables,
      input: text,
      podNetns: netns,
      ownNetns: netns,
      call: fc.option(fc.stringMatching(/^[0-9a-f]{1,64}$/), { nil: undefined }),
      spooled,
    },
    plain,
  ),
  fc.record({ kind: kind('execute'), plugin: text, environment: variables, input: text }, plain),
  fc.record({ kind: kind('result'), ...ending }, plain),
  fc.record({ kind: kind('executed'), ...ending }, plain),
);

const block = (kind: number, ...parts: readonly Uint8Array[]): Buffer => {
  const bytes = Buffer.concat(parts);
  const head = Buffer.alloc(5, kind);
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
};
const status = (value: number): Buffer => block(6, Uint8Array.of(value & 255, value >> 8, 0, 0));
const RESULT = [status(0), block(7), block(8)];

t.test('a message is decoded as it was encoded', async () => {
  fc.assert(
    fc.property(message, (sent) => deepStrictEqual(decode(encode(sent)), sent)),
    { seed, numRuns },
  );
});

t.test('messages in a stream, in any pieces', async () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.nat(2000), { maxLength: 30 }), (sent, cuts) => {
      const stream = Buffer.concat(sent.map(encode));
      const read = messageReader();
      const ends = [...cuts.map((cut) => Math.min(cut, stream.length)).sort((a, b) => a - b), stream.length];
      const found = ends.flatMap((end, i) => read(stream.subarray(i === 0 ? 0 : ends[i - 1], end)));
      deepStrictEqual(found, sent);
    }),
    { seed, numRuns },
  );
});

t.test('a large message byte by byte', async (t) => {
  const sent: Message = { kind: 'result', status: 1, output: 'x'.repeat(300_000), errors: '' };
  const read = messageReader();
  const found: Message[] = [];
  for (const byte of encode(sent)) found.push(...read(Uint8Array.of(byte)));
  t.strictSame(found, [sent]);
});

/** The bytes give messages or an error of this code, never anything else. */
function survives(bytes: Uint8Array): boolean {
  for (const read of [decode, messageReader()]) {
    try {
      read(bytes);
    } catch (error) {
      if (!hasCode(error, 'decoding')) throw error;
    }
  }
  return true;
}

t.test('any bytes are refused by an error of ours', async () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), survives), { seed, numRuns });
});

t.test('messages with a few bytes changed, removed or added', async () => {
  const change = fc.record({ at: fc.nat(), remove: fc.nat(3), add: fc.uint8Array({ maxLength: 3 }) });
  fc.assert(
    fc.property(message, fc.array(change, { minLength: 1, maxLength: 4 }), (sent, changes) => {
      let bytes = encode(sent);
      for (const { at, remove, add } of changes) {
        const place = at % (bytes.length + 1);
        bytes = Buffer.concat([bytes.subarray(0, place), add, bytes.subarray(place + remove)]);
      }
      return survives(bytes);
    }),
    { seed, numRuns },
  );
});

t.test('what is refused', async (t) => {
  const refused: Readonly<Record<string, Uint8Array>> = {
    'no bytes': Buffer.alloc(0),
    'part of a head': Buffer.from([2, 0, 0]),
    'less than a message': block(2, ...RESULT).subarray(0, -1),
    'more than a message': Buffer.concat([block(2, ...RESULT), Buffer.alloc(1)]),
    'an unknown kind': block(9, ...RESULT),
    'a field beyond the end': block(2, ...RESULT, Buffer.from([7, 1, 0, 0, 0])),
    'a field without its head': block(2, ...RESULT, Buffer.from([7, 1])),
    'a field that is missing': block(2, status(0), block(7)),
    'a field twice': block(2, ...RESULT, block(7)),
    'a status over 255': block(2, status(256), block(7), block(8)),
    'a status of 2 bytes': block(2, block(6, Buffer.alloc(2)), block(7), block(8)),
    'a variable without a value': block(3, block(9), block(2, Buffer.from('CNI_ARGS')), block(3)),
    'a variable without a name': block(3, block(9), block(2, Buffer.from('=1')), block(3)),
    'a namespace that is a word': block(1, block(1), block(3), block(4, Buffer.from('host'))),
    'a call that is a word': block(1, block(1), block(3), block(12, Buffer.from('again'))),
    'a time without a boot id': block(1, block(1), block(3), block(11, Buffer.from('1.000000000'))),
    'a time that is a word': block(1, block(1), block(3), block(10), block(11, Buffer.from('now'))),
  };
  for (const [name, bytes] of Object.entries(refused)) t.throws(() => decode(bytes), { code: 'decoding' }, name);
});

t.test('a message that is too long is refused by its head, and not sent', async (t) => {
  const head = Buffer.alloc(5, 2);
  head.writeUInt32LE(MAX_MESSAGE_BYTES + 1, 1);
  t.throws(() => messageReader()(head), { code: 'decoding' });
  const output = 'x'.repeat(MAX_MESSAGE_BYTES);
  t.throws(() => encode({ kind: 'result', status: 0, output, errors: '' }), { code: 'internal' });
});

t.test('a field of an unknown kind is ignored', async (t) => {
  const newer = block(2, ...RESULT, block(99, Buffer.from('from the future')));
  t.strictSame(decode(newer), { kind: 'result', status: 0, output: '', errors: '' });
});

t.test('the first of two variables with one name counts, and a value may hold anything', async (t) => {
  const pairs = ['CNI_ARGS=a=b\n"', 'CNI_ARGS=second', 'CNI_PATH='].map((pair) => block(2, Buffer.from(pair)));
  const found = decode(block(3, block(9), ...pairs, block(3)));
  t.match(found, { environment: { CNI_ARGS: 'a=b\n"', CNI_PATH: '' } });
});

t.test('text that is not UTF-8', async (t) => {
  const found = decode(block(2, status(0), block(7, Uint8Array.of(0x61, 0xff)), block(8)));
  t.match(found, { output: 'a\ufffd' });
});
