// What a rule of anybody's means for traffic, from the words in which `nft --stateless --terse` lists it. What isn't
// understood becomes a condition that may be true or not, never an error. Pure.

import type { Condition } from './condition.ts';
import type { FilterRule, Sense, Verdict } from './filter.ts';
import type { HandledRule } from '../../model/ruleset.ts';

/** A rule as a value. */
export function parseNftRule({ handle, text }: HandledRule): FilterRule {
  const words = wordsOf(text);
  const comment = commentOf(words);
  return { handle, text, ...(comment !== undefined && { comment }), senses: sensesOf(words) };
}

/** Quoted text is one word, without its quotes but with one in front; so are single braces and commas. */
const wordsOf = (text: string): string[] =>
  [...text.matchAll(/"([^"]*)"|[{},]|[^\s{},"]+/g)].map(([word, quoted]) =>
    quoted === undefined ? word : `"${quoted}`,
  );

const plain = (word: string): string => word.replace(/^"/, '');

function commentOf(words: readonly string[]): string | undefined {
  const at = words.lastIndexOf('comment');
  const text = words[at + 1];
  return at >= 0 && text?.startsWith('"') ? plain(text) : undefined;
}

type Field = Extract<Condition, { values: unknown }>['field'];

/** What is compared with something. A match on a protocol's own field implies the protocol. */
const FIELDS: Readonly<Record<string, Field>> = {
  'ip saddr': 'source',
  'ip6 saddr': 'source',
  'ip daddr': 'destination',
  'ip6 daddr': 'destination',
  'meta l4proto': 'protocol',
  'ip protocol': 'protocol',
  'ip6 nexthdr': 'protocol',
  'meta nfproto': 'family',
  'udp dport': 'port',
  'th dport': 'port',
  'ct state': 'state',
};
const DEVICES: Readonly<Record<string, Field>> = { iifname: 'in', iif: 'in', oifname: 'out', oif: 'out' };
/** Matches that begin so are true of some packets of a kind, and never of all. */
const PARTIAL: readonly string[] = [
  'tcp',
  'udp',
  'th',
  'sctp',
  'dccp',
  'udplite',
  'icmp',
  'icmpv6',
  'igmp',
  'limit',
  'esp',
  'ah',
  'vlan',
  'numgen',
];
const NOT_UDP: readonly string[] = ['tcp', 'sctp', 'dccp', 'icmp', 'icmpv6', 'igmp', 'esp', 'ah'];

interface Reader {
  readonly words: readonly string[];
  at: number;
}

function sensesOf(words: readonly string[]): Sense[] {
  const reader: Reader = { words, at: 0 };
  const conditions: Condition[] = [];
  while (reader.at < words.length) {
    const verdict = readVerdict(reader);
    if (verdict !== undefined) return [{ conditions, verdict }];
    // A map over something that isn't understood.
    if (words[reader.at] === 'vmap') return [{ conditions, verdict: { type: 'other' } }];
    const field = readField(reader);
    if (field !== undefined && words[reader.at] === 'vmap') {
      reader.at++;
      return readMap(reader, field, conditions);
    }
    if (field !== undefined) conditions.push(...(field.implied ?? []), readComparison(reader, field.name));
    else conditions.push(...readOther(reader));
  }
  return [{ conditions, verdict: { type: 'none' } }];
}

function readVerdict(reader: Reader): Verdict | undefined {
  const [word, target] = reader.words.slice(reader.at);
  switch (word) {
    case 'accept':
    case 'drop':
    case 'return':
      return { type: word };
    case 'reject':
      return { type: 'drop' };
    case 'jump':
    case 'goto':
      return { type: word, chain: target ?? '' };
    case 'continue':
      return { type: 'none' };
    case 'queue':
    case 'xt':
    case 'dup':
    case 'fwd':
      return { type: 'other' };
    default:
      return undefined;
  }
}

interface Read {
  readonly name: Field;
  readonly implied?: readonly Condition[];
}

function readField(reader: Reader): Read | undefined {
  const [first = '', second = ''] = reader.words.slice(reader.at);
  const device = DEVICES[first];
  if (device !== undefined) {
    reader.at++;
    return { name: device };
  }
  const name = FIELDS[`${first} ${second}`];
  // "ip saddr . ip daddr" is compared with pairs.
  if (name === undefined || reader.words[reader.at + 2] === '.') return undefined;
  reader.at += 2;
  const implied: Condition[] = first === 'udp' ? [{ field: 'protocol', values: ['udp'], negated: false }] : [];
  return { name, implied };
}

function readComparison(reader: Reader, field: Field): Condition {
  const negated = reader.words[reader.at] === '!=';
  if (negated || reader.words[reader.at] === '==') reader.at++;
  const word = reader.words[reader.at] ?? '';
  // Arithmetic, and a named set, of which only the name is known.
  if (/^([<>&|^]|@|\.$)/.test(word)) {
    reader.at += word.startsWith('@') ? 1 : 2;
    return { field: 'unknown' };
  }
  return { field, values: readValues(reader), negated };
}

/** One value, a list, or a set in braces. */
function readValues(reader: Reader): string[] {
  if (reader.words[reader.at] === '{') {
    const end = reader.words.indexOf('}', reader.at);
    const values = reader.words.slice(reader.at + 1, end < 0 ? undefined : end);
    reader.at = end < 0 ? reader.words.length : end + 1;
    return values.filter((word) => word !== ',').map(plain);
  }
  const values = [plain(reader.words[reader.at++] ?? '')];
  while (reader.words[reader.at] === ',') {
    values.push(plain(reader.words[reader.at + 1] ?? ''));
    reader.at += 2;
  }
  return values;
}

/** `FIELD vmap { a : accept, b : jump c }`; of a named map nothing is known. */
function readMap(reader: Reader, { name, implied = [] }: Read, conditions: readonly Condition[]): Sense[] {
  if (reader.words[reader.at] !== '{') {
    return [{ conditions: [...conditions, { field: 'unknown' }], verdict: { type: 'other' } }];
  }
  const end = reader.words.indexOf('}', reader.at);
  const inside = reader.words.slice(reader.at + 1, end < 0 ? undefined : end);
  return entriesOf(inside).map(({ value, verdict }) => ({
    conditions: [...conditions, ...implied, { field: name, values: [value], negated: false }],
    verdict: readVerdict({ words: verdict, at: 0 }) ?? { type: 'other' },
  }));
}

function entriesOf(words: readonly string[]): { readonly value: string; readonly verdict: readonly string[] }[] {
  const entries: string[][] = [[]];
  for (const word of words) {
    if (word === ',') entries.push([]);
    else entries.at(-1)?.push(word);
  }
  return entries.flatMap(([value, colon, ...verdict]) =>
    value === undefined || colon !== ':' ? [] : [{ value: plain(value), verdict }],
  );
}

/** Words that ask nothing, and what they are followed by. */
const SILENT: Readonly<Record<string, number>> = { counter: 0, comment: 1, notrack: 0 };
const LOG_OPTIONS: readonly string[] = ['prefix', 'level', 'group', 'snaplen', 'queue-threshold', 'flags'];

function readOther(reader: Reader): Condition[] {
  const word = reader.words[reader.at++] ?? '';
  const silent = SILENT[word];
  if (silent !== undefined) {
    reader.at += silent;
    return [];
  }
  if (word === 'log') {
    while (LOG_OPTIONS.includes(reader.words[reader.at] ?? '')) reader.at += 2;
    return [];
  }
  if (word === 'ct' && reader.words[reader.at] === 'status') return readStatus(reader);
  skipStatement(reader);
  if (NOT_UDP.includes(word)) return [{ field: 'protocol', values: [word], negated: false }, { field: 'part' }];
  return [{ field: PARTIAL.includes(word) ? 'part' : 'unknown' }];
}

/** `ct status dnat`: what came by a translated address, which traffic between pods does not. */
function readStatus(reader: Reader): Condition[] {
  reader.at++;
  const dnat = reader.words[reader.at] === 'dnat';
  if (dnat) reader.at++;
  else skipStatement(reader);
  return [{ field: dnat ? 'part' : 'unknown' }];
}

/** To the next word that begins something known: what is skipped makes one condition. */
function skipStatement(reader: Reader): void {
  while (reader.at < reader.words.length) {
    const probe: Reader = { words: reader.words, at: reader.at };
    const word = reader.words[reader.at] ?? '';
    if (readVerdict(probe) !== undefined || readField(probe) !== undefined) return;
    if (word in SILENT || ['log', 'limit', 'vmap'].includes(word)) return;
    reader.at++;
  }
}
