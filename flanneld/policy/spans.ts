// Ranges of addresses and ports made disjoint: nft refuses a set of concatenated intervals in which two elements overlap
// (net/netfilter/nft_set_pipapo.c), and policies overlap as they like. Pure.

import { bitsOf, type Family, firstOf, fromNumber, lastOf, type Prefix, toNumber } from '../../model/ip.ts';

/** Ports of one protocol, or of every protocol (then all of them). */
export interface PortSpan {
  /** IP protocol number; 'any' with 0 to 65535 only. */
  readonly protocol: number | 'any';
  readonly from: number;
  readonly to: number;
}

export const EVERY_PORT: PortSpan = { protocol: 'any', from: 0, to: 65_535 };

/** Addresses, as numbers with both ends included, and the ports that they may use. */
export interface Box {
  readonly from: bigint;
  readonly to: bigint;
  readonly ports: readonly PortSpan[];
}

/** The same ports, no two of them overlapping or touching, in order. */
export function disjointPorts(spans: readonly PortSpan[]): readonly PortSpan[] {
  if (spans.some(({ protocol }) => protocol === 'any')) return [EVERY_PORT];
  const result: PortSpan[] = [];
  for (const span of [...spans].sort((a, b) => Number(a.protocol) - Number(b.protocol) || a.from - b.from)) {
    const last = result.at(-1);
    if (last === undefined || last.protocol !== span.protocol || span.from > last.to + 1) result.push(span);
    else if (span.to > last.to) result[result.length - 1] = { ...last, to: span.to };
  }
  return result;
}

/** What is left of a block without its exceptions. */
export function without(block: Prefix, except: readonly Prefix[]): { from: bigint; to: bigint }[] {
  const end = toNumber(lastOf(block));
  let from = toNumber(firstOf(block));
  const left: { from: bigint; to: bigint }[] = [];
  const holes = except.map((hole) => ({ from: toNumber(firstOf(hole)), to: toNumber(lastOf(hole)) }));
  for (const hole of holes.sort((a, b) => (a.from < b.from ? -1 : 1))) {
    if (hole.from > from) left.push({ from, to: hole.from - 1n });
    if (hole.to >= from) from = hole.to + 1n;
  }
  return from > end ? left : [...left, { from, to: end }];
}

/** The same boxes, no two of them sharing an address, those that touch and allow the same made one. */
export function disjointBoxes(boxes: readonly Box[]): readonly Box[] {
  const starts = Map.groupBy(boxes, ({ from }) => from);
  const ends = Map.groupBy(boxes, ({ to }) => to + 1n);
  const edges = [...new Set([...starts.keys(), ...ends.keys()])].sort((a, b) => (a < b ? -1 : 1));
  const open = new Set<Box>();
  const result: Box[] = [];
  edges.forEach((from, at) => {
    for (const box of ends.get(from) ?? []) open.delete(box);
    for (const box of starts.get(from) ?? []) open.add(box);
    if (open.size === 0) return;
    const ports = disjointPorts([...open].flatMap((box) => box.ports));
    const to = (edges[at + 1] as bigint) - 1n;
    const last = result.at(-1);
    const joins = last !== undefined && last.to + 1n === from && samePorts(last.ports, ports);
    if (joins) result[result.length - 1] = { ...last, to };
    else result.push({ from, to, ports });
  });
  return result;
}

const samePorts = (a: readonly PortSpan[], b: readonly PortSpan[]): boolean =>
  a.length === b.length && a.every((span, at) => spanText(span) === spanText(b[at] as PortSpan));

/** "6 . 80", "17 . 5000-5010", "0-255 . 0-65535": as nft lists it with numbers. */
export const spanText = ({ protocol, from, to }: PortSpan): string =>
  `${protocol === 'any' ? '0-255' : protocol} . ${from === to ? from : `${from}-${to}`}`;

/** "10.0.0.1", "10.0.0.0/24", "10.0.0.1-10.0.0.9": as nft lists it. */
export function rangeText(family: Family, from: bigint, to: bigint): string {
  const first = fromNumber(family, from);
  if (from === to) return first;
  const size = to - from + 1n;
  const isPrefix = (size & (size - 1n)) === 0n && from % size === 0n;
  if (!isPrefix) return `${first}-${fromNumber(family, to)}`;
  return `${first}/${bitsOf(family) - (size.toString(2).length - 1)}`;
}
