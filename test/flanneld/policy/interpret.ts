// What the policy table does to a packet: the few statements that it is made of, carried out on its text. A word that is not
// known here is an error, so that no rule is passed over in silence.

import type { Table } from '../../../model/ruleset.ts';
import { inBlock } from './oracle.ts';

/** A packet as the forward hook sees it, with what conntrack knows of its flow. */
export interface Seen {
  readonly saddr: string;
  readonly daddr: string;
  /** Of IP. */
  readonly protocol: number;
  readonly sport: number;
  readonly dport: number;
  readonly icmpv6?: string;
  readonly hoplimit?: number;
  readonly direction?: 'original' | 'reply';
  readonly state?: 'new' | 'established' | 'related' | 'invalid';
  /** The conntrack mark. */
  readonly mark?: number;
}

export interface Judged {
  readonly passes: boolean;
  readonly mark: number;
}

type End = 'next' | 'return' | 'drop';

interface Machine {
  readonly rules: Map<string, readonly string[]>;
  readonly has: (set: string, key: readonly (string | number)[]) => string | undefined;
}

const machines = new WeakMap<Table, Machine>();

function machineOf(table: Table): Machine {
  const known = machines.get(table);
  if (known !== undefined) return known;
  const exact = new Map<string, Map<string, string>>();
  const intervals = new Map<string, string[][]>();
  for (const set of table.sets) {
    if (set.flags?.includes('interval'))
      intervals.set(
        set.name,
        set.elements.map((element) => element.split(' . ')),
      );
    else exact.set(set.name, new Map(set.elements.map((element) => [element.split(' : ')[0] as string, element])));
  }
  const machine: Machine = {
    rules: new Map(table.chains.map(({ name, rules }) => [name, rules])),
    has(set, key) {
      const found = exact.get(set)?.get(key.join(' . '));
      if (found !== undefined || exact.has(set)) return found;
      const elements = intervals.get(set);
      if (elements === undefined) throw new Error(`no set ${set}`);
      const hits = elements.filter((parts) => parts.every((part, at) => within(part, key[at] as string | number)));
      if (hits.length > 1) throw new Error(`overlapping elements in ${set}: ${JSON.stringify(hits)}`);
      return hits[0]?.join(' . ');
    },
  };
  machines.set(table, machine);
  return machine;
}

const ordered = (ip: string): string =>
  ip.includes(':')
    ? expanded(ip)
    : ip
        .split('.')
        .map((part) => part.padStart(3, '0'))
        .join('.');

function expanded(ip: string): string {
  const [left = '', right] = ip.split('::');
  const [head, tail] = [left, right ?? ''].map((half) => half.split(':').filter(Boolean)) as [string[], string[]];
  const zeros = right === undefined ? [] : Array(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...tail].map((word) => word.padStart(4, '0')).join(':');
}

function within(part: string, value: string | number): boolean {
  if (part.includes('/')) return inBlock(part, String(value));
  const [first = '', last = first] = part.split('-');
  if (typeof value === 'number') return value >= Number(first) && value <= Number(last);
  if (first.includes(':') !== value.includes(':')) return false;
  return ordered(value) >= ordered(first) && ordered(value) <= ordered(last);
}

/** Runs the packet through the base chain. */
export function judgePacket(table: Table, packet: Seen): Judged {
  const machine = machineOf(table);
  const flow = { mark: packet.mark ?? 0 };
  return { passes: runChain('forward', packet, flow, machine) !== 'drop', mark: flow.mark };
}

function runChain(name: string, packet: Seen, flow: { mark: number }, machine: Machine): End {
  const rules = machine.rules.get(name);
  if (rules === undefined) throw new Error(`no chain ${name}`);
  for (const rule of rules) {
    const end = runRule(rule.split(' '), packet, flow, machine);
    if (end !== 'next') return end;
  }
  return 'return';
}

function runRule(words: string[], packet: Seen, flow: { mark: number }, machine: Machine): End {
  const take = (): string => words.shift() ?? '';
  for (;;) {
    const word = take();
    switch (word) {
      case '':
        return 'next';
      case 'return':
      case 'drop':
        return word;
      case 'goto': {
        const end = runChain(take(), packet, flow, machine);
        return end === 'next' ? 'return' : end;
      }
      case 'icmpv6': {
        const inside = words.splice(0, words.indexOf('}') + 1).join(' ');
        if (packet.icmpv6 === undefined || !inside.includes(packet.icmpv6)) return 'next';
        const [, , hoplimit] = words.splice(0, 3);
        if (packet.hoplimit !== Number(hoplimit)) return 'next';
        break;
      }
      case 'ct':
        if (!conntrack(words, packet, flow)) return 'next';
        break;
      default: {
        words.unshift(word);
        const key = readKey(words, packet);
        if (key === undefined) return 'next';
        const operator = take();
        if (operator === 'vmap') {
          const element = machine.has(take().slice(1), key);
          if (element === undefined) return 'next';
          const target = element.split(' : jump ')[1] as string;
          const end = runChain(target, packet, flow, machine);
          return end === 'return' ? 'next' : end;
        }
        const negated = operator === '!=';
        const set = (negated ? take() : operator).slice(1);
        if ((machine.has(set, key) !== undefined) === negated) return 'next';
      }
    }
  }
}

/** False: doesn't match. Takes its words. */
function conntrack(words: string[], packet: Seen, flow: { mark: number }): boolean {
  const { state = 'new', direction = 'original' } = packet;
  const word = words.shift();
  if (word === 'state') return (words.shift() as string).split(',').includes(state);
  if (state === 'invalid') return false;
  if (word === 'direction') return words.shift() === direction;
  if (word === 'mark' && words[0] === 'set') {
    const [, , , , mask, , value] = words.splice(0, 7);
    flow.mark = ((flow.mark & Number(mask)) | Number(value)) >>> 0;
    return true;
  }
  if (word === 'mark') {
    const [, mask, , value] = words.splice(0, 4);
    return (flow.mark & Number(mask)) >>> 0 === Number(value);
  }
  throw new Error(`ct ${word}`);
}

/** The values of a concatenation; undefined when the packet hasn't got one of them. */
function readKey(words: string[], packet: Seen): (string | number)[] | undefined {
  const key: (string | number)[] = [];
  const is6 = packet.saddr.includes(':');
  for (;;) {
    const [layer, field] = words.splice(0, 2);
    if (layer === 'ip' || layer === 'ip6') {
      if ((layer === 'ip6') !== is6) return undefined;
      key.push(field === 'saddr' ? packet.saddr : packet.daddr);
    } else if (layer === 'meta' && field === 'l4proto') key.push(packet.protocol);
    else if (layer === 'th') key.push(field === 'sport' ? packet.sport : packet.dport);
    else throw new Error(`unknown word ${layer} ${field}`);
    if (words[0] !== '.') return key;
    words.shift();
  }
}
