// The agent's part of the table `inet flannel`. Other agents on the host (other Networks) and the CNI plugin (chains named
// cni-…) have chains of their own in it; a name tells whose a chain is.
//
// flannel's chain of the hook forward, which accepts what a Network's pods send and receive, is not among them: an accept
// ends the say of its own chain only, so that a chain of accepts decides nothing, and every packet would pay for it. What
// does decide is in the tables of others (flanneld/firewall/).

import type { Prefix } from '../../model/ip.ts';
import { familiesOf, type PerFamily } from '../../model/lease.ts';
import type { OwnsName, Table, Transaction } from '../../model/ruleset.ts';
import { masqueradeChain, masqueradeChainName } from './masquerade.ts';

/** `inet flannel` */
export const FLANNEL_TABLE = { family: 'inet', name: 'flannel' } as const;

export interface RuleSettings {
  readonly masquerade: boolean;
  readonly masqueradeFullyRandom: boolean;
  /** Destinations to which it isn't masqueraded. */
  readonly unmasqueraded?: readonly Prefix[] | undefined;
}

/** What the table should hold for a node's subnets. */
export function rulesTable(networks: PerFamily<Prefix>, subnets: PerFamily<Prefix>, settings: RuleSettings): Table {
  const families = familiesOf(networks).filter((family) => settings.masquerade && subnets[family] !== undefined);
  const chains = families.map((family) =>
    masqueradeChain(networks[family] as Prefix, subnets[family] as Prefix, settings),
  );
  return { ...FLANNEL_TABLE, chains, sets: [] };
}

/** Whether a chain belongs to one of the Networks. */
export function ownsChains(networks: readonly Prefix[]): OwnsName {
  const names = new Set(networks.map(masqueradeChainName));
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
