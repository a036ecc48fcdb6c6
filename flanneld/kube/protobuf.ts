// Protocol Buffers as the API server writes them, read by a description of what is wanted: everything else is passed over
// without being looked at. An object comes out as it would from its JSON. Pure.
// Encoding: https://protobuf.dev/programming-guides/encoding/

/** A field's name in JSON, and what it holds. "strings": several; "map": of strings; a message in brackets: several. */
export type Field = readonly [
  name: string,
  holds: 'string' | 'strings' | 'number' | 'boolean' | 'bytes' | 'map' | Holds,
];
type Holds = Message | readonly [Message];

/** The wanted fields of a message, by their numbers. */
export interface Message {
  readonly [number: number]: Field;
}

export interface Cursor {
  readonly bytes: Buffer;
  at: number;
}

const [VARINT, FIXED_64, LENGTH, FIXED_32] = [0, 1, 2, 5];

const MAP_ENTRY: Message = { 1: ['key', 'string'], 2: ['value', 'string'] };

/**
 * The message's wanted fields. Those that are empty are left out, as in JSON; bytes are a view.
 * @throws RangeError for what is no message
 */
export function decode(bytes: Buffer, message: Message): Record<string, unknown> {
  return fieldsOf({ bytes, at: 0 }, bytes.length, message);
}

function fieldsOf(cursor: Cursor, end: number, message: Message): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  while (cursor.at < end) {
    const tag = varint(cursor);
    const field = message[Math.floor(tag / 8)];
    const wire = tag & 7;
    if (wire === VARINT) putNumber(object, field, varint(cursor));
    else if (wire === LENGTH) {
      const length = varint(cursor);
      const next = cursor.at + length;
      if (next > end) throw ended();
      if (field !== undefined) putBytes(object, field, cursor, next);
      cursor.at = next;
    } else cursor.at += fixedLength(wire);
  }
  if (cursor.at > end) throw ended();
  return object;
}

function fixedLength(wire: number): number {
  if (wire === FIXED_64) return 8;
  if (wire === FIXED_32) return 4;
  throw new RangeError(`a field of wire type ${wire}`);
}

function putNumber(object: Record<string, unknown>, field: Field | undefined, value: number): void {
  if (field?.[1] === 'number') object[field[0]] = value;
  else if (field?.[1] === 'boolean') object[field[0]] = value !== 0;
}

function putBytes(object: Record<string, unknown>, [name, holds]: Field, cursor: Cursor, end: number): void {
  const { bytes, at } = cursor;
  if (holds === 'string') {
    if (end > at) object[name] = bytes.toString('utf8', at, end);
  } else if (holds === 'map') {
    const { key = '', value = '' } = fieldsOf(cursor, end, MAP_ENTRY);
    const map = (object[name] as Record<string, unknown> | undefined) ?? {};
    // Even as "__proto__" it does no harm: a text is nobody's prototype.
    map[key as string] = value;
    object[name] = map;
  } else if (holds === 'strings') push(object, name, bytes.toString('utf8', at, end));
  else if (holds === 'bytes') object[name] = bytes.subarray(at, end);
  else if (isSeveral(holds)) push(object, name, fieldsOf(cursor, end, holds[0]));
  else if (typeof holds === 'object') object[name] = fieldsOf(cursor, end, holds);
}

const isSeveral = (holds: Field[1]): holds is readonly [Message] => Array.isArray(holds);

function push(object: Record<string, unknown>, name: string, value: unknown): void {
  const values = object[name] as unknown[] | undefined;
  if (values === undefined) object[name] = [value];
  else values.push(value);
}

/** The number at the cursor, which moves on. Above 2^53 it isn't exact. @throws RangeError */
export function varint(cursor: Cursor): number {
  const { bytes } = cursor;
  let value = 0;
  for (let factor = 1, count = 0; count < 10; count++, factor *= 128) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw ended();
    value += (byte & 127) * factor;
    if (byte < 128) return value;
  }
  throw new RangeError('a number of more than ten bytes');
}

const ended = (): RangeError => new RangeError('a message that ends too early');
