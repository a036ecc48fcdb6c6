// Tables of the fake kernel. Rules stay text: all that is understood of them is which chains and sets they refer to,
// which is what the kernel counts before it lets a chain or set go (net/netfilter/nf_tables_api.c).

import { hostPrefix, overlaps, type Prefix, tryIp, tryPrefix } from '../model/ip.ts';
import type {
  BaseChain,
  Chain,
  ChainHead,
  HandledRule,
  NftCommand,
  NftSet,
  Rule,
  Table,
  Transaction,
} from '../model/ruleset.ts';
import { refuse } from './fake-net.ts';

/** Tables by "family name". */
export type Tables = Map<string, Table>;

/** How deep chains may call each other (NFT_JUMP_STACK_SIZE). */
const JUMP_DEPTH = 16;

const keyOf = ({ family, table }: Transaction): string => `${family} ${table}`;

/** All commands or none. Equivalent to: nft -f */
export function commit(tables: Tables, transaction: Transaction): void {
  const key = keyOf(transaction);
  let table = tables.get(key);
  for (const command of transaction.commands) table = step(table, transaction, command);
  if (table === undefined) tables.delete(key);
  else tables.set(key, bounded(table));
}

function step(table: Table | undefined, { family, table: name }: Transaction, command: NftCommand): Table | undefined {
  if (command.type === 'table' && command.verb === 'add') return table ?? { family, name, chains: [], sets: [] };
  if (table === undefined) return refuse('ENOENT');
  switch (command.type) {
    case 'table':
      return undefined;
    case 'chain':
      return { ...table, chains: changeChain(table, command) };
    case 'rule':
      return { ...table, chains: changeRules(table, command) };
    case 'set':
      return { ...table, sets: changeSet(table, command) };
    case 'element':
      return { ...table, sets: changeElements(table, command) };
  }
}

type ChainCommand = Extract<NftCommand, { type: 'chain' }>;

function changeChain(table: Table, command: ChainCommand): readonly Chain[] {
  const { name } = command.chain;
  const old = table.chains.find((chain) => chain.name === name);
  if (command.verb === 'add') return addChain(table.chains, old, command.chain);
  if (old === undefined) return refuse('ENOENT');
  if (command.verb === 'flush') return table.chains.map((chain) => (chain === old ? { ...chain, rules: [] } : chain));
  const others = table.chains.filter((chain) => chain !== old);
  return isReferenced({ ...table, chains: others }, chainsIn, name) ? refuse('EBUSY') : others;
}

/** A chain that is there already may change its policy, never its place. */
function addChain(
  chains: readonly Chain[],
  old: Chain | undefined,
  { name, base }: Omit<Chain, 'rules'>,
): readonly Chain[] {
  if (old === undefined) return [...chains, { name, ...(base !== undefined && { base }), rules: [] }];
  if (base === undefined) return chains;
  if (old.base === undefined || placeOf(old.base) !== placeOf(base)) refuse('ENOTSUP');
  return chains.map((other) => (other === old ? { ...old, base } : other));
}

const placeOf = ({ type, hook, priority }: BaseChain): string => [type, hook, priority].join(' ');

type RuleCommand = Extract<NftCommand, { type: 'rule' }>;

function changeRules(table: Table, command: RuleCommand): readonly Chain[] {
  const chain = table.chains.find((other) => other.name === command.chain) ?? refuse('ENOENT');
  const { rules } = chain;
  const filled = (after: readonly Rule[]) =>
    table.chains.map((other) => (other === chain ? { ...chain, rules: after } : other));
  if (command.verb === 'delete') {
    const at = handlesOf(table, chain).indexOf(command.handle);
    return at < 0 ? refuse('ENOENT') : filled(rules.toSpliced(at, 1));
  }
  checkRule(table, command.rule);
  return filled(command.verb === 'add' ? [...rules, command.rule] : [command.rule, ...rules]);
}

function checkRule(table: Table, rule: Rule): void {
  for (const set of setsIn(rule)) if (!table.sets.some((other) => other.name === set)) refuse('ENOENT');
  checkTargets(table, rule);
}

/** Numbers of what has been seen in a table so far, by table and text. */
const handles = new Map<string, number>();

function handleOf(...words: readonly string[]): number {
  const key = words.join(' ');
  const handle = handles.get(key) ?? handles.size + 1;
  handles.set(key, handle);
  return handle;
}

/** Of each rule of the chain: a number of its own, as long as it and its likes before it are there. */
function handlesOf({ family, name }: Pick<Table, 'family' | 'name'>, chain: Chain): number[] {
  return chain.rules.map((rule, at) => {
    const likes = chain.rules.slice(0, at).filter((other) => other === rule).length;
    return handleOf(family, name, chain.name, String(likes), rule);
  });
}

/** Equivalent to: nft --handle list chains */
export const listChains = (tables: Tables): ChainHead[] =>
  [...tables.values()].flatMap(({ family, name: table, chains }) =>
    chains.map(({ name, base }) => ({
      family,
      table,
      name,
      handle: handleOf(family, table, name),
      ...(base !== undefined && { base }),
    })),
  );

/** Equivalent to: nft --handle --stateless list chain */
export function readChain(
  tables: Tables,
  { family, table, name }: Pick<ChainHead, 'family' | 'table' | 'name'>,
): HandledRule[] | undefined {
  const holder = tables.get(`${family} ${table}`);
  const chain = holder?.chains.find((other) => other.name === name);
  if (holder === undefined || chain === undefined) return undefined;
  const numbers = handlesOf(holder, chain);
  return chain.rules.map((rule, at) => ({
    handle: numbers[at] as number,
    text: rule.replace(/ packets \d+ bytes \d+/g, ''),
  }));
}

/** Chains that are called must exist and must not be called by a hook. */
function checkTargets(table: Table, text: string): void {
  for (const name of chainsIn(text)) {
    const target = table.chains.find((chain) => chain.name === name) ?? refuse('ENOENT');
    if (target.base !== undefined) refuse('ENOTSUP');
  }
}

/** A rule's words without what it quotes: device names and comments. */
const unquoted = (text: string): string => text.replace(/"[^"]*"/g, '""');

const setsIn = (text: string): string[] =>
  [...unquoted(text).matchAll(/@(?!(?:ll|nh|th|ih),)([\w./-]+)/g)].map((match) => match[1] as string);

const chainsIn = (text: string): string[] =>
  [...unquoted(text).matchAll(/\b(?:jump|goto) ([\w./-]+)/g)].map((match) => match[1] as string);

function isReferenced({ chains, sets }: Table, namesIn: (text: string) => string[], name: string): boolean {
  const texts = [
    ...chains.flatMap(({ rules }) => rules),
    ...sets.filter(({ gives }) => gives === 'verdict').flatMap(({ elements }) => elements),
  ];
  return texts.some((text) => namesIn(text).includes(name));
}

type SetCommand = Extract<NftCommand, { type: 'set' }>;

function changeSet(table: Table, { verb, set }: SetCommand): readonly NftSet[] {
  const old = table.sets.find(({ name }) => name === set.name);
  if (verb === 'add') {
    if (old === undefined) return [...table.sets, { ...set, elements: [] }];
    return kindOf(old) === kindOf(set) ? table.sets : refuse('EEXIST');
  }
  if (old === undefined) return refuse('ENOENT');
  if (verb === 'flush') return table.sets.map((other) => (other === old ? { ...old, elements: [] } : other));
  return isReferenced(table, setsIn, set.name) ? refuse('EBUSY') : table.sets.filter((other) => other !== old);
}

const kindOf = ({ type, gives, flags, counted = false }: Omit<NftSet, 'elements'>): string =>
  [type, gives, counted, ...[...(flags ?? [])].sort()].join(' ');

type ElementCommand = Extract<NftCommand, { type: 'element' }>;

function changeElements(table: Table, { verb, set, elements }: ElementCommand): readonly NftSet[] {
  const old = table.sets.find(({ name }) => name === set.name) ?? refuse('ENOENT');
  const held = new Map(old.elements.map((element) => [elementKey(element), element]));
  for (const element of elements) {
    if (verb === 'delete') held.delete(elementKey(element)) || refuse('ENOENT');
    else addElement(table, old, held, element);
  }
  return table.sets.map((other) => (other === old ? { ...old, elements: [...held.values()] } : other));
}

function addElement(table: Table, set: NftSet, held: Map<string, string>, element: string): void {
  const key = elementKey(element);
  const there = held.get(key);
  if (there !== undefined && there !== element) refuse('EEXIST');
  if (set.gives === 'verdict') checkTargets(table, element);
  if (set.flags?.includes('interval') && [...held.keys()].some((other) => other !== key && overlapping(other, key)))
    refuse('EEXIST');
  held.set(key, element);
}

/** A map's element without what it gives. */
const elementKey = (element: string): string => element.split(' : ')[0] as string;

/** Of single addresses and prefixes only; ranges and concatenations are taken to be disjoint. */
function overlapping(a: string, b: string): boolean {
  const [left, right] = [spanOf(a), spanOf(b)];
  return left !== undefined && right !== undefined && overlaps(left, right);
}

function spanOf(text: string): Prefix | undefined {
  const ip = tryIp(text);
  return ip === undefined ? tryPrefix(text) : hostPrefix(ip);
}

/** The table, if no packet can be sent round in circles or too deep in it. */
function bounded(table: Table): Table {
  const rulesOf = new Map(table.chains.map(({ name, rules }) => [name, rules]));
  const elementsOf = new Map(table.sets.map(({ name, elements }) => [name, elements]));
  const visit = (name: string, level: number): void => {
    if (level === JUMP_DEPTH) refuse('EMLINK');
    const rules = rulesOf.get(name) ?? [];
    const verdicts = rules.flatMap((rule) => setsIn(rule).flatMap((set) => elementsOf.get(set) ?? []));
    for (const target of new Set([...rules, ...verdicts].flatMap(chainsIn))) visit(target, level + 1);
  };
  for (const { name, base } of table.chains) if (base !== undefined) visit(name, 0);
  return table;
}

/** Equivalent to: nft list table FAMILY NAME */
export const readTable = (tables: Tables, family: Table['family'], name: string): Table | undefined =>
  tables.get(`${family} ${name}`);
