// Netlink attributes where the netlink package has no codec for them, or leaves out the flag for nested ones, which the
// newer parts of the kernel insist on (NLA_F_NESTED).

import { parseAttributes } from 'netlink/dist/structs.js';

const NESTED = 0x8000;
const HEADER = 4;

/** An attribute with bytes for its value, padded. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const length = HEADER + value.length;
  const bytes = Buffer.alloc((length + 3) & ~3);
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, HEADER);
  return bytes;
}

/** An attribute of attributes. */
export const nested = (type: number, ...inner: readonly Buffer[]): Buffer =>
  attribute(type | NESTED, Buffer.concat(inner));

/** The values in a stream of attributes, by type. */
export function attributesOf(data: Buffer = Buffer.alloc(0)): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  parseAttributes(data, ({ type, data: value }) => found.set(type, value));
  return found;
}
