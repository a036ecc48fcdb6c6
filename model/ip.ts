// Addresses and prefixes as canonical text. An Ip is "10.5.1.2" or "fd00::2" (RFC 5952), a Prefix is "<ip>/<length>".
// Canonical text makes values comparable with ===, usable as map keys and printable; both families share every function.

import { Address6 } from 'ip-address';
import { NetError } from './errors.ts';

export type Family = 4 | 6;
/** Canonical text of an IPv4 or IPv6 address. Made only by this file. */
export type Ip = string & { readonly __ip: true };
/** Canonical "<ip>/<length>". Host bits may be set (an interface address) unless made by {@link networkOf}. */
export type Prefix = string & { readonly __prefix: true };
/** Lower-case "aa:bb:cc:dd:ee:ff". */
export type Mac = string & { readonly __mac: true };

export const FAMILIES: readonly Family[] = [4, 6];

/** Bits in an address of a family: 32 or 128. */
export const bitsOf = (family: Family): 32 | 128 => (family === 4 ? 32 : 128);

/** The family of an address or prefix. */
export const familyOf = (value: Ip | Prefix): Family => (value.includes(':') ? 6 : 4);

const V4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/**
 * Canonical address, or undefined when the text is not one. IPv4-mapped IPv6 stays IPv6; zones and leading zeros are
 * refused.
 */
export function tryIp(text: unknown): Ip | undefined {
  if (typeof text !== 'string' || text.length > 45) return undefined;
  if (!text.includes(':')) return V4.test(text) ? (text as Ip) : undefined;
  if (text.includes('%') || text.includes('/') || !Address6.isValid(text)) return undefined;
  return new Address6(text).correctForm() as Ip;
}

/** Canonical prefix with its host bits kept, or undefined. The length is required. */
export function tryPrefix(text: unknown): Prefix | undefined {
  if (typeof text !== 'string') return undefined;
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const ip = tryIp(match?.[1]);
  if (ip === undefined) return undefined;
  const length = Number(match?.[2]);
  return length <= bitsOf(familyOf(ip)) ? (`${ip}/${length}` as Prefix) : undefined;
}

/** Lower-case Ethernet address, or undefined. */
export function tryMac(text: unknown): Mac | undefined {
  return typeof text === 'string' && /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)
    ? (text.toLowerCase() as Mac)
    : undefined;
}

/** @throws NetError invalid-address naming the text */
export function ip(text: unknown): Ip {
  return tryIp(text) ?? invalid('an IP address', text);
}

/** @throws NetError invalid-address naming the text */
export function prefix(text: unknown): Prefix {
  return tryPrefix(text) ?? invalid('an address with prefix length', text);
}

/** @throws NetError invalid-address naming the text */
export function mac(text: unknown): Mac {
  return tryMac(text) ?? invalid('an Ethernet address', text);
}

function invalid(what: string, text: unknown): never {
  throw new NetError('invalid-address', `${JSON.stringify(text) ?? String(text)} is not ${what}`);
}

/** The address part of a prefix: "10.5.1.1/24" → "10.5.1.1". */
export const addressOf = (value: Prefix): Ip => value.slice(0, value.indexOf('/')) as Ip;

/** The length part of a prefix, in bits. */
export const lengthOf = (value: Prefix): number => Number(value.slice(value.indexOf('/') + 1));

/** An address with a length: withLength("10.5.1.1", 24) → "10.5.1.1/24". */
export const withLength = (address: Ip, length: number): Prefix => `${address}/${length}` as Prefix;

/** The address as a host prefix: /32 or /128. */
export const hostPrefix = (address: Ip): Prefix => withLength(address, bitsOf(familyOf(address)));

/** The default route's destination: 0.0.0.0/0 or ::/0. */
export const defaultPrefix = (family: Family): Prefix => (family === 4 ? '0.0.0.0/0' : '::/0') as Prefix;

/** Multicast destinations of a family, which are never masqueraded. */
export const multicast = (family: Family): Prefix => (family === 4 ? '224.0.0.0/4' : 'ff00::/8') as Prefix;

/** The address as an unsigned number. */
export function toNumber(address: Ip): bigint {
  return familyOf(address) === 4 ? BigInt(v4Number(address)) : new Address6(address).bigInt();
}

/** The address of a number. @throws NetError invalid-address when it doesn't fit the family */
export function fromNumber(family: Family, value: bigint): Ip {
  if (value < 0n || value >> BigInt(bitsOf(family)))
    throw new NetError('invalid-address', `${value} is outside IPv${family}`);
  if (family === 6) return Address6.fromBigInt(value).correctForm() as Ip;
  return v4Text(Number(value));
}

/** The address `offset` further (negative: before). @throws NetError invalid-address past either end of the family */
export const plus = (address: Ip, offset: bigint): Ip => fromNumber(familyOf(address), toNumber(address) + offset);

/** Order by family, then number: negative, zero or positive. */
export function compare(a: Ip, b: Ip): number {
  const [left, right] = [familyOf(a), familyOf(b)];
  if (left !== right) return left - right;
  const difference = toNumber(a) - toNumber(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The prefix with its host bits cleared: "10.5.1.1/24" → "10.5.1.0/24". */
export function networkOf(value: Prefix): Prefix {
  return withLength(firstOf(value), lengthOf(value));
}

/** The first (network) address of the prefix. */
export function firstOf(value: Prefix): Ip {
  const family = familyOf(value);
  const shift = bitsOf(family) - lengthOf(value);
  const address = addressOf(value);
  return shift === 0 ? address : cleared(family, address, shift);
}

/** The address with its last bits zero. IPv4, of which there may be thousands, without large numbers. */
function cleared(family: Family, address: Ip, bits: number): Ip {
  if (family === 4) return v4Text(bits < 32 ? (v4Number(address) >>> bits) << bits : 0);
  return fromNumber(family, (toNumber(address) >> BigInt(bits)) << BigInt(bits));
}

/** The last address of the prefix: the broadcast address in IPv4. */
export function lastOf(value: Prefix): Ip {
  return fromNumber(familyOf(value), toNumber(firstOf(value)) + sizeOf(value) - 1n);
}

/** Addresses in the prefix, its first and last included. */
export const sizeOf = (value: Prefix): bigint => 1n << BigInt(bitsOf(familyOf(value)) - lengthOf(value));

/** Whether the address, or the whole second prefix, lies inside the first. False across families. */
export function contains(outer: Prefix, inner: Ip | Prefix): boolean {
  if (familyOf(outer) !== familyOf(inner)) return false;
  const nested = inner.includes('/');
  if (nested && lengthOf(inner as Prefix) < lengthOf(outer)) return false;
  const address = nested ? addressOf(inner as Prefix) : (inner as Ip);
  const family = familyOf(outer);
  const shift = bitsOf(family) - lengthOf(outer);
  return cleared(family, address, shift) === cleared(family, addressOf(outer), shift);
}

/** Whether two prefixes share an address. */
export const overlaps = (a: Prefix, b: Prefix): boolean =>
  lengthOf(a) <= lengthOf(b) ? contains(a, b) : contains(b, a);

/** Network-order bytes: 4 or 16. */
export function toBytes(address: Ip): Uint8Array {
  if (familyOf(address) === 6) return Uint8Array.from(new Address6(address).toUnsignedByteArray());
  const n = v4Number(address);
  return Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);
}

/**
 * The address of 4 or 16 network-order bytes, of all or of those at a place.
 * @throws NetError invalid-address for another length
 */
export function fromBytes(bytes: Uint8Array, start = 0, length = bytes.length): Ip {
  if (length === 4) return `${bytes[start]}.${bytes[start + 1]}.${bytes[start + 2]}.${bytes[start + 3]}` as Ip;
  if (length !== 16) throw new NetError('invalid-address', `an address of ${length} bytes`);
  return Address6.fromByteArray([...bytes.subarray(start, start + length)]).correctForm() as Ip;
}

/** The six bytes of an Ethernet address. */
export const macBytes = (address: Mac): Uint8Array => Buffer.from(address.replaceAll(':', ''), 'hex');

/** The Ethernet address of six bytes. */
export const macOf = (bytes: Uint8Array): Mac =>
  (Buffer.from(bytes).toString('hex').match(/../g) ?? []).join(':') as Mac;

/**
 * The link-local address that a device has by its MAC, which is flipped in one bit and has ff:fe in its middle (RFC
 * 4291, appendix A).
 */
export function linkLocal(mac: Mac): Ip {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = macBytes(mac);
  return fromBytes(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f));
}

function v4Number(address: Ip): number {
  let value = 0;
  let byte = 0;
  for (let at = 0; at < address.length; at++) {
    const code = address.charCodeAt(at);
    if (code === DOT) {
      value = (value << 8) | byte;
      byte = 0;
    } else byte = byte * 10 + code - ZERO;
  }
  return ((value << 8) | byte) >>> 0;
}

const DOT = 0x2e;
const ZERO = 0x30;

const v4Text = (value: number): Ip =>
  `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}` as Ip;
