// Writes Protocol Buffers as the API server does, by the description that they are read by, with fields that nobody reads
// in between.

import type { Field, Message } from '../../flanneld/kube/protobuf.ts';

const MAGIC = Buffer.from('k8s\0');
/** A number that no description has. */
const UNREAD = 1000;

export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

const tag = (number: number, wire: number): Buffer => varint(number * 8 + wire);

/** A field of text, bytes or a message. */
export const field = (number: number, value: Buffer | string): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([tag(number, 2), varint(bytes.length), bytes]);
};

const unread = [
  field(UNREAD, 'of no concern'),
  Buffer.concat([tag(UNREAD, 0), varint(2 ** 40)]),
  Buffer.concat([tag(UNREAD, 1), Buffer.alloc(8, 255)]),
  Buffer.concat([tag(UNREAD, 5), Buffer.alloc(4, 255)]),
];

/** An object as a message. What the description doesn't have is left out. */
export function encode(object: Readonly<Record<string, unknown>>, message: Message): Buffer {
  const fields = Object.entries(message).flatMap(([number, [name, holds]]: [string, Field]) =>
    object[name] === undefined ? [] : valuesOf(Number(number), object[name], holds),
  );
  return Buffer.concat(fields.flatMap((each, at) => [each, unread[at % unread.length] as Buffer]));
}

function valuesOf(number: number, value: unknown, holds: Field[1]): Buffer[] {
  if (holds === 'strings') return (value as string[]).map((text) => field(number, text));
  if (holds === 'map')
    return Object.entries(value as Record<string, string>).map(([key, text]) =>
      field(number, Buffer.concat([field(1, key), field(2, text)])),
    );
  if (holds === 'number' || holds === 'boolean') return [Buffer.concat([tag(number, 0), varint(Number(value))])];
  if (holds === 'string' || holds === 'bytes') return [field(number, value as string | Buffer)];
  const several = (Array.isArray(holds) ? value : [value]) as Record<string, unknown>[];
  const each = (Array.isArray(holds) ? holds[0] : holds) as Message;
  return several.map((item) => field(number, encode(item, each)));
}

/** Bytes in the envelope of a whole object. */
export const enveloped = (raw: Buffer): Buffer =>
  Buffer.concat([MAGIC, field(1, 'kind'), field(2, raw), field(3, ''), field(4, '')]);

/** A list as it is answered. */
export const listOf = (items: readonly Buffer[], metadata: Buffer): Buffer =>
  enveloped(Buffer.concat([field(1, metadata), ...items.map((item) => field(2, item))]));

/** An event of a watch, in its frame. */
export function frameOf(type: string, object: Buffer): Buffer {
  const event = Buffer.concat([field(1, type), field(2, field(1, enveloped(object)))]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(event.length);
  return Buffer.concat([length, event]);
}
