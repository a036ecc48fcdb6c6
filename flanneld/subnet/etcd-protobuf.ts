// Messages of protocol buffers (https://protobuf.dev/programming-guides/encoding), as far as etcd's need it: to bytes and
// back by a table of the fields that are used. Pure.

/** The names of an enumeration's values, from 0. */
type Enumeration = readonly string[];

/** 64-bit numbers are decimal text. */
type Kind = 'bytes' | 'text' | 'int64' | 'bool' | Enumeration | Shape | Repeated;

interface Field {
  readonly name: string;
  readonly number: number;
  readonly kind: Exclude<Kind, Repeated>;
  readonly repeated: boolean;
}

/** A message's fields, by name and by number. */
export class Shape {
  readonly byName = new Map<string, Field>();
  readonly byNumber: Field[] = [];

  constructor(fields: Readonly<Record<string, readonly [number: number, kind: Kind]>>) {
    for (const [name, [number, kind]] of Object.entries(fields)) {
      const repeated = kind instanceof Repeated;
      const field = { name, number, kind: repeated ? kind.of : kind, repeated };
      this.byName.set(name, field);
      this.byNumber[number] = field;
    }
  }
}

/** Any number of messages. */
export class Repeated {
  readonly of: Shape;

  constructor(of: Shape) {
    this.of = of;
  }
}

/** Wire types. */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** The bytes of a message; fields that it doesn't have are left out. @throws Error naming a field that the shape doesn't have */
export function encode(shape: Shape, message: object): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, value] of Object.entries(message)) {
    if (value === undefined) continue;
    const field = shape.byName.get(name);
    if (field === undefined) throw new Error(`there is no field ${name}`);
    for (const each of field.repeated ? (value as readonly unknown[]) : [value])
      parts.push(...encodeField(field, each));
  }
  return Buffer.concat(parts);
}

function encodeField({ number, kind }: Field, value: unknown): Uint8Array[] {
  const bytes = lengthDelimited(kind, value);
  if (bytes !== undefined) return [varint(BigInt((number << 3) | LENGTH)), varint(BigInt(bytes.length)), bytes];
  const whole = Array.isArray(kind) ? kind.indexOf(value) : (value as string | number | boolean);
  return [varint(BigInt((number << 3) | VARINT)), varint(BigInt.asUintN(64, BigInt(whole)))];
}

function lengthDelimited(kind: Field['kind'], value: unknown): Uint8Array | undefined {
  if (kind === 'bytes') return value as Uint8Array;
  if (kind === 'text') return Buffer.from(value as string);
  return kind instanceof Shape ? encode(kind, value as object) : undefined;
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7fn; left >>= 7n) bytes.push(Number(left & 0x7fn) | 0x80);
  bytes.push(Number(left));
  return Uint8Array.from(bytes);
}

/**
 * The message that the bytes hold. A field that isn't in them has its default: empty, "0", false, the first of an
 * enumeration; a message undefined. Fields that the shape doesn't have are passed over. What is bytes lies in the
 * buffer given.
 * @throws RangeError for bytes that are no message
 */
export const decode = (shape: Shape, bytes: Buffer): object => new Reader(bytes).message(shape, bytes.length);

function defaultOf({ kind, repeated }: Field): unknown {
  if (repeated) return [];
  if (Array.isArray(kind)) return kind[0];
  switch (kind) {
    case 'bytes':
      return NOTHING;
    case 'text':
      return '';
    case 'int64':
      return '0';
    case 'bool':
      return false;
    default:
      return undefined;
  }
}

const NOTHING = Buffer.alloc(0);

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  message(shape: Shape, end: number): object {
    const message: Record<string, unknown> = {};
    for (const field of shape.byName.values()) message[field.name] = defaultOf(field);
    while (this.#at < end) {
      const tag = Number(this.#varint());
      const field = shape.byNumber[tag >>> 3];
      if (field === undefined || (tag & 7) !== wireType(field)) this.#pass(tag & 7);
      else if (field.repeated) (message[field.name] as unknown[]).push(this.#value(field));
      else message[field.name] = this.#value(field);
    }
    if (this.#at > end) throw new RangeError('a field is longer than its message');
    return message;
  }

  #value({ kind }: Field): unknown {
    if (kind === 'int64') return signed(this.#varint());
    if (kind === 'bool') return Number(this.#varint()) !== 0;
    if (Array.isArray(kind)) return kind[Number(this.#varint())];
    const end = this.#end();
    if (kind instanceof Shape) return this.message(kind, end);
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return kind === 'text' ? bytes.toString() : bytes;
  }

  #end(): number {
    const length = Number(this.#varint());
    if (this.#at + length > this.#bytes.length) throw new RangeError(`${length} bytes are not there`);
    return this.#at + length;
  }

  /** As a number up to seven bytes, which hold 49 bits. */
  #varint(): number | bigint {
    let value = 0;
    for (let place = 0; place < 7; place++) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** (7 * place);
      if (byte < 0x80) return value;
    }
    let large = BigInt(value);
    for (let place = 7n; place < 10n; place++) {
      const byte = this.#byte();
      large |= BigInt(byte & 0x7f) << (7n * place);
      if (byte < 0x80) return large;
    }
    throw new RangeError('a number of more than ten bytes');
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new RangeError('a number without an end');
    return byte;
  }

  #pass(wire: number): void {
    switch (wire) {
      case VARINT:
        this.#varint();
        return;
      case FIXED64:
        this.#at += 8;
        return;
      case LENGTH:
        this.#at = this.#end();
        return;
      case FIXED32:
        this.#at += 4;
        return;
      default:
        throw new RangeError(`wire type ${wire}`);
    }
  }
}

const wireType = ({ kind }: Field): number =>
  kind === 'int64' || kind === 'bool' || Array.isArray(kind) ? VARINT : LENGTH;

const signed = (value: number | bigint): string =>
  typeof value === 'number' ? String(value) : String(BigInt.asIntN(64, value));
