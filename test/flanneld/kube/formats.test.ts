// Lists and watches come out the same whether they are told as JSON or as Protocol Buffers, wherever they are torn.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { formatOf } from '../../../flanneld/kube/formats.ts';
import { LIST_META, NODE, POD, STATUS } from '../../../flanneld/kube/messages.ts';
import { decode, type Message } from '../../../flanneld/kube/protobuf.ts';
import { encode, enveloped, field, frameOf, listOf, varint } from '../../support/protobuf.ts';
import { seed } from '../../support/seed.ts';

fc.configureGlobal({ seed });

const PROTOBUF = 'application/vnd.kubernetes.protobuf;stream=watch';
const MOST = 1 << 20;

/** In JSON, too, an empty text is left out. */
const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }).map((each) => Buffer.from(each).toString());
const some = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 1, maxLength: 4 });
const labels = fc
  .dictionary(
    text.filter((key) => key !== '__proto__'),
    fc.string(),
    { minKeys: 1, maxKeys: 4, noNullPrototype: true },
  )
  .map((each) => JSON.parse(JSON.stringify(each)) as Record<string, string>);
const records = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { requiredKeys: [], noNullPrototype: true });
const port = records({ name: text, containerPort: fc.nat(65_535), protocol: text });
const container = records({ ports: some(port) });
const pod = records({
  metadata: records({ name: text, namespace: text, uid: text, resourceVersion: text, labels }),
  spec: records({
    nodeName: text,
    hostNetwork: fc.boolean(),
    containers: some(container),
    initContainers: some(container),
  }),
  status: records({ phase: text, podIP: text, podIPs: some(records({ ip: text })) }),
});
const node = records({
  metadata: records({ name: text, uid: text, annotations: labels }),
  spec: records({ podCIDR: text, podCIDRs: some(text) }),
});
const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 });

function* torn(bytes: Buffer, pieces: readonly number[]): Generator<Buffer> {
  for (let [at, turn] = [0, 0]; at < bytes.length; turn++) {
    const size = pieces[turn % pieces.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

function list(bytes: Buffer, type: string, message: Message, pieces: readonly number[]) {
  const reader = formatOf(type, message).list(MOST);
  const items: unknown[] = [];
  for (const piece of torn(bytes, pieces)) items.push(...reader.push(piece));
  return { items, rest: reader.rest() };
}

function watch(bytes: Buffer, type: string, message: Message, pieces: readonly number[]): unknown[] {
  const read = formatOf(type, message).events(MOST);
  return [...torn(bytes, pieces)].flatMap((piece) => read(piece));
}

for (const [name, message, object] of [
  ['Pods', POD, pod],
  ['Nodes', NODE, node],
] as [string, Message, fc.Arbitrary<Record<string, unknown>>][]) {
  t.test(`lists and watches of ${name}`, async () => {
    const metadata = { resourceVersion: '7', continue: 'more' };
    fc.assert(
      fc.property(fc.array(object, { maxLength: 5 }), sizes, (objects, pieces) => {
        const packed = objects.map((each) => encode(each, message));
        deepStrictEqual(list(listOf(packed, encode(metadata, LIST_META)), PROTOBUF, message, pieces), {
          items: objects,
          rest: { metadata },
        });
        const events = objects.map((each) => ({ type: 'ADDED', object: each }));
        const frames = Buffer.concat(packed.map((each) => frameOf('ADDED', each)));
        deepStrictEqual(watch(frames, PROTOBUF, message, pieces), events);
        const lines = Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
        deepStrictEqual(watch(lines, 'application/json', message, pieces), JSON.parse(JSON.stringify(events)));
      }),
      { numRuns: 50 },
    );
  });
}

t.test('what is empty is left out, a label is not', async (t) => {
  const bytes = Buffer.concat([
    field(
      1,
      Buffer.concat([field(1, 'one'), field(3, ''), field(11, field(1, 'a')), field(11, field(1, '__proto__'))]),
    ),
    field(2, field(10, '')),
  ]);
  t.strictSame(decode(bytes, POD), { metadata: { name: 'one', labels: { a: '' } }, spec: {} });
});

t.test('an error of a watch, and what a refusal says', async (t) => {
  const status = { message: 'too old resource version', code: 410 };
  const frame = frameOf('ERROR', encode(status, STATUS));
  t.strictSame(watch(frame, PROTOBUF, POD, [9]), [{ type: 'ERROR', object: status }]);
  t.strictSame(formatOf(PROTOBUF, POD).status(enveloped(encode(status, STATUS))), status);
  t.strictSame(formatOf('application/json', POD).status(Buffer.from('{"code":403}')), { code: 403 });
});

t.test('what is torn off, too long, or none of Kubernetes', async (t) => {
  const whole = listOf([encode({ metadata: { name: 'x'.repeat(500) } }, POD)], encode({}, LIST_META));
  for (let length = 0; length < whole.length - field(3, '').length * 2; length++)
    t.throws(() => list(whole.subarray(0, length), PROTOBUF, POD, [64]), RangeError);
  t.throws(() => formatOf(PROTOBUF, POD).list(100).push(whole), RangeError);
  t.throws(() => formatOf(PROTOBUF, POD).events(100)(frameOf('ADDED', Buffer.alloc(200))), RangeError);
  t.throws(() => list(Buffer.from('{"kind":"PodList"}'), PROTOBUF, POD, [5]), RangeError);
  t.throws(() => decode(Buffer.concat([varint(8 * 2 + 3), Buffer.alloc(4)]), POD), RangeError, 'a group');
  t.throws(() => decode(Buffer.alloc(12, 255), POD), RangeError, 'a number without end');
  t.throws(() => decode(field(1, 'text').subarray(0, 4), POD), RangeError);
});

t.test('fuzz: whatever bytes come, an error names it', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const read of [
        () => decode(Buffer.from(bytes), POD),
        () => list(Buffer.concat([Buffer.from('k8s\0'), bytes]), PROTOBUF, POD, [7]),
        () => watch(Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]), PROTOBUF, POD, [7]),
      ]) {
        try {
          read();
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
        }
      }
    }),
  );
  t.pass();
});
