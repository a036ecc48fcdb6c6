// Address ranges as host-local knows them: a set is a pool that one address of each pod comes from, made of one or more
// ranges. Ranges may hold 2^64 addresses, so nothing here ever walks one except as far as its caller asks.

import {
  addressOf,
  bitsOf,
  compare,
  contains,
  familyOf,
  firstOf,
  fromNumber,
  type Ip,
  lastOf,
  lengthOf,
  type Prefix,
  plus,
  toNumber,
  withLength,
} from '../model/ip.ts';

export interface Range {
  /** A network, without host bits. */
  readonly subnet: Prefix;
  /** First and last address to hand out, both inclusive. */
  readonly start: Ip;
  readonly end: Ip;
  /** Never handed out. It may lie outside the subnet. */
  readonly gateway: Ip;
}

/** Ranges of one family; never empty. */
export type RangeSet = readonly Range[];

/** A range as configured. */
export interface RangeParts {
  readonly subnet: Prefix;
  readonly rangeStart?: Ip | undefined;
  readonly rangeEnd?: Ip | undefined;
  readonly gateway?: Ip | undefined;
}

/** An address to hand out, with what the pod needs to know of its range. */
export interface Candidate {
  readonly ip: Ip;
  /** The address with the length of its subnet. */
  readonly address: Prefix;
  readonly gateway: Ip;
}

const V4_MAPPED = '::ffff:0:0/96' as Prefix;

/** Why no range can be made from the subnet, or undefined. */
export function subnetFault(subnet: Prefix): string | undefined {
  const length = lengthOf(subnet);
  if (length > bitsOf(familyOf(subnet)) - 2) return `network ${subnet} too small to allocate from`;
  if (contains(V4_MAPPED, subnet)) return `network ${subnet} holds IPv4 addresses written as IPv6`;
  const first = firstOf(subnet);
  return first === addressOf(subnet)
    ? undefined
    : `network ${subnet} has host bits set; for a length of ${length} the network address is ${first}`;
}

/**
 * The range with host-local's defaults: gateway and start are the first address after the network's, the end is the
 * last one, in IPv4 the one before it (broadcast). The subnet must have no {@link subnetFault}.
 */
export function withDefaults({ subnet, rangeStart, rangeEnd, gateway }: RangeParts): Range {
  const second = plus(addressOf(subnet), 1n);
  const last = lastOf(subnet);
  return {
    subnet,
    start: rangeStart ?? second,
    end: rangeEnd ?? (familyOf(subnet) === 4 ? plus(last, -1n) : last),
    gateway: gateway ?? second,
  };
}

/** What is wrong with the bounds of a range, or undefined. */
export function boundsFault({ subnet, start, end, gateway }: Range): string | undefined {
  if (!contains(subnet, start)) return `start ${start} is not in network ${subnet}`;
  if (!contains(subnet, end)) return `end ${end} is not in network ${subnet}`;
  if (compare(end, start) < 0) return `end ${end} is before start ${start}`;
  if (familyOf(gateway) !== familyOf(subnet)) return `gateway ${gateway} is not of the family of network ${subnet}`;
  return undefined;
}

/** Whether two ranges share an address that may be handed out. */
export const rangesOverlap = (a: Range, b: Range): boolean =>
  familyOf(a.subnet) === familyOf(b.subnet) && compare(a.start, b.end) <= 0 && compare(b.start, a.end) <= 0;

/** Whether the range spans the address, its gateway included. */
export const spans = (range: Range, ip: Ip): boolean =>
  familyOf(range.subnet) === familyOf(ip) && compare(range.start, ip) <= 0 && compare(ip, range.end) <= 0;

/** Why an address within the range is never handed out, or undefined. */
export function reservedAs(range: Range, ip: Ip): 'gateway' | 'broadcast address' | undefined {
  if (ip === range.gateway) return 'gateway';
  return familyOf(ip) === 4 && ip === lastOf(range.subnet) ? 'broadcast address' : undefined;
}

/** "10.1.2.1-10.1.2.254,10.1.4.1-10.1.4.254", as host-local names a set. */
export const printSet = (set: RangeSet): string => set.map(({ start, end }) => `${start}-${end}`).join(',');

/** The address in its range. */
export const candidateOf = (range: Range, ip: Ip): Candidate => ({
  ip,
  address: withLength(ip, lengthOf(range.subnet)),
  gateway: range.gateway,
});

/**
 * Every address of the set once, from the one after `last` around to `last` itself; from the start of the first range
 * when `last` is in none. Lazy: a caller takes as many as it needs.
 */
export function* addressesAfter(set: RangeSet, last: Ip | undefined): Generator<Candidate> {
  const index = last === undefined ? -1 : set.findIndex((range) => spans(range, last));
  const range = set[index];
  if (range === undefined || last === undefined) {
    for (const whole of set) yield* between(whole, toNumber(whole.start), toNumber(whole.end));
    return;
  }
  const position = toNumber(last);
  yield* between(range, position + 1n, toNumber(range.end));
  for (const whole of [...set.slice(index + 1), ...set.slice(0, index)]) {
    yield* between(whole, toNumber(whole.start), toNumber(whole.end));
  }
  yield* between(range, toNumber(range.start), position);
}

function* between(range: Range, from: bigint, to: bigint): Generator<Candidate> {
  const family = familyOf(range.subnet);
  for (let position = from; position <= to; position++) {
    const ip = fromNumber(family, position);
    if (reservedAs(range, ip) === undefined) yield candidateOf(range, ip);
  }
}
