// The packet filters of this host as nft lists them: heads of all chains at once, rules only of the chains that traffic
// comes by, read when they are asked for.

import type { Kernel } from '../../kernel/kernel.ts';
import type { ChainHead } from '../../model/ruleset.ts';
import type { Chains, FilterChain } from './filter.ts';
import type { HookedTable } from './findings.ts';
import { parseNftRule } from './nft-rule.ts';

/** Of ours: accepts only, and what policies drop on purpose. */
const OURS = /^flannel(-|$)/;
const FAMILIES: readonly string[] = ['ip', 'ip6', 'inet'];
/** Chains whose rules are read in one look; what leads further is not understood. */
const MOST_CHAINS = 300;

/** What a look has found. */
export interface Look {
  /** Tables with a filter chain that forwarded or received packets pass, as "family name", ours left out. */
  readonly tables: readonly HookedTable[];
  /** Names of all tables. */
  readonly names: ReadonlySet<string>;
}

/** Looks at the host's filters. @throws NetError kernel, also later from the chains */
export function lookAtFilters(kernel: Kernel): Look {
  const heads = kernel.listChains();
  const budget = { left: MOST_CHAINS };
  const byTable = Map.groupBy(heads, ({ family, table }) => `${family} ${table}`);
  const tables = [...byTable.values()].flatMap((chains) => {
    const read = chainsOf(kernel, chains, budget);
    return chains.flatMap((head) => hookedTable(head, read));
  });
  return { tables, names: new Set(heads.map(({ table }) => table)) };
}

function hookedTable({ family, table, name, base }: ChainHead, chains: Chains): HookedTable[] {
  if (base === undefined || base.type !== 'filter' || !FAMILIES.includes(family) || OURS.test(table)) return [];
  if (base.hook !== 'forward' && base.hook !== 'input') return [];
  const entry = chains.get(name);
  return entry === undefined ? [] : [{ family, name: table, hook: base.hook, entry, chains }];
}

function chainsOf(kernel: Kernel, heads: readonly ChainHead[], budget: { left: number }): Chains {
  const known = new Map<string, FilterChain | undefined>();
  const read = (name: string): FilterChain | undefined => {
    const head = heads.find((each) => each.name === name);
    if (head === undefined || budget.left-- <= 0) return undefined;
    const rules = kernel.readChain(head);
    if (rules === undefined) return undefined;
    return { name, handle: head.handle, policy: head.base?.policy, rules: rules.map(parseNftRule) };
  };
  return {
    get(name) {
      if (!known.has(name)) known.set(name, read(name));
      return known.get(name);
    },
  };
}
