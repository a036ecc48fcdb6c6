// What the policy table does with the first packet of a flow, read from the table's own text: for `policy why`, which asks
// the kernel's table what it really says. Rules about flows that are known, neighbour discovery and logs don't concern such a
// packet; a rule that is none of ours makes the answer uncertain, and is named. Pure.

import { contains, type Ip, toNumber, tryIp, tryPrefix } from '../../model/ip.ts';
import type { NftSet, Table } from '../../model/ruleset.ts';

/** The first packet of a flow, after destinations were translated. */
export interface FirstPacket {
  readonly from: Ip;
  readonly to: Ip;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

/** `rule`: the one that is not understood. */
export type Judgement =
  | { readonly verdict: 'allowed' }
  | { readonly verdict: 'denied'; readonly chain: string }
  | { readonly verdict: 'unknown'; readonly rule: string };

type End = Judgement | 'next' | 'return';

/** Judged elsewhere, or of no effect on whether it passes. */
const PASSED_OVER = /^(ct |icmpv6 type |limit rate \d+\/second )/;
const MATCH = /^((?:(?:ip6?|meta|th) \w+)(?: \. (?:ip6?|meta|th) \w+)*) (!= |vmap )?@(\S+) ?/;
const VERDICT = /^(?:(return|drop)|(goto|jump) (\S+))$/;
/** Deeper than the kernel lets chains call each other. */
const DEEPEST = 16;

/** Where no rule drops it, it passes. */
export function judge(table: Table, packet: FirstPacket): Judgement {
  const end = runChain(table, 'forward', packet, 0);
  return typeof end === 'string' ? { verdict: 'allowed' } : end;
}

function runChain(table: Table, name: string, packet: FirstPacket, depth: number): End {
  const chain = table.chains.find((each) => each.name === name);
  if (chain === undefined || depth > DEEPEST) return { verdict: 'unknown', rule: `jump ${name}` };
  for (const rule of chain.rules) {
    const end = PASSED_OVER.test(rule) ? 'next' : runRule(table, { chain: name, rule }, packet, depth);
    if (end !== 'next') return end;
  }
  return 'return';
}

interface Place {
  readonly chain: string;
  readonly rule: string;
}

function runRule(table: Table, { chain, rule }: Place, packet: FirstPacket, depth: number): End {
  let rest = rule;
  for (let match = MATCH.exec(rest); match !== null; match = MATCH.exec(rest)) {
    rest = rest.slice(match[0].length);
    const [, fields = '', operator, name] = match;
    const set = table.sets.find((each) => each.name === name);
    if (set === undefined) return { verdict: 'unknown', rule };
    const key = keyOf(fields, packet);
    const found = key && elementOf(set, key);
    if (operator === 'vmap ') {
      const verdict = found?.split(' : ')[1];
      return verdict === undefined ? 'next' : carryOut(table, { chain, rule: verdict }, packet, depth);
    }
    if (key === undefined || (found === undefined) !== (operator === '!= ')) return 'next';
  }
  return rest === '' ? 'next' : carryOut(table, { chain, rule: rest }, packet, depth);
}

function carryOut(table: Table, { chain, rule }: Place, packet: FirstPacket, depth: number): End {
  const verdict = VERDICT.exec(rule);
  if (verdict === null) return { verdict: 'unknown', rule };
  const [, plain, call, target = ''] = verdict;
  if (plain === 'drop') return { verdict: 'denied', chain };
  if (plain === 'return') return 'return';
  const end = runChain(table, target, packet, depth + 1);
  return end === 'return' && call === 'jump' ? 'next' : end;
}

/** The packet's values of a concatenation; undefined where it is of the other family. */
function keyOf(fields: string, { from, to, protocol, port }: FirstPacket): readonly (Ip | number)[] | undefined {
  const is6 = from.includes(':');
  const key = fields.split(' . ').map((field) => {
    if (field === 'meta l4proto') return protocol;
    if (field === 'th dport') return port;
    const [layer, side] = field.split(' ');
    if ((layer === 'ip6') !== is6) return undefined;
    return side === 'saddr' ? from : to;
  });
  return key.includes(undefined) ? undefined : (key as (Ip | number)[]);
}

function elementOf({ elements, flags }: NftSet, key: readonly (Ip | number)[]): string | undefined {
  if (!flags?.includes('interval')) {
    const text = key.join(' . ');
    return elements.find((element) => {
      const numbered = inNumbers(element);
      return numbered === text || numbered.startsWith(`${text} : `);
    });
  }
  return elements.find((element) =>
    inNumbers(element)
      .split(' . ')
      .every((part, at) => isWithin(part, key[at] as Ip | number)),
  );
}

/** Protocols may be told by their names. */
const inNumbers = (element: string): string =>
  element.replace(/(^| )(tcp|udp|sctp)(?= )/g, (_, before: string, name: string) => `${before}${NUMBERS[name]}`);

const NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

/** In "80", "80-90", "10.0.0.1", "10.0.0.1-10.0.0.9", "10.0.0.0/24". */
function isWithin(part: string, value: Ip | number): boolean {
  const block = tryPrefix(part);
  if (block !== undefined) return typeof value === 'string' && contains(block, value);
  const [first = '', last = first] = part.split('-');
  if (typeof value === 'number') return value >= Number(first) && value <= Number(last);
  const [low, high] = [tryIp(first), tryIp(last)];
  if (low === undefined || high === undefined || low.includes(':') !== value.includes(':')) return false;
  const number = toNumber(value);
  return number >= toNumber(low) && number <= toNumber(high);
}
