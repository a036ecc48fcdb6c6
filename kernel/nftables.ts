// nftables through libnftables, in this process: one text, one transaction, all or nothing. Tables are read back in nft's
// own words; parseTable is the inverse of model/ruleset.ts' printTable. Nothing depends on /etc/protocols: it is listed by
// numbers, which in elements become names again; a rule that compares a protocol must give its number.

import { spawn } from 'node:child_process';
import { NetError } from '../model/errors.ts';
import {
  type BaseChain,
  type Chain,
  type ChainHead,
  type HandledRule,
  type NftSet,
  printTransaction,
  type Rule,
  type Table,
  type Transaction,
} from '../model/ruleset.ts';
import { errnoOfText, type Listing, type NftablesLibrary, openNftables } from './ffi.ts';

export interface Nftables {
  read(family: Table['family'], name: string): Table | undefined;
  listChains(): ChainHead[];
  readChain(chain: Pick<ChainHead, 'family' | 'table' | 'name'>): HandledRule[] | undefined;
  commit(transaction: Transaction): void;
  close(): void;
}

/** A context in the namespace the thread is in, opened at first use. */
export function nftables(open: () => NftablesLibrary = openNftables): Nftables {
  let library: NftablesLibrary | undefined;
  const run = (commands: string, listing?: Listing) => {
    library ??= open();
    return library.run(commands, listing);
  };
  /** Undefined when it isn't there. */
  const list = (what: string, subject: string, listing?: Listing) => {
    const { ok, output, error } = run(`list ${what}`, listing);
    if (ok) return output;
    const failed = failure(`list ${what}`, subject, error);
    if (failed.errno === 'ENOENT') return undefined;
    throw failed;
  };
  return {
    read(family, name) {
      const output = list(`table ${family} ${name}`, name);
      return output === undefined ? undefined : parseTable(output);
    },
    listChains: () => parseHeads(list('chains', 'chains', 'told') ?? ''),
    readChain({ family, table, name }) {
      const output = list(`chain ${[family, table, name].map(word).join(' ')}`, name, 'told');
      return output === undefined ? undefined : parseHandled(output);
    },
    commit(transaction) {
      const { ok, error } = run(printTransaction(transaction));
      if (!ok) throw failure(`change table ${transaction.family} ${transaction.table}`, transaction.table, error);
    },
    close() {
      library?.free();
      library = undefined;
    },
  };
}

/** Where the program is looked for. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** Enough to say what was refused. */
const MOST_ERROR_BYTES = 10_000;

/**
 * The transaction by the program nft, in the namespaces of this process.
 * @throws NetError kernel; errno ENOENT also where there is no such program
 */
export function commitAside(transaction: Transaction): Promise<void> {
  const attempt = `change table ${transaction.family} ${transaction.table}`;
  return new Promise((resolve, reject) => {
    const child = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'], env: { PATH } });
    let said = '';
    child.stderr.on('data', (chunk) => {
      if (said.length < MOST_ERROR_BYTES) said += chunk;
    });
    // It may end before it has read everything: what it said counts.
    child.stdin.on('error', () => undefined);
    child.once('error', (error: NodeJS.ErrnoException) => {
      const facts = { errno: error.code, subject: 'nft', cause: error };
      reject(new NetError('kernel', `start nft (package nftables): ${error.code}`, facts));
    });
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(failure(attempt, transaction.table, said || `nft ended with ${signal ?? `exit code ${code}`}`));
    });
    child.stdin.end(printTransaction(transaction));
  });
}

function failure(attempt: string, subject: string, error: string): NetError {
  // To a name that isn't there, nft adds one that is and looks similar.
  const line = (error.split('\n')[0] ?? '').replace(/; did you mean .*/, '');
  return new NetError('kernel', `${attempt}: ${line || 'failed'}`, {
    errno: errnoOfText(line),
    subject,
    details: error,
  });
}

/** The table that `nft list table` printed. @throws NetError internal for text that has another shape */
export function parseTable(text: string): Table {
  const lines = text.split('\n').map((line) => line.trim());
  const head = /^table (\w+) (\S+) \{$/.exec(lines[0] ?? '');
  if (head === null) throw new NetError('internal', `unexpected answer of nft: ${text.slice(0, 80)}`);
  const chains: Chain[] = [];
  const sets: NftSet[] = [];
  for (let at = 1; at < lines.length; at++) {
    const block = /^(chain|set|map) (\S+) \{$/.exec(lines[at] as string);
    if (block === null) continue;
    const end = lines.indexOf('}', at);
    const body = lines.slice(at + 1, end);
    if (block[1] === 'chain') chains.push(parseChain(block[2] as string, body));
    else sets.push(parseSet(block[2] as string, body));
    at = end;
  }
  return { family: head[1] as Table['family'], name: head[2] as string, chains, sets };
}

/** A name that nft itself has printed, and nothing else. @throws NetError internal */
function word(name: string): string {
  if (/^[\w./-]+$/.test(name)) return name;
  throw new NetError('internal', `${JSON.stringify(name)} is no word of nft`);
}

/** The chains that `nft --handle list chains` printed. Names that its grammar can't read back are left out. */
function parseHeads(text: string): ChainHead[] {
  const heads: ChainHead[] = [];
  let table: Pick<ChainHead, 'family' | 'table'> | undefined;
  for (const line of text.split('\n').map((each) => each.trim())) {
    const opened = /^table (\w+) ([\w./-]+) \{/.exec(line);
    if (opened !== null) table = { family: opened[1] as string, table: opened[2] as string };
    const head = /^chain ([\w./-]+) \{ # handle (\d+)$/.exec(line);
    if (head !== null && table !== undefined) {
      heads.push({ ...table, name: head[1] as string, handle: Number(head[2]) });
    }
    const base = parseBase(line);
    const last = heads.at(-1);
    if (base !== undefined && last !== undefined) heads[heads.length - 1] = { ...last, base };
  }
  return heads;
}

/** The rules that `nft --handle list chain` printed; each is a line that ends with its handle. */
function parseHandled(text: string): HandledRule[] {
  return text.split('\n').flatMap((line) => {
    const rule = /^(.+) # handle (\d+)$/.exec(line.trim());
    if (rule === null || /^(chain|table) \S.* \{$/.test(rule[1] as string)) return [];
    return [{ handle: Number(rule[2]), text: rule[1] as string }];
  });
}

function parseBase(line: string): BaseChain | undefined {
  const base = /^type (\w+) hook (\w+) (?:device \S+ )?priority ([^;]+); policy (\w+);$/.exec(line);
  if (base === null) return undefined;
  const [, type, hook, priority, policy] = base;
  return { type, hook, priority, policy } as BaseChain;
}

function parseChain(name: string, body: readonly string[]): Chain {
  const base = parseBase(body[0] ?? '');
  const rules = body.slice(base === undefined ? 0 : 1).filter((line) => line !== '') as Rule[];
  return base === undefined ? { name, rules } : { name, base, rules };
}

function parseSet(name: string, body: readonly string[]): NftSet {
  const text = body.join(' ');
  const type =
    /(?:^| )(?:type )?((?:typeof )?[^:{}]+?)(?: : ([^{}]+?))?(?= flags | counter | counter$| elements | size | timeout | auto-merge|$)/.exec(
      text,
    );
  const flags = /(?:^| )flags (\S+)/.exec(text)?.[1]?.split(',');
  const elements = /elements = \{(.*)\}/
    .exec(text)?.[1]
    ?.split(',')
    .map((element) => element.replace(/ counter packets \d+ bytes \d+/, '').trim())
    .filter((element) => element !== '');
  const columns = (type?.[1] ?? '').split(' . ');
  return {
    name,
    type: type?.[1] ?? '',
    ...(type?.[2] !== undefined && { gives: type[2] }),
    ...(flags !== undefined && { flags }),
    ...(/ counter( |$)/.test(text.split(' elements = ')[0] as string) && { counted: true }),
    elements: elements?.map((element) => namingProtocols(columns, element)) ?? [],
  };
}

/** Transport protocols by the names that are words of nft's own grammar, so that no file is asked for them. */
const PROTOCOLS: Readonly<Record<string, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/** An element whose protocol is listed as a number, with the name by which it was added. */
function namingProtocols(columns: readonly string[], element: string): string {
  const at = columns.indexOf('inet_proto');
  if (at < 0) return element;
  const [key = '', ...given] = element.split(' : ');
  const parts = key.split(' . ');
  parts[at] = PROTOCOLS[parts[at] ?? ''] ?? (parts[at] as string);
  return [parts.join(' . '), ...given].join(' : ');
}
