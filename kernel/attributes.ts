// Netlink attributes, written into and read from one buffer. The netlink package's own stream makes a buffer for every
// header, value and padding, which for one attachment is more work than the kernel's; this one takes its place, and the
// package's formatters write to it.

import type { AttrStream, StreamData } from 'netlink/dist/structs.js';

const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
const HEADER = 4;

/** Rounded up to the alignment of messages and attributes (NLMSG_ALIGNTO, NLA_ALIGNTO). */
export const aligned = (length: number): number => (length + 3) & ~3;

/** What requests are written to: bytes, and attributes whose values are bytes or written in turn. */
export type Output = Pick<AttrStream, 'emit' | 'push'>;
export type Nested = (out: Output) => void;

/** Writes into a buffer from a place on. What doesn't fit is a RangeError. */
export class AttributeWriter implements Output {
  readonly #buffer: Buffer;
  #end = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  /** Where the next byte goes. */
  get end(): number {
    return this.#end;
  }

  /** Goes on at a place, such as behind a header that is written later. */
  seek(place: number): void {
    this.#end = place;
  }

  emit(data: StreamData): void {
    if (typeof data === 'function') data(this as unknown as AttrStream);
    else if (Array.isArray(data)) for (const part of data) this.emit(part);
    else {
      this.#buffer.set(data, this.#end);
      this.#end += data.length;
    }
  }

  push(type: number, data: StreamData): void {
    this.pad();
    const start = this.#end;
    this.#end += HEADER;
    this.emit(data);
    this.#buffer.writeUInt16LE(this.#end - start, start);
    this.#buffer.writeUInt16LE(type & TYPE_MASK, start + 2);
  }

  /** Zeros up to the alignment. */
  pad(): void {
    const end = aligned(this.#end);
    this.#buffer.fill(0, this.#end, end);
    this.#end = end;
  }
}

/** A value of four bytes. */
export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** A string as the kernel wants it, with the NUL at its end. */
export const cString = (text: string): Buffer => Buffer.from(`${text}\0`);

/** An attribute with bytes for its value, padded. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const length = HEADER + value.length;
  const bytes = Buffer.alloc(aligned(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, HEADER);
  return bytes;
}

/** An attribute of attributes, with the flag that the newer parts of the kernel insist on (NLA_F_NESTED). */
export const nested = (type: number, ...inner: readonly Buffer[]): Buffer =>
  attribute(type | NESTED, Buffer.concat(inner));

/** The values in a stream of attributes, by type. @throws RangeError for an attribute that isn't whole */
export function attributesOf(data: Buffer = Buffer.alloc(0)): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  eachAttribute(data, 0, (type, at, length) => found.set(type, data.subarray(at, at + length)));
  return found;
}

/**
 * Tells of each attribute in the stream that begins at a place its type, and where its value is: for messages of which there
 * are thousands. @throws RangeError for an attribute that isn't whole
 */
export function eachAttribute(
  data: Buffer,
  start: number,
  use: (type: number, at: number, length: number) => void,
): void {
  for (let at = start; at + HEADER <= data.length; ) {
    const length = data.readUInt16LE(at);
    if (length < HEADER || at + length > data.length) throw new RangeError(`attribute of ${length} bytes`);
    use(data.readUInt16LE(at + 2) & TYPE_MASK, at + HEADER, length - HEADER);
    at += aligned(length);
  }
}

/** Whether one of the type is in the stream. */
export function hasAttribute(data: Buffer, start: number, type: number): boolean {
  let found = false;
  eachAttribute(data, start, (each) => {
    found ||= each === type;
  });
  return found;
}

/** The text of a string attribute. */
export function textOf(value: Buffer | undefined): string | undefined {
  const end = value?.indexOf(0) ?? -1;
  return value?.toString('utf8', 0, end < 0 ? value.length : end);
}
