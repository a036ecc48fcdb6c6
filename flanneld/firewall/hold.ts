// One look at the host's packet filters, with what it takes to open them: rules of ours in FORWARD of iptables, in both its
// kinds, and the Network among the sources that firewalld trusts.

import type { Kernel } from '../../kernel/kernel.ts';
import { describe } from '../../model/errors.ts';
import { FAMILIES, type Family, type Prefix } from '../../model/ip.ts';
import type { NftCommand, Transaction } from '../../model/ruleset.ts';
import { acceptChange, acceptRules, type Change, FORWARD, marked } from './accepts.ts';
import { type Finding, findingsOf, type HookedTable, isBlocked } from './findings.ts';
import { changeLegacy, type Legacy, legacyTable, readLegacy } from './legacy.ts';
import type { Programs } from './programs.ts';
import { type Look, lookAtFilters } from './read.ts';
import type { Site } from './traffic.ts';

/** What is to be kept open, and for whom. */
export interface FirewallWish {
  readonly sites: readonly Site[];
  /** Networks whose marks are ours. */
  readonly networks: readonly Prefix[];
  /** Whether anything may be changed (--iptables-forward-rules). */
  readonly forwardRules: boolean;
}

/** What is said of the packet filters. */
export interface FirewallStatus {
  /** Where rules of ours stand: chain "ip filter FORWARD". */
  readonly accepts: readonly { readonly chain: string; readonly network: Prefix }[];
  /** What drops traffic. */
  readonly findings: readonly Finding[];
  /** What could not be read or done. */
  readonly troubles: readonly string[];
}

export interface HoldDeps {
  readonly kernel: Kernel;
  /** Undefined: only the tables of nft are seen. */
  readonly programs: Programs | undefined;
  /** Told of every change, as a line. */
  readonly onChange: (line: string) => void;
  /** Has firewalld trust the Network. Gives what went wrong. */
  readonly trust: (network: Prefix) => Promise<string | undefined>;
  /** The last look, if nothing has changed since. */
  readonly known: Look | undefined;
}

export interface Held {
  readonly status: FirewallStatus;
  /** Undefined when nft's tables could not be read. */
  readonly look: Look | undefined;
}

/** Opens what it may, and says what remains. Never throws. */
export async function holdFirewall(deps: HoldDeps, wish: FirewallWish): Promise<Held> {
  const troubles: string[] = [];
  const attempt = <T>(run: () => T): T | undefined => {
    try {
      return run();
    } catch (error) {
      troubles.push(describe(error));
      return undefined;
    }
  };
  const look = () => attempt(() => lookAtFilters(deps.kernel));
  const before = deps.known ?? look();
  const changed = before !== undefined && (attempt(() => openNft(deps, before, wish)) ?? true);
  const legacy = await holdLegacy(deps, wish, troubles);
  const judge = (now: Look | undefined) =>
    attempt(() => findingsOf([...(now?.tables ?? []), ...legacy], wish.sites)) ?? [];
  let now = changed ? look() : before;
  let findings = judge(now);
  const networks = wish.forwardRules ? wish.sites.map(({ network }) => network) : [];
  const untrusted = networks.filter((network) => isBlocked(findings, network));
  for (const network of untrusted) {
    const trouble = await deps.trust(network);
    if (trouble !== undefined) troubles.push(trouble);
  }
  if (untrusted.length > 0) {
    now = look();
    findings = judge(now);
  }
  const accepts = attempt(() => standing([...(now?.tables ?? []), ...legacy], wish.networks)) ?? [];
  return { status: { accepts, findings, troubles }, look: now };
}

/** The site that may be opened. */
export const siteOf = ({ sites, forwardRules }: FirewallWish, family: Family): Site | undefined =>
  forwardRules ? sites.find((site) => site.family === family) : undefined;

/** The forward hook's tables of iptables-nft. */
export const isIptables = ({ family, name, hook, entry }: HookedTable): boolean =>
  family !== 'inet' && name === 'filter' && hook === 'forward' && entry.name === FORWARD;

/** Whether there was anything to do. @throws NetError kernel */
function openNft({ kernel, onChange }: HoldDeps, look: Look, wish: FirewallWish): boolean {
  let changed = false;
  for (const { family, chains } of look.tables.filter(isIptables)) {
    const change = acceptChange(chains, siteOf(wish, family === 'ip' ? 4 : 6), wish.networks);
    if (change === undefined) continue;
    kernel.commit(nftTransaction(family as 'ip' | 'ip6', change));
    onChange(changeLine(`${family} filter`, change));
    changed = true;
  }
  return changed;
}

/** The change to `ip filter` or `ip6 filter`. */
export function nftTransaction(family: 'ip' | 'ip6', { remove, insert }: Change): Transaction {
  const accepts = insert === undefined ? [] : acceptRules(insert.network).reverse();
  return {
    family,
    table: 'filter',
    commands: [
      ...remove.map(({ chain, rule }): NftCommand => ({ verb: 'delete', type: 'rule', chain, handle: rule.handle })),
      ...accepts.map((rule): NftCommand => ({ verb: 'insert', type: 'rule', chain: insert?.chain as string, rule })),
    ],
  };
}

/** Gives the legacy tables as they are afterwards. */
async function holdLegacy(
  { programs, onChange }: HoldDeps,
  wish: FirewallWish,
  troubles: string[],
): Promise<HookedTable[]> {
  if (programs === undefined) return [];
  const tables: HookedTable[] = [];
  for (const family of FAMILIES) {
    let legacy = await readLegacy(programs, family).catch((error): Legacy => ({ trouble: describe(error) }));
    if (legacy !== undefined && !('trouble' in legacy)) {
      const change = acceptChange(legacy.chains, siteOf(wish, family), wish.networks);
      const trouble = change && (await changeLegacy(programs, legacy, change));
      if (trouble !== undefined) troubles.push(trouble);
      if (change !== undefined && trouble === undefined) {
        onChange(changeLine(`legacy ${family === 4 ? 'ip' : 'ip6'} filter`, change));
        legacy = await readLegacy(programs, family);
      }
    }
    if (legacy === undefined) continue;
    if ('trouble' in legacy) troubles.push(legacy.trouble);
    else tables.push(...legacyTable(legacy));
  }
  return tables;
}

const changeLine = (table: string, { remove, insert }: Change): string =>
  insert === undefined
    ? `${remove.length} rules taken out of ${table}, where they aren't needed any more`
    : `${insert.network} is accepted first in ${table} ${insert.chain}, which drops`;

function standing(tables: readonly HookedTable[], networks: readonly Prefix[]): FirewallStatus['accepts'] {
  return tables
    .filter(({ hook }) => hook === 'forward')
    .flatMap(({ family, name, chains }) =>
      networks.flatMap((network) => {
        const places = new Set(marked(chains, [network]).map(({ chain }) => chain));
        return [...places].map((chain) => ({ chain: `${family} ${name} ${chain}`, network }));
      }),
    );
}
