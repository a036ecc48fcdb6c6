// Which subnet this node takes. Pure: the caller compares and swaps, and asks again when another node was faster.

import {
  FAMILIES,
  type Family,
  firstOf,
  fromNumber,
  lastOf,
  lengthOf,
  networkOf,
  overlaps,
  type Prefix,
  sizeOf,
  toNumber,
  withLength,
} from '../../model/ip.ts';
import { familiesOf, type LeaseAttributes, leaseKey, type PerFamily } from '../../model/lease.ts';
import type { FamilyNetwork, NetworkConfig } from '../network-config.ts';

/** A subnet that somebody holds, with what is known of the holder. */
export interface Held {
  readonly subnet: PerFamily<Prefix>;
  /** Undefined when the entry can't be understood: the subnet is taken all the same. */
  readonly attributes: LeaseAttributes | undefined;
  /**
   * Without time to live: put there by a person for the node with that address; never removed, nor given to another.
   */
  readonly reservation: boolean;
}

export interface Identity {
  readonly nodeId: string;
  readonly publicIp: PerFamily<string>;
}

/**
 * Whether an entry is this node's. By node id where it has one, so that two nodes behind one address don't take each
 * other's; else by public address, as flannel. A reservation is made for an address: it is ours by either.
 */
export function isOurs({ attributes, reservation }: Held, identity: Identity): boolean {
  if (attributes === undefined) return false;
  if (attributes.nodeId === identity.nodeId) return true;
  return (attributes.nodeId === undefined || reservation) && sameAddress(attributes.publicIp, identity.publicIp);
}

/** Whether the first family that both have an address of has the same one. flannel compares the IPv4 address. */
export function sameAddress(a: PerFamily<string>, b: PerFamily<string>): boolean {
  for (const family of FAMILIES) if (a[family] !== undefined && b[family] !== undefined) return a[family] === b[family];
  return false;
}

export interface Wishes<H extends Held> {
  /** Which entries are this node's. */
  readonly ours: (entry: H) => boolean;
  /** Present address: of several entries of ours the one that has it is preferred. */
  readonly publicIp: PerFamily<string>;
  /** Subnet held before (from the subnet file). */
  readonly previous: PerFamily<Prefix>;
  /** Whether pods use `previous`: then it is kept although the configuration changed. */
  readonly inUse: boolean;
}

export type Choice<H extends Held> =
  /** An entry of ours that is kept. */
  | { readonly own: H }
  /** No entry of ours fits: a new one is made. */
  | { readonly own: undefined; readonly subnet: PerFamily<Prefix> };

/**
 * Our entry if it fits, else the previous subnet if it is free and fits, else a free one at random; undefined when all
 * are taken. `random` gives numbers from 0 up to but not including 1.
 */
export function choose<H extends Held>(
  network: NetworkConfig,
  held: readonly H[],
  wishes: Wishes<H>,
  random: () => number,
): Choice<H> | undefined {
  const stays = (subnet: PerFamily<Prefix>) =>
    fits(network, subnet) || (wishes.inUse && sameSubnet(subnet, wishes.previous));
  const own = held.filter((entry) => wishes.ours(entry) && stays(entry.subnet)).sort(byPreference(wishes))[0];
  if (own !== undefined) return { own };
  const taken = held.filter((entry) => !wishes.ours(entry) || entry.reservation).map((entry) => entry.subnet);
  const previous = networks(wishes.previous);
  if (familiesOf(previous).length > 0 && stays(previous) && !taken.some((subnet) => collide(subnet, previous))) {
    return { own: undefined, subnet: previous };
  }
  const subnet = freeSubnet(network, taken, random);
  return subnet === undefined ? undefined : { own: undefined, subnet };
}

/** Of several entries of ours: what the pods use, then a reservation, then the one with our present address. */
function byPreference({ publicIp, previous }: Wishes<never>) {
  const rank = (entry: Held) =>
    (sameSubnet(entry.subnet, previous) ? 4 : 0) +
    (entry.reservation ? 2 : 0) +
    (sameAddress(entry.attributes?.publicIp ?? {}, publicIp) ? 1 : 0);
  return (a: Held, b: Held) => rank(b) - rank(a);
}

/** Whether the subnet is one that the configuration hands out, in each family and no other. */
export function fits(network: NetworkConfig, subnet: PerFamily<Prefix>): boolean {
  return FAMILIES.every((family) => {
    const [rules, prefix] = [network.families[family], subnet[family]];
    if (rules === undefined || prefix === undefined) return rules === prefix;
    const [first, min, max] = [firstOf(prefix), firstOf(rules.subnetMin), firstOf(rules.subnetMax)].map(toNumber) as [
      bigint,
      bigint,
      bigint,
    ];
    return lengthOf(prefix) === rules.subnetLength && first >= min && first <= max;
  });
}

/** The subnet with its host bits cleared. */
const networks = (subnet: PerFamily<Prefix>): PerFamily<Prefix> =>
  Object.fromEntries(familiesOf(subnet).map((family) => [family, networkOf(subnet[family] as Prefix)]));

const sameSubnet = (a: PerFamily<Prefix>, b: PerFamily<Prefix>): boolean =>
  leaseKey(networks(a)) === leaseKey(networks(b));

/** Whether two subnets share an address in some family. */
export const collide = (a: PerFamily<Prefix>, b: PerFamily<Prefix>): boolean =>
  FAMILIES.some((family) => a[family] !== undefined && b[family] !== undefined && overlaps(a[family], b[family]));

function freeSubnet(
  network: NetworkConfig,
  taken: readonly PerFamily<Prefix>[],
  random: () => number,
): PerFamily<Prefix> | undefined {
  const chosen: Partial<Record<Family, Prefix>> = {};
  for (const family of familiesOf(network.families)) {
    const inFamily = taken.flatMap((subnet) => subnet[family] ?? []);
    const free = freePrefixes(network.families[family] as FamilyNetwork, inFamily, CANDIDATES);
    const prefix = free[Math.floor(random() * free.length)];
    if (prefix === undefined) return undefined;
    chosen[family] = prefix;
  }
  return chosen;
}

/** As many as flannel looks at: enough that nodes starting together seldom choose the same. */
const CANDIDATES = 100;

/**
 * The first free subnets from SubnetMin on, at most `limit`. Steps over what is taken, whatever its length, in one
 * pass.
 */
export function freePrefixes(rules: FamilyNetwork, taken: readonly Prefix[], limit: number): Prefix[] {
  const family = familyOfRules(rules);
  const size = sizeOf(rules.subnetMin);
  const last = toNumber(firstOf(rules.subnetMax));
  const spans = taken
    .map((prefix) => [toNumber(firstOf(prefix)), toNumber(lastOf(prefix))] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const free: Prefix[] = [];
  let span = 0;
  for (let at = toNumber(firstOf(rules.subnetMin)); at <= last && free.length < limit; ) {
    while (span < spans.length && (spans[span] as readonly [bigint, bigint])[1] < at) span++;
    const next = spans[span];
    if (next === undefined || next[0] >= at + size) {
      free.push(withLength(fromNumber(family, at), rules.subnetLength));
      at += size;
    } else {
      at = alignUp(next[1] + 1n, size);
    }
  }
  return free;
}

const alignUp = (value: bigint, size: bigint): bigint => ((value + size - 1n) / size) * size;
const familyOfRules = (rules: FamilyNetwork): Family => (rules.network.includes(':') ? 6 : 4);
