// Decides which addresses to try, touching nothing: which requested address belongs to which set, and in what order a
// set's addresses are tried. Round robin, so that a pod that crashes and comes back does not see the same address until
// the whole set has been run through.

import { NetError } from '../model/errors.ts';
import type { Ip } from '../model/ip.ts';
import { addressesAfter, type Candidate, candidateOf, printSet, type RangeSet, reservedAs, spans } from './ranges.ts';

/** One address to find: any of a set, or the one that was requested from it. */
export interface Demand {
  readonly set: RangeSet;
  /** Position of the set in the configuration; names its last_reserved_ip file. */
  readonly index: number;
  readonly requested: Candidate | undefined;
}

/**
 * A demand for every set; a set takes the first requested address it spans.
 * @throws NetError address-taken for a gateway or broadcast address; invalid-config when a requested one is left over
 */
export function demandsOf(sets: readonly RangeSet[], requested: readonly Ip[]): Demand[] {
  const left = new Set(requested);
  const demands = sets.map((set, index) => {
    const ip = [...left].find((wanted) => set.some((range) => spans(range, wanted)));
    if (ip === undefined) return { set, index, requested: undefined };
    left.delete(ip);
    return { set, index, requested: requestedFrom(set, ip) };
  });
  if (left.size === 0) return demands;
  const which = [...left].join(' ');
  throw new NetError('invalid-config', `failed to allocate all requested IPs: ${which}`, { subject: which });
}

function requestedFrom(set: RangeSet, ip: Ip): Candidate | undefined {
  const range = set.find((each) => spans(each, ip));
  if (range === undefined) return undefined;
  const reserved = reservedAs(range, ip);
  if (reserved === undefined) return candidateOf(range, ip);
  throw new NetError('address-taken', `requested IP ${ip} is the ${reserved} of ${range.subnet}`, { subject: ip });
}

/** What to try for a demand, in order and without what is known to be taken. Lazy: the answer of `taken` may change. */
export function* candidates(
  demand: Demand,
  last: Ip | undefined,
  taken: (ip: Ip) => boolean,
): Generator<Candidate, void> {
  const all = demand.requested === undefined ? addressesAfter(demand.set, last) : [demand.requested];
  for (const candidate of all) if (!taken(candidate.ip)) yield candidate;
}

/** The failure when every candidate is taken. */
export function exhausted({ set, requested }: Demand): NetError {
  const name = printSet(set);
  if (requested === undefined) {
    return new NetError('no-addresses', `no IP addresses available in range set: ${name}`, { subject: name });
  }
  const { ip } = requested;
  return new NetError('address-taken', `requested IP address ${ip} is not available in range set ${name}`, {
    subject: ip,
  });
}
