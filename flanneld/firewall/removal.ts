// What the agent has put into other people's packet filters, for `flanneld cleanup` to take out.

import type { Kernel } from '../../kernel/kernel.ts';
import { describe } from '../../model/errors.ts';
import { FAMILIES, type Prefix } from '../../model/ip.ts';
import { printTransaction, type Transaction } from '../../model/ruleset.ts';
import { acceptChange } from './accepts.ts';
import { distrust, isTrustedByUs } from './firewalld.ts';
import { nftTransaction } from './hold.ts';
import { legacyCommands, readLegacy } from './legacy.ts';
import type { Programs } from './programs.ts';
import { lookAtFilters } from './read.ts';

/** What takes it out. */
export interface FirewallRemoval {
  readonly transactions: readonly Transaction[];
  /** Programs by name, with their arguments. */
  readonly commands: readonly (readonly string[])[];
  /** What could not be looked at. */
  readonly troubles: readonly string[];
}

/** Finds what bears the marks of the Networks. Only reads. @throws NetError kernel */
export async function firewallRemoval(
  kernel: Kernel,
  programs: Programs,
  networks: readonly Prefix[],
): Promise<FirewallRemoval> {
  const tables = lookAtFilters(kernel).tables.filter(({ name, hook }) => name === 'filter' && hook === 'forward');
  const transactions = (['ip', 'ip6'] as const).flatMap((family) => {
    const chains = tables.find((table) => table.family === family)?.chains;
    const change = chains && acceptChange(chains, undefined, networks);
    return change === undefined ? [] : [nftTransaction(family, change)];
  });
  const commands: string[][] = [];
  const troubles: string[] = [];
  for (const family of FAMILIES) {
    const legacy = await readLegacy(programs, family);
    if (legacy === undefined) continue;
    if ('trouble' in legacy) {
      troubles.push(legacy.trouble);
      continue;
    }
    const change = acceptChange(legacy.chains, undefined, networks);
    if (change !== undefined) commands.push(...legacyCommands(change).map((args) => [legacy.name, ...args]));
  }
  for (const network of networks) if (await isTrustedByUs(programs, network)) commands.push(distrust(network));
  return { transactions, commands, troubles };
}

/** The lines that a person would type. */
export const printFirewallRemoval = ({ transactions, commands }: FirewallRemoval): string[] => [
  ...transactions.flatMap((transaction) =>
    printTransaction(transaction)
      .trimEnd()
      .split('\n')
      .map((line) => `nft ${line}`),
  ),
  ...commands.map((words) => words.join(' ')),
];

/** Takes it out. Gives what could not be, beside what could not be looked at. */
export async function removeFirewall(
  kernel: Kernel,
  programs: Programs,
  { transactions, commands, troubles }: FirewallRemoval,
): Promise<string[]> {
  const problems = [...troubles];
  for (const transaction of transactions) {
    try {
      kernel.commit(transaction);
    } catch (error) {
      problems.push(describe(error));
    }
  }
  for (const [name = '', ...args] of commands) {
    const program = programs.find(name);
    if (program === undefined) continue;
    const { status, errors } = await programs.run(program, args);
    if (status !== 0) problems.push(`${[name, ...args].join(' ')}: exit code ${status}: ${errors.trim()}`);
  }
  return problems;
}
