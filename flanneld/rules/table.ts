// The agent's part of the table `inet flannel`. Other agents on the host (other Networks) and the CNI plugin (chains named
// cni-…) have chains of their own in it; a name tells whose a chain is.

import type { Prefix } from '../../model/ip.ts';
import { familiesOf, type PerFamily } from '../../model/lease.ts';
import type { OwnsName, Table, Transaction } from '../../model/ruleset.ts';
import { forwardChain, forwardChainName } from './forward.ts';
import { masqueradeChain, masqueradeChainName } from './masquerade.ts';

/** `inet flannel` */
export const FLANNEL_TABLE = { family: 'inet', name: 'flannel' } as const;

export interface RuleSettings {
  readonly masquerade: boolean;
  readonly masqueradeFullyRandom: boolean;
  /** Destinations to which it isn't masqueraded. */
  readonly unmasqueraded?: readonly Prefix[] | undefined;
  readonly forwardRules: boolean;
}

/** What the table should hold for a node's subnets. */
export function rulesTable(networks: PerFamily<Prefix>, subnets: PerFamily<Prefix>, settings: RuleSettings): Table {
  const families = familiesOf(networks).filter((family) => subnets[family] !== undefined);
  const chains = families.flatMap((family) => {
    const [network, subnet] = [networks[family] as Prefix, subnets[family] as Prefix];
    return [
      ...(settings.masquerade ? [masqueradeChain(network, subnet, settings)] : []),
      ...(settings.forwardRules ? [forwardChain(network)] : []),
    ];
  });
  return { ...FLANNEL_TABLE, chains, sets: [] };
}

/** Whether a chain belongs to one of the Networks. */
export function ownsChains(networks: readonly Prefix[]): OwnsName {
  const names = new Set(networks.flatMap((network) => [masqueradeChainName(network), forwardChainName(network)]));
  return (name) => names.has(name);
}

/** Removes owned chains and sets, and the table if nothing else is in it; undefined when there is nothing to remove. */
export function removeRules(have: Table | undefined, owns: OwnsName): Transaction | undefined {
  if (have === undefined) return undefined;
  const ours = have.chains.filter(({ name }) => owns(name));
  const sets = have.sets.filter(({ name }) => owns(name));
  if (ours.length === have.chains.length && sets.length === have.sets.length) {
    return { family: have.family, table: have.name, commands: [{ verb: 'delete', type: 'table' }] };
  }
  if (ours.length + sets.length === 0) return undefined;
  return {
    family: have.family,
    table: have.name,
    commands: [
      ...ours.map(({ name }) => ({ verb: 'flush', type: 'chain', chain: { name } }) as const),
      ...ours.map(({ name }) => ({ verb: 'delete', type: 'chain', chain: { name } }) as const),
      ...sets.map((set) => ({ verb: 'delete', type: 'set', set }) as const),
    ],
  };
}
