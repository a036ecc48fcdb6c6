// What of other people's packet filters stands in the way, and what to do about it. Pure.

import { familyOf, type Prefix } from '../../model/ip.ts';
import type { Traffic } from './condition.ts';
import { type Chains, type Fate, fateOf, type FilterChain } from './filter.ts';
import { forwarded, received, type Site } from './traffic.ts';

/** A table of nft with the chains that a hook leads to. */
export interface HookedTable {
  /** "inet", "ip", "ip6"; "legacy ip" for a table of iptables-legacy. */
  readonly family: string;
  readonly name: string;
  readonly hook: 'forward' | 'input';
  /** The chain that the hook calls. */
  readonly entry: FilterChain;
  readonly chains: Chains;
}

/** A place where traffic is dropped. */
export interface Finding {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** nft's number of the rule, or of the chain whose policy it is; of a legacy table the rule's place, or 0. */
  readonly handle: number;
  /** The rule, or "policy drop". */
  readonly rule: string;
  /** Traffic that is dropped: "IPv4 from pods to other nodes". */
  readonly drops: readonly string[];
  /** What to do, for each family. */
  readonly advice: readonly string[];
}

/** What drops each site's traffic, a place once. */
export function findingsOf(tables: readonly HookedTable[], sites: readonly Site[]): Finding[] {
  const found = new Map<string, Finding>();
  for (const finding of tables.flatMap((table) => sites.flatMap((site) => droppedBy(table, site)))) {
    const key = [finding.family, finding.table, finding.chain, finding.handle].join(' ');
    const known = found.get(key);
    const drops = [...new Set([...(known?.drops ?? []), ...finding.drops])];
    const advice = [...new Set([...(known?.advice ?? []), ...finding.advice])];
    found.set(key, { ...finding, drops, advice });
  }
  return [...found.values()];
}

/** One finding for each traffic of the site. */
function droppedBy(table: HookedTable, site: Site): Finding[] {
  if (!sees(table, site)) return [];
  return (table.hook === 'forward' ? forwarded(site) : received(site)).flatMap((traffic) => {
    const fate = fateOf(table.chains, table.entry, traffic, 'hopeful');
    return fate?.verdict === 'drop' ? [findingOf(table, fate, site, traffic)] : [];
  });
}

const sees = ({ family }: HookedTable, site: Site): boolean =>
  family === 'inet' || family.endsWith(site.family === 4 ? 'ip' : 'ip6');

function findingOf(table: HookedTable, { chain, rule }: Fate, site: Site, { what }: Traffic): Finding {
  return {
    family: table.family,
    table: table.name,
    chain: chain.name,
    handle: rule?.handle ?? chain.handle,
    rule: rule?.text ?? 'policy drop',
    drops: [`IPv${site.family} ${what}`],
    advice: [adviceFor(table, site)],
  };
}

const isFirewalld = ({ family, name }: Pick<HookedTable, 'family' | 'name'>): boolean =>
  family === 'inet' && name === 'firewalld';

function adviceFor(table: HookedTable, site: Site): string {
  if (isFirewalld(table)) return firewalldAdvice(table, site);
  if (table.family.startsWith('legacy')) return iptablesAdvice(table, site, '-legacy');
  // Tables of iptables-nft are called so.
  return table.name === 'filter' && table.family !== 'inet' ? iptablesAdvice(table, site, '') : nftAdvice(table, site);
}

const firewalldAdvice = ({ hook }: HookedTable, { network, port }: Site): string =>
  hook === 'forward'
    ? `firewall-cmd --permanent --zone=trusted --add-source=${network}, then firewall-cmd --reload`
    : `firewall-cmd --permanent --add-port=${port}/udp for the zone of the interface, then firewall-cmd --reload`;

function iptablesAdvice({ hook, entry }: HookedTable, { network, port }: Site, suffix: string): string {
  const program = `${familyOf(network) === 4 ? 'iptables' : 'ip6tables'}${suffix}`;
  return hook === 'forward'
    ? `${program} -I ${entry.name} -s ${network} -j ACCEPT and ${program} -I ${entry.name} -d ${network} -j ACCEPT`
    : `${program} -I ${entry.name} -p udp --dport ${port} -j ACCEPT`;
}

function nftAdvice({ family, name, entry, hook }: HookedTable, { network, port }: Site): string {
  const ip = familyOf(network) === 4 ? 'ip' : 'ip6';
  const insert = `nft insert rule ${family} ${name} ${entry.name}`;
  return hook === 'forward'
    ? `${insert} ${ip} saddr ${network} accept and ${insert} ${ip} daddr ${network} accept, and the same in its configuration`
    : `${insert} udp dport ${port} accept, and the same in its configuration`;
}

/** A finding in a line. */
const describeFinding = ({ family, table, chain, handle, rule, drops, advice }: Finding): string =>
  `table ${family} ${table}, chain ${chain}, handle ${handle} (${rule}) drops ${drops.join(', ')}: ${advice.join('; ')}`;

/** What is the matter with packet filters, a line each. */
export const firewallRemarks = ({
  findings,
  troubles,
}: {
  readonly findings: readonly Finding[];
  readonly troubles: readonly string[];
}): string[] => [...findings.map(describeFinding), ...troubles].map((line) => `packet filter: ${line}`);

/** Whether firewalld rejects what is forwarded of a Network. */
export const isBlocked = (findings: readonly Finding[], network: Prefix): boolean =>
  findings.some(
    ({ family, table, drops }) =>
      isFirewalld({ family, name: table }) &&
      drops.some((each) => each.startsWith(`IPv${familyOf(network)} `) && !each.includes('UDP port')),
  );
