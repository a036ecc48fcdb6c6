// How an answer of the API server is read: as JSON, or as Protocol Buffers where we say what we want of an object. The latter
// take the server, the wire and us half of the time, and what isn't wanted of a big object never becomes a value. Pure.

import { itemCutter } from './items.ts';
import { lineCutter } from './lines.ts';
import { decodeEvent, decodeObject, LIST_META, STATUS } from './messages.ts';
import { frameCutter, packedItemCutter } from './packed.ts';
import { decode, type Message } from './protobuf.ts';

const JSON_TYPE = 'application/json';
const PROTOBUF = 'application/vnd.kubernetes.protobuf';

export interface ListReader {
  /** The items that the next bytes complete. @throws RangeError, SyntaxError */
  push(chunk: Buffer): unknown[];
  /** The list without its items, when all has come. @throws RangeError, SyntaxError */
  rest(): unknown;
}

export interface Format {
  /** What a refusal says. @throws RangeError, SyntaxError */
  status(bytes: Buffer): unknown;
  /** `most`: bytes of an item. */
  list(most: number): ListReader;
  /** A function that gives the events that the next bytes of a watch complete. @throws RangeError, SyntaxError */
  events(most: number): (chunk: Buffer) => unknown[];
}

/** The header Accept that asks for it. A server that has no such form answers with JSON. */
export const acceptOf = (message: Message | undefined): string =>
  message === undefined ? JSON_TYPE : `${PROTOBUF}, ${JSON_TYPE}`;

/** @param type the answer's header Content-Type @param message what is wanted of each object */
export function formatOf(type: string | undefined, message: Message | undefined): Format {
  return type?.startsWith(PROTOBUF) && message !== undefined ? packed(message) : JSON_FORMAT;
}

const JSON_FORMAT: Format = {
  status: (bytes) => JSON.parse(bytes.toString()),
  list(most) {
    const cutter = itemCutter(most);
    return {
      push: (chunk) => cutter.push(chunk).map((item) => JSON.parse(item)),
      rest: () => JSON.parse(cutter.rest()),
    };
  },
  events(most) {
    const cut = lineCutter(most);
    return (chunk) => cut(chunk).map((line) => JSON.parse(line));
  },
};

const packed = (message: Message): Format => ({
  status: (bytes) => decodeObject(bytes, STATUS),
  list(most) {
    const cutter = packedItemCutter(most);
    return {
      push: (chunk) => cutter.push(chunk).map((item) => decode(item, message)),
      rest: () => ({ metadata: decode(cutter.rest(), LIST_META) }),
    };
  },
  events(most) {
    const cut = frameCutter(most);
    return (chunk) => cut(chunk).map((frame) => decodeEvent(frame, message));
  },
});
