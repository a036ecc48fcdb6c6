// A legacy iptables table from what `iptables-legacy -S` prints, as a packet filter that can be asked. Pure.

import type { Condition } from './condition.ts';
import type { Chains, FilterChain, FilterRule, Verdict } from './filter.ts';

/** The chains; rules are numbered from 1 in each. */
export function parseIptables(text: string): Chains {
  const chains = new Map<string, FilterChain & { rules: FilterRule[] }>();
  for (const line of text.split('\n')) {
    const [verb, name = '', ...words] = wordsOf(line);
    if (verb === '-P') {
      const policy = words[0] === 'DROP' ? 'drop' : 'accept';
      chains.set(name, { name, handle: 0, policy, rules: [] });
    } else if (verb === '-N') chains.set(name, { name, handle: 0, rules: [] });
    else if (verb === '-A') {
      const rules = chains.get(name)?.rules;
      rules?.push(parseRule(words, rules.length + 1));
    }
  }
  return chains;
}

/** A shell's words, with its double quotes and backslashes. */
const wordsOf = (line: string): string[] =>
  [...line.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)].map(([word, quoted]) =>
    quoted === undefined ? word : quoted.replace(/\\(.)/g, '$1'),
  );

const TARGETS: Readonly<Record<string, Verdict>> = {
  ACCEPT: { type: 'accept' },
  DROP: { type: 'drop' },
  REJECT: { type: 'drop' },
  RETURN: { type: 'return' },
  QUEUE: { type: 'other' },
  NFQUEUE: { type: 'other' },
};
/** Targets after which the next rule is looked at. */
const PASSING: readonly string[] = ['LOG', 'NFLOG', 'ULOG', 'MARK', 'CONNMARK', 'CT', 'TRACE', 'TCPMSS', 'CLASSIFY'];
const FIELDS = { '-s': 'source', '-d': 'destination', '-i': 'in', '-o': 'out', '-p': 'protocol' } as const;
/** Modules that match some packets of a kind, and never all. */
const PARTIAL: readonly string[] = [
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'icmp6',
  'multiport',
  'limit',
  'hashlimit',
  'statistic',
  'recent',
];

function parseRule(words: readonly string[], handle: number): FilterRule {
  const conditions: Condition[] = [];
  let verdict: Verdict = { type: 'none' };
  let comment: string | undefined;
  let negated = false;
  for (let at = 0; at < words.length; at++) {
    const [word = '', next = ''] = words.slice(at);
    const field = FIELDS[word as keyof typeof FIELDS];
    if (word === '!') {
      negated = true;
      continue;
    }
    if (field !== undefined) conditions.push({ field, values: [next], negated });
    else if (word === '-j' || word === '-g') verdict = verdictOf(word, next);
    else if (word === '--comment') comment = next;
    else if (word === '--ctstate' || word === '--state') {
      conditions.push({ field: 'state', values: next.split(','), negated });
    } else if (word === '-m') conditions.push(...moduleConditions(next));
    else if (word === '--dport') conditions.push({ field: 'port', values: [next], negated });
    else if (word === '--dports') conditions.push({ field: 'port', values: next.split(','), negated });
    else conditions.push(...(word.startsWith('--') && verdict.type === 'none' ? optionConditions(word) : []));
    negated = false;
    if (word.startsWith('-')) at = lastOfOption(words, at);
  }
  return {
    handle,
    text: words.join(' '),
    ...(comment !== undefined && { comment }),
    senses: [{ conditions, verdict }],
  };
}

/** What an option's words reach to. */
function lastOfOption(words: readonly string[], at: number): number {
  let end = at;
  while (end + 1 < words.length && !/^(-|!$)/.test(words[end + 1] as string)) end++;
  // The text of a comment may look like an option.
  return words[at] === '--comment' ? at + 1 : end;
}

function verdictOf(option: string, target: string): Verdict {
  if (PASSING.includes(target)) return { type: 'none' };
  return TARGETS[target] ?? { type: option === '-g' ? 'goto' : 'jump', chain: target };
}

const SILENT: readonly string[] = ['comment', 'conntrack', 'state', 'tcp', 'udp', 'multiport'];

const moduleConditions = (name: string): Condition[] =>
  SILENT.includes(name) ? [] : [{ field: PARTIAL.includes(name) ? 'part' : 'unknown' }];

/** Options of modules that say nothing by themselves when loaded: ports of senders, flags, kinds. */
const optionConditions = (option: string): Condition[] =>
  /^--(sports?|tcp-flags|syn|ports|icmp-type|icmpv6-type|limit|limit-burst)$/.test(option)
    ? [{ field: 'part' }]
    : [{ field: 'unknown' }];
