// One nftables table as a value: chains with their rules, sets and maps. Rules are kept in the very words in which nft
// lists them, so that what is wanted and what the kernel says can be compared as text, rule by rule.
//
// Text becomes part of a rule only through {@link rule}, which accepts typed values and prints each by its type; device
// names are quoted, since the kernel allows quotes, braces and semicolons in them.

import { NetError } from './errors.ts';
import { type Ip, type Prefix, tryIp, tryPrefix } from './ip.ts';

/** One rule in nft's own words. Made by {@link rule} or read from the kernel. */
export type Rule = string & { readonly __rule: true };

export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress';
  /** As nft lists it: "filter", "srcnat", "dstnat", "filter - 10", "-5". */
  readonly priority: string;
  readonly policy: 'accept' | 'drop';
}

export interface Chain {
  readonly name: string;
  readonly base?: BaseChain | undefined;
  readonly rules: readonly Rule[];
}

export interface NftSet {
  readonly name: string;
  /** "ipv4_addr", "inet_proto . inet_service" …; "typeof …" where nft has no word for it: "typeof @th,64,128". */
  readonly type: string;
  /** What a map gives: "verdict", "ipv4_addr . inet_service". Undefined: a set. */
  readonly gives?: string | undefined;
  readonly flags?: readonly string[] | undefined;
  /** Whether each element counts the packets that were looked up and found it. */
  readonly counted?: boolean | undefined;
  /** As nft lists them: "10.5.1.0/24", "tcp . 80", and in a map "tcp . 80 : 10.5.1.2 . 8080". */
  readonly elements: readonly string[];
}

export interface Table {
  readonly family: 'inet' | 'ip' | 'ip6' | 'bridge' | 'netdev';
  readonly name: string;
  readonly chains: readonly Chain[];
  readonly sets: readonly NftSet[];
}

/** A chain of any table, without its rules. */
export interface ChainHead {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly handle: number;
  readonly base?: BaseChain | undefined;
}

/** A rule of any table, by the number that nft knows it by. */
export interface HandledRule {
  readonly handle: number;
  /** As `nft --stateless --terse list` prints it. */
  readonly text: string;
}

/** A set without what is in it. */
export type SetHead = Omit<NftSet, 'elements'>;

/** One command of a transaction, as a value that prints. */
export type NftCommand =
  | { readonly verb: 'add' | 'delete'; readonly type: 'table' }
  | { readonly verb: 'add'; readonly type: 'chain'; readonly chain: Omit<Chain, 'rules'> }
  | { readonly verb: 'delete' | 'flush'; readonly type: 'chain'; readonly chain: Pick<Chain, 'name'> }
  | { readonly verb: 'add'; readonly type: 'rule'; readonly chain: string; readonly rule: Rule }
  /** Before all others of the chain. */
  | { readonly verb: 'insert'; readonly type: 'rule'; readonly chain: string; readonly rule: Rule }
  | { readonly verb: 'delete'; readonly type: 'rule'; readonly chain: string; readonly handle: number }
  | { readonly verb: 'add'; readonly type: 'set'; readonly set: SetHead }
  | { readonly verb: 'delete' | 'flush'; readonly type: 'set'; readonly set: SetHead }
  | {
      readonly verb: 'add' | 'delete';
      readonly type: 'element';
      readonly set: SetHead;
      readonly elements: readonly string[];
    };

/** Commands on one table that take effect together or not at all. */
export interface Transaction {
  readonly family: Table['family'];
  readonly table: string;
  readonly commands: readonly NftCommand[];
}

/** A nft identifier made of validated parts. */
export type Identifier = string & { readonly __identifier: true };
/** Text already quoted for nft. */
export type Quoted = string & { readonly __quoted: true };

/** @throws NetError internal when nft would not take it as an identifier of at most 127 bytes */
export function identifier(text: string): Identifier {
  if (!/^[A-Za-z_][A-Za-z0-9_./-]{0,126}$/.test(text))
    throw new NetError('internal', `${JSON.stringify(text)} is no nft identifier`);
  return text as Identifier;
}

/** The part of a chain's or set's name that says whose it is: "10.5.0.0/16" → "10.5.0.0-16", "fd00::/56" → "fd00__-56". */
export const ownerKey = (network: Prefix): string => network.replaceAll(':', '_').replace('/', '-');

/**
 * A device name in quotes. nft has no escape inside a string, so a name with a double quote can't be expressed.
 * @throws NetError invalid-config for a name of the wrong length or with a quote, a control character or white space
 */
export function deviceName(name: string): Quoted {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (!/^[^\u0000-\u0020"/*\\\u007f]{1,15}$/.test(name)) {
    throw new NetError('invalid-config', `interface name ${JSON.stringify(name)} can't be used in a firewall rule`, {
      subject: name,
    });
  }
  return `"${name}"` as Quoted;
}

/** A rule comment (at most 127 bytes), with everything nft can't quote replaced. */
export function comment(text: string): Quoted {
  return `"${text.replace(/[^A-Za-z0-9 ._:/@=,+-]/g, '?').slice(0, 127)}"` as Quoted;
}

type RulePart = Ip | Prefix | Identifier | Quoted | number;

/** A rule from nft's words and typed values: rule`ip saddr ${network} accept`. White space between them is folded. */
export function rule(words: TemplateStringsArray, ...parts: readonly RulePart[]): Rule {
  const folded = words.map((word) => word.replace(/\s+/g, ' '));
  const text = folded.map((word, at) => (at < parts.length ? word + safePart(parts[at] as RulePart) : word)).join('');
  return text.replace(/^ | $/g, '') as Rule;
}

/** The types promise that a part is safe; this holds callers to it at run time too. */
function safePart(part: RulePart): string {
  if (typeof part === 'number' && Number.isSafeInteger(part)) return String(part);
  const text = String(part);
  if (tryIp(text) ?? tryPrefix(text)) return text;
  if (/^"[^"\n]*"$/.test(text)) return text;
  return identifier(text);
}

const headOf = ({ name, type, gives, flags, counted }: SetHead): SetHead => ({ name, type, gives, flags, counted });

/** The table as `nft list table` prints it, and as `nft -f` reads it. */
export function printTable(table: Table): string {
  const sets = table.sets.map(
    (set) => `\t${set.gives === undefined ? 'set' : 'map'} ${set.name} {\n${setBody(set)}\t}\n`,
  );
  const chains = table.chains.map((chain) => {
    const head = chain.base === undefined ? '' : `\t\t${baseText(chain.base)}\n`;
    return `\tchain ${chain.name} {\n${head}${chain.rules.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
  });
  return `table ${table.family} ${table.name} {\n${[...sets, ...chains].join('\n')}}\n`;
}

const setType = (set: SetHead): string =>
  `${set.type.startsWith('typeof ') ? '' : 'type '}${set.type}${set.gives === undefined ? '' : ` : ${set.gives}`}`;

function setBody(set: NftSet): string {
  const flags = set.flags?.length ? `\t\tflags ${set.flags.join(',')}\n` : '';
  const elements = set.elements.length ? `\t\telements = { ${set.elements.join(', ')} }\n` : '';
  return `\t\t${setType(set)}\n${flags}${set.counted ? '\t\tcounter\n' : ''}${elements}`;
}

const baseText = ({ type, hook, priority, policy }: BaseChain): string =>
  `type ${type} hook ${hook} priority ${priority}; policy ${policy};`;

/** The transaction as text for `nft -f` and libnftables. */
export function printTransaction({ family, table, commands }: Transaction): string {
  return commands.map((command) => `${printCommand(`${family} ${table}`, command)}\n`).join('');
}

function printCommand(table: string, command: NftCommand): string {
  switch (command.type) {
    case 'table':
      return `${command.verb} table ${table}`;
    case 'chain': {
      const head = `${command.verb} chain ${table} ${command.chain.name}`;
      const base = command.verb === 'add' ? command.chain.base : undefined;
      return base === undefined ? head : `${head} { ${baseText(base)} }`;
    }
    case 'rule':
      return command.verb === 'delete'
        ? `delete rule ${table} ${command.chain} handle ${command.handle}`
        : `${command.verb} rule ${table} ${command.chain} ${command.rule}`;
    case 'set': {
      const { set, verb } = command;
      const head = `${verb} ${set.gives === undefined ? 'set' : 'map'} ${table} ${set.name}`;
      if (verb !== 'add') return head;
      const flags = set.flags?.length ? ` flags ${set.flags.join(',')};` : '';
      return `${head} { ${setType(set)};${flags}${set.counted ? ' counter;' : ''} }`;
    }
    case 'element':
      return `${command.verb} element ${table} ${command.set.name} { ${command.elements.join(', ')} }`;
  }
}

/** Whether a chain or set of the table is ours to change and remove. */
export type OwnsName = (name: string) => boolean;

/**
 * The commands from `have` to `want`, as one transaction; undefined when nothing differs. Chains come before the
 * elements that jump to them, sets before the rules that look them up. What `owns` does not claim is left alone. A
 * chain with any other rule than wanted is flushed and filled again, which in one transaction no packet sees.
 */
export function diffTable(have: Table | undefined, want: Table, owns: OwnsName): Transaction | undefined {
  const before = have ?? { ...want, chains: [], sets: [] };
  const sets = setCommands(before, want, owns);
  const chains = chainCommands(before, want, owns);
  const commands: NftCommand[] = [
    ...(have === undefined ? [{ verb: 'add', type: 'table' } as const] : []),
    // Rules let go of sets and chains, elements and sets of the chains they jump to: only then nothing is in use.
    ...chains.flush,
    ...sets.remove,
    ...chains.remove,
    // The other way round: elements jump to chains, rules to chains and sets.
    ...chains.declare,
    ...sets.add,
    ...chains.fill,
  ];
  return commands.length === 0 ? undefined : { family: want.family, table: want.name, commands };
}

function setCommands(have: Table, want: Table, owns: OwnsName) {
  const wanted = new Set(want.sets.map(({ name }) => name));
  const gone = have.sets.filter(({ name }) => owns(name) && !wanted.has(name));
  const remove: NftCommand[] = gone.map((set) => ({ verb: 'delete', type: 'set', set: headOf(set) }));
  const add: NftCommand[] = [];
  const present = new Map(have.sets.map((set) => [set.name, set]));
  for (const set of want.sets) {
    const old = present.get(set.name);
    if (old === set) continue;
    if (old !== undefined && headText(old) !== headText(set)) {
      throw new NetError('foreign-object', `nft set ${set.name} exists with another type`, { subject: set.name });
    }
    const head = headOf(set);
    if (old === undefined) {
      add.push({ verb: 'add', type: 'set', set: head });
      if (set.elements.length > 0) add.push(elementsOf('add', head, [...new Set(set.elements)]));
      continue;
    }
    if (sameItems(old.elements, set.elements)) continue;
    const [before, after] = [elementSet(old.elements), elementSet(set.elements)];
    const stale = [...before].filter((element) => !after.has(element));
    const missing = [...after].filter((element) => !before.has(element));
    if (stale.length > 0) remove.push(elementsOf('delete', head, stale.map(keyOf)));
    if (missing.length > 0) add.push(elementsOf('add', head, missing));
  }
  return { remove, add };
}

const elementsOf = (verb: 'add' | 'delete', set: SetHead, elements: readonly string[]): NftCommand => ({
  verb,
  type: 'element',
  set,
  elements,
});

/** What is wanted now is what there is the next time. */
const elementSets = new WeakMap<readonly string[], ReadonlySet<string>>();

function elementSet(elements: readonly string[]): ReadonlySet<string> {
  const known = elementSets.get(elements);
  if (known !== undefined) return known;
  const made = new Set(elements);
  elementSets.set(elements, made);
  return made;
}

/** In the same order too, as they are when nothing has changed: that is told without looking any of them up. */
const sameItems = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item, at) => item === b[at]);

/** A map's element without what it gives. */
const keyOf = (element: string): string => element.split(' : ')[0] as string;

const headText = (set: NftSet): string =>
  `${setType(set)} ${[...(set.flags ?? [])].sort()}${set.counted ? ' counter' : ''}`;

function chainCommands(have: Table, want: Table, owns: OwnsName) {
  const old = new Map(have.chains.map((chain) => [chain.name, chain]));
  const wanted = new Set(want.chains.map(({ name }) => name));
  const stays = (chain: Chain) => old.has(chain.name) && placeOf(old.get(chain.name)) === placeOf(chain);
  const gone = have.chains.filter(({ name }) => owns(name) && !wanted.has(name));
  const fresh = want.chains.filter((chain) => !stays(chain));
  const moved = fresh.filter(({ name }) => old.has(name));
  const isAsBefore = (chain: Chain): boolean => {
    const before = old.get(chain.name);
    return before === chain || rulesOf(before) === rulesOf(chain);
  };
  const changed = want.chains.filter((chain) => stays(chain) && !isAsBefore(chain));
  const on = (verb: 'flush' | 'delete', chains: readonly Chain[]) =>
    chains.map(({ name }): NftCommand => ({ verb, type: 'chain', chain: { name } }));
  return {
    flush: on('flush', [...gone, ...moved, ...changed]),
    remove: on('delete', [...gone, ...moved]),
    declare: fresh.map(({ name, base }): NftCommand => ({ verb: 'add', type: 'chain', chain: { name, base } })),
    fill: [...fresh, ...changed].flatMap(({ name, rules }) =>
      rules.map((rule): NftCommand => ({ verb: 'add', type: 'rule', chain: name, rule })),
    ),
  };
}

const placeOf = (chain: Chain | undefined): string => (chain?.base === undefined ? '' : baseText(chain.base));

const rulesOf = (chain: Chain | undefined): string => chain?.rules.join('\n') ?? '';
