// nftables through libnftables, in this process: one text, one transaction, all or nothing. Tables are read back in nft's
// own words; parseTable is the inverse of model/ruleset.ts' printTable.

import { spawn } from 'node:child_process';
import { NetError } from '../model/errors.ts';
import {
  type BaseChain,
  type Chain,
  type NftSet,
  printTransaction,
  type Rule,
  type Table,
  type Transaction,
} from '../model/ruleset.ts';
import { errnoOfText, type NftablesLibrary, openNftables } from './ffi.ts';

export interface Nftables {
  read(family: Table['family'], name: string): Table | undefined;
  commit(transaction: Transaction): void;
  close(): void;
}

/** A context in the namespace the thread is in, opened at first use. */
export function nftables(open: () => NftablesLibrary = openNftables): Nftables {
  let library: NftablesLibrary | undefined;
  const run = (commands: string) => {
    library ??= open();
    return library.run(commands);
  };
  return {
    read(family, name) {
      const { ok, output, error } = run(`list table ${family} ${name}`);
      if (ok) return parseTable(output);
      const failed = failure(`list table ${family} ${name}`, name, error);
      if (failed.errno === 'ENOENT') return undefined;
      throw failed;
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
  const line = error.split('\n')[0] ?? '';
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

function parseChain(name: string, body: readonly string[]): Chain {
  const base = /^type (\w+) hook (\w+) (?:device \S+ )?priority ([^;]+); policy (\w+);$/.exec(body[0] ?? '');
  const rules = body.slice(base === null ? 0 : 1).filter((line) => line !== '') as Rule[];
  if (base === null) return { name, rules };
  const [, type, hook, priority, policy] = base;
  return { name, base: { type, hook, priority, policy } as BaseChain, rules };
}

function parseSet(name: string, body: readonly string[]): NftSet {
  const text = body.join(' ');
  const type = /(?:^| )type ([^:{}]+?)(?: : ([^{}]+?))?(?= flags | elements | size | timeout | auto-merge|$)/.exec(
    text,
  );
  const flags = /(?:^| )flags (\S+)/.exec(text)?.[1]?.split(',');
  const elements = /elements = \{(.*)\}/
    .exec(text)?.[1]
    ?.split(',')
    .map((element) => element.trim());
  return {
    name,
    type: type?.[1] ?? '',
    ...(type?.[2] !== undefined && { gives: type[2] }),
    ...(flags !== undefined && { flags }),
    elements: elements?.filter((element) => element !== '') ?? [],
  };
}
