// What the agent would do to other people's packet filters, as values: for `flanneld --dry-run` to print, and for
// `flanneld cleanup` to take out what it has put in.

import type { Kernel } from '../../kernel/kernel.ts';
import { describe } from '../../model/errors.ts';
import { FAMILIES, type Prefix } from '../../model/ip.ts';
import type { Transaction } from '../../model/ruleset.ts';
import { printRules } from '../difference.ts';
import { acceptChange } from './accepts.ts';
import { findingsOf, isBlocked } from './findings.ts';
import { distrust, isTrustedByUs, trustWords } from './firewalld.ts';
import { type FirewallWish, isIptables, nftTransaction, siteOf } from './hold.ts';
import { legacyCommands, readLegacy } from './legacy.ts';
import type { Programs } from './programs.ts';
import { lookAtFilters } from './read.ts';

export interface FirewallChanges {
  readonly transactions: readonly Transaction[];
  /** Programs by name, with their arguments. */
  readonly commands: readonly (readonly string[])[];
  /** What could not be looked at. */
  readonly troubles: readonly string[];
}

/** What the wish takes. Only reads. @throws NetError kernel */
export async function firewallChanges(
  kernel: Kernel,
  programs: Programs | undefined,
  wish: FirewallWish,
): Promise<FirewallChanges> {
  const { tables } = lookAtFilters(kernel);
  const transactions = tables.filter(isIptables).flatMap(({ family, chains }) => {
    const change = acceptChange(chains, siteOf(wish, family === 'ip' ? 4 : 6), wish.networks);
    return change === undefined ? [] : [nftTransaction(family as 'ip' | 'ip6', change)];
  });
  const legacy = programs === undefined ? { commands: [], troubles: [] } : await legacyChanges(programs, wish);
  const findings = wish.forwardRules ? findingsOf(tables, wish.sites) : [];
  const untrusted = wish.sites.map(({ network }) => network).filter((network) => isBlocked(findings, network));
  return { transactions, ...legacy, commands: [...legacy.commands, ...untrusted.map(trustWords)] };
}

async function legacyChanges(programs: Programs, wish: FirewallWish) {
  const commands: string[][] = [];
  const troubles: string[] = [];
  for (const family of FAMILIES) {
    const legacy = await readLegacy(programs, family);
    if (legacy === undefined) continue;
    if ('trouble' in legacy) {
      troubles.push(legacy.trouble);
      continue;
    }
    const change = acceptChange(legacy.chains, siteOf(wish, family), wish.networks);
    if (change !== undefined) commands.push(...legacyCommands(change).map((args) => [legacy.name, ...args]));
  }
  return { commands, troubles };
}

/** What takes out everything that bears the marks of the Networks. Only reads. @throws NetError kernel */
export async function firewallRemoval(
  kernel: Kernel,
  programs: Programs,
  networks: readonly Prefix[],
): Promise<FirewallChanges> {
  const changes = await firewallChanges(kernel, programs, { sites: [], networks, forwardRules: false });
  const trusted: Prefix[] = [];
  for (const network of networks) if (await isTrustedByUs(programs, network)) trusted.push(network);
  return { ...changes, commands: [...changes.commands, ...trusted.map(distrust)] };
}

/** The lines that a person would type. */
export const printFirewallChanges = ({ transactions, commands }: FirewallChanges): string[] => [
  ...transactions.flatMap(printRules),
  ...commands.map((words) => words.map((word) => (word.includes(' ') ? `'${word}'` : word)).join(' ')),
];

/** Makes them. Gives what could not be done, beside what could not be looked at. */
export async function makeFirewallChanges(
  kernel: Kernel,
  programs: Programs,
  { transactions, commands, troubles }: FirewallChanges,
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
    const { status, errors } = await programs.run(programs.find(name) ?? name, args);
    if (status !== 0) problems.push(`${[name, ...args].join(' ')}: exit code ${status}: ${errors.trim()}`);
  }
  return problems;
}
