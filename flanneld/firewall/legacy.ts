// The FORWARD chain of iptables-legacy, whose interface in the kernel only its own program speaks. It is run where tables
// of its kind are in use, never otherwise: to list them would bring them to life.

import { basename } from 'node:path';
import type { Family } from '../../model/ip.ts';
import { acceptOptions, type Change, FORWARD } from './accepts.ts';
import type { Chains } from './filter.ts';
import type { HookedTable } from './findings.ts';
import { parseIptables } from './iptables-rule.ts';
import type { Programs } from './programs.ts';

const TABLE = 'filter';
/** Seconds to wait for whoever else changes rules. */
const WAIT = ['-w', '5'];

/** A family's legacy filter table, or why it can't be seen; nothing when there is none. */
export type Legacy =
  | { readonly trouble: string }
  | {
      /** Of the program, and its path. */
      readonly name: string;
      readonly program: string;
      readonly family: Family;
      readonly chains: Chains;
    };

/** Reads the table, where there is one. */
export async function readLegacy(programs: Programs, family: Family): Promise<Legacy | undefined> {
  if (!programs.legacyTables(family).includes(TABLE)) return undefined;
  const name = family === 4 ? 'iptables' : 'ip6tables';
  const program = await findLegacy(programs, name);
  if (program === undefined) {
    return {
      trouble: `${name}-legacy is not there, but its table filter is in use: install it (Debian: package iptables), or move its rules to nftables`,
    };
  }
  const { status, output, errors } = await programs.run(program, [...WAIT, '-t', TABLE, '-S']);
  if (status !== 0) return { trouble: failed(`${program} -t ${TABLE} -S`, status, errors) };
  return { name: basename(program), program, family, chains: parseIptables(output) };
}

/** `iptables-legacy`, or an `iptables` that is the same: one from before nftables, or one that says so. */
async function findLegacy(programs: Programs, name: string): Promise<string | undefined> {
  const own = programs.find(`${name}-legacy`);
  const common = programs.find(name);
  if (own !== undefined || common === undefined) return own;
  const { status, output } = await programs.run(common, ['--version']);
  return status === 0 && !output.includes('nf_tables') ? common : undefined;
}

/** The command lines, after the program, that make the change. */
export const legacyCommands = ({ remove, insert }: Change): string[][] => [
  // From the last to the first, so that the numbers of the others stay.
  ...[...remove]
    .sort((a, b) => b.rule.handle - a.rule.handle)
    .map(({ chain, rule }) => [...WAIT, '-t', TABLE, '-D', chain, String(rule.handle)]),
  ...(insert === undefined
    ? []
    : acceptOptions(insert.network)
        .reverse()
        .map((options) => [...WAIT, '-t', TABLE, '-I', insert.chain, '1', ...options])),
];

/** Makes the change. Gives what went wrong, if anything. */
export async function changeLegacy(
  programs: Programs,
  { program }: Exclude<Legacy, { trouble: string }>,
  change: Change,
): Promise<string | undefined> {
  for (const args of legacyCommands(change)) {
    const { status, errors } = await programs.run(program, args);
    if (status !== 0) return failed([program, ...args].join(' '), status, errors);
  }
  return undefined;
}

/** The table as one that a hook of the kernel calls. */
export function legacyTable({ family, chains }: Exclude<Legacy, { trouble: string }>): HookedTable[] {
  return (['forward', 'input'] as const).flatMap((hook) => {
    const entry = chains.get(hook === 'forward' ? FORWARD : 'INPUT');
    return entry === undefined
      ? []
      : [{ family: `legacy ${family === 4 ? 'ip' : 'ip6'}`, name: TABLE, hook, entry, chains }];
  });
}

const failed = (command: string, status: number, errors: string): string =>
  `${command}: exit code ${status}: ${errors.trim().split('\n').at(-1) ?? ''}`;
