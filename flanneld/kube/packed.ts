// Protocol Buffers cut as they come in: a list into its items, a watch into its events. Pure.

import { MAGIC } from './messages.ts';
import { type Cursor, varint } from './protobuf.ts';

export interface PackedItemCutter {
  /** The items that the next bytes complete. @throws RangeError for what is no list, or too long */
  push(chunk: Buffer): Buffer[];
  /** The list's metadata, when all has come. @throws RangeError when it hasn't */
  rest(): Buffer;
}

/** The field of runtime.Unknown that holds the list; fields of every list. */
const RAW = 2;
const [LIST_METADATA, LIST_ITEM] = [1, 2];
/** A tag and a length, at most. */
const HEAD = 20;

/** `most`: bytes of an item. */
export function packedItemCutter(most: number): PackedItemCutter {
  let pending: Buffer = Buffer.alloc(0);
  let begun = false;
  /** Bytes of the list that are still to come; undefined outside of it. */
  let left: number | undefined;
  let metadata: Buffer | undefined;

  /** Reads the field at the cursor, which stays where it is when not all of it has come: false. */
  function readField(cursor: Cursor, items: Buffer[]): boolean {
    const { bytes, at: start } = cursor;
    const isHeadWhole = bytes.length - start >= HEAD || endsVarints(bytes, start, 2);
    if (!isHeadWhole) return false;
    const tag = varint(cursor);
    if ((tag & 7) !== 2) throw new RangeError('no list of Kubernetes');
    const number = Math.floor(tag / 8);
    const length = varint(cursor);
    if (left === undefined && number === RAW) {
      left = length;
      return true;
    }
    if (length > most) throw new RangeError(`a part of a list of more than ${most} bytes`);
    const end = cursor.at + length;
    if (end > bytes.length) {
      cursor.at = start;
      return false;
    }
    if (left !== undefined) takeListField(left - (end - start), number, bytes.subarray(cursor.at, end), items);
    cursor.at = end;
    return true;
  }

  /** `after`: the bytes of the list that come behind the field. */
  function takeListField(after: number, number: number, value: Buffer, items: Buffer[]): void {
    if (after < 0) throw new RangeError('no list of Kubernetes');
    if (number === LIST_METADATA) metadata = Buffer.from(value);
    else if (number === LIST_ITEM) items.push(value);
    left = after === 0 ? undefined : after;
  }

  return {
    push(chunk) {
      const items: Buffer[] = [];
      const bytes = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      const cursor = { bytes, at: 0 };
      if (!begun && bytes.length >= MAGIC.length) {
        if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError('no list of Kubernetes');
        [begun, cursor.at] = [true, MAGIC.length];
      }
      for (let goesOn = begun; goesOn; ) goesOn = readField(cursor, items);
      pending = bytes.subarray(cursor.at);
      return items;
    },
    rest() {
      if (metadata === undefined || pending.length > 0 || left !== undefined)
        throw new RangeError('a list that ends too early');
      return metadata;
    },
  };
}

/** Whether so many numbers end in what has come. */
function endsVarints(bytes: Buffer, from: number, count: number): boolean {
  let ends = 0;
  for (let at = from; at < bytes.length && ends < count; at++) if ((bytes[at] as number) < 128) ends++;
  return ends === count;
}

/** Of a frame's length, big-endian. */
const LENGTH_BYTES = 4;

/**
 * A function that takes the next bytes of a watch and gives the events that they complete.
 * @throws RangeError: longer than `most`
 */
export function frameCutter(most: number): (chunk: Buffer) => Buffer[] {
  let pending: Buffer = Buffer.alloc(0);
  return (chunk) => {
    const bytes = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    const frames: Buffer[] = [];
    let at = 0;
    while (bytes.length - at >= LENGTH_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > most) throw new RangeError(`an event of more than ${most} bytes`);
      const end = at + LENGTH_BYTES + length;
      if (end > bytes.length) break;
      frames.push(bytes.subarray(at + LENGTH_BYTES, end));
      at = end;
    }
    pending = Buffer.from(bytes.subarray(at));
    return frames;
  };
}
