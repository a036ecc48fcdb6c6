// Packets that were dropped, from the counters of the table's elements: they are read when somebody asks, and go on over a
// table that is replaced and addresses that come and go. Pure.

import type { Ip } from '../../model/ip.ts';
import { DIRECTIONS, type Direction, keyOf } from './objects.ts';
import type { Endpoint } from './placed.ts';

/** Of one direction, by address. */
export type Counts = ReadonlyMap<Ip, number>;

/** Packets of a pod that its policies have dropped. */
export interface PodDenials {
  /** "namespace/name". */
  readonly pod: string;
  readonly ingress: number;
  readonly egress: number;
}

export interface Denials {
  /** All that were seen since the agent started. */
  readonly totals: Readonly<Record<Direction, number>>;
  /** Those of pods that are there, since their address was isolated or the table replaced; most first. */
  readonly pods: readonly PodDenials[];
}

export interface DenialCount {
  /** Takes what the kernel counts at this moment. */
  see(counts: Readonly<Record<Direction, Counts>>, endpoints: readonly Endpoint[]): Denials;
}

/** A counter that is less than it was has begun anew. */
export function createDenialCount(): DenialCount {
  const totals = { ingress: 0, egress: 0 };
  let last: Readonly<Record<Direction, Counts>> | undefined;
  return {
    see(counts, endpoints) {
      for (const direction of DIRECTIONS) {
        for (const [address, now] of counts[direction]) {
          const before = last?.[direction].get(address) ?? 0;
          totals[direction] += now >= before ? now - before : now;
        }
      }
      last = counts;
      const sum = (of: Counts, addresses: readonly Ip[]) =>
        addresses.reduce((all, address) => all + (of.get(address) ?? 0), 0);
      const pods = endpoints
        .map((endpoint) => ({
          pod: keyOf(endpoint),
          ingress: sum(counts.ingress, endpoint.addresses),
          egress: sum(counts.egress, endpoint.addresses),
        }))
        .filter(({ ingress, egress }) => ingress + egress > 0)
        .sort((a, b) => b.ingress + b.egress - a.ingress - a.egress);
      return { totals: { ...totals }, pods };
    },
  };
}
