// What differs between the network configuration that is in force and a new one, key by key, and whether that can be
// taken over while pods and peers go on. Pure.

import type { Backend } from './backend/backend.ts';
import { FAMILIES, type Family } from '../model/ip.ts';
import type { PerFamily } from '../model/lease.ts';
import type { Prefix } from '../model/ip.ts';
import { type FamilyNetwork, KEYS, type NetworkConfig } from './network-config.ts';
import { fits } from './subnet/choose.ts';

export interface ConfigChange {
  /** As it stands in the configuration: "Backend.MTU". */
  readonly key: string;
  /** Values with defaults filled in, as JSON. */
  readonly from: string;
  readonly to: string;
  /** Whether it can be taken over without a restart. */
  readonly live: boolean;
}

export interface Configured {
  readonly network: NetworkConfig;
  readonly backend: Pick<Backend, 'type' | 'options' | 'live'>;
}

/** The changes. `subnet`: ours, which must go on fitting. */
export const configChanges = (before: Configured, after: Configured, subnet: PerFamily<Prefix>): ConfigChange[] => [
  ...FAMILIES.flatMap((family) => familyChanges(family, before.network, after.network, fits(after.network, subnet))),
  ...backendChanges(before.backend, after.backend),
];

const change = (key: string, from: unknown, to: unknown, live: boolean): ConfigChange[] => {
  const [old, now] = [shown(from), shown(to)];
  return old === now ? [] : [{ key, from: old, to: now, live }];
};

const shown = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

/** Of keys that follow from each other only the one that they follow from. */
function familyChanges(
  family: Family,
  before: NetworkConfig,
  after: NetworkConfig,
  subnetFits: boolean,
): ConfigChange[] {
  const [old, now] = [before.families[family], after.families[family]];
  if (old === undefined || now === undefined) {
    return change(`EnableIPv${family}`, old !== undefined, now !== undefined, false);
  }
  const of = (name: keyof FamilyNetwork & keyof (typeof KEYS)[Family], live: boolean) =>
    change(KEYS[family][name], old[name], now[name], live);
  const network = of('network', false);
  if (network.length > 0) return network;
  const length = of('subnetLength', subnetFits);
  return length.length > 0 ? length : [...of('subnetMin', subnetFits), ...of('subnetMax', subnetFits)];
}

function backendChanges(before: Configured['backend'], after: Configured['backend']): ConfigChange[] {
  if (before.type !== after.type) return change('Backend.Type', before.type, after.type, false);
  const keys = [...new Set([...Object.keys(before.options), ...Object.keys(after.options)])];
  return keys.flatMap((key) =>
    change(`Backend.${key}`, before.options[key], after.options[key], after.live.includes(key)),
  );
}

/** "Backend.VNI (1 to 2)" for each. */
export const printChanges = (changes: readonly ConfigChange[]): string =>
  changes.map(({ key, from, to }) => `${key} (${from} to ${to})`).join(', ');
