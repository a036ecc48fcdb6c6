// The peers that the data path is held to, from one snapshot to the next. A snapshot without our own lease is not believed
// to be complete: etcd was restored empty, or the prefix is wrong. Then, and for a grace period in which every node writes
// its lease again, peers are added and changed but none is forgotten and nothing on the host is removed.

import { type Lease, leaseKey } from '../model/lease.ts';
import type { Snapshot } from './subnet/manager.ts';

/** How long removals wait after a snapshot without our own lease, in milliseconds. */
export const GRACE_MS = 60_000;

export interface KnownPeers {
  /** Peers of the last snapshot, then those that only an earlier one had. */
  readonly peers: readonly Lease[];
  /** Number of peers at the end of the list that the last snapshot doesn't have. */
  readonly missing: number;
  /** Until then (milliseconds since the epoch) nothing is removed. */
  readonly graceUntil: number;
}

/** Before the first snapshot. `graceUntil`: 0, or a time when what is stored is not to be believed from the start. */
export const noPeers = (graceUntil = 0): KnownPeers => ({ peers: [], missing: 0, graceUntil });

/** What is known after a snapshot. */
export function learn(known: KnownPeers, { own, peers }: Snapshot, now: number, graceMs: number): KnownPeers {
  const graceUntil = own === undefined ? now + graceMs : known.graceUntil;
  if (now >= graceUntil) return { peers, missing: 0, graceUntil };
  const present = new Set(peers.map(({ subnet }) => leaseKey(subnet)));
  const missing = known.peers.filter(({ subnet }) => !present.has(leaseKey(subnet)));
  return { peers: [...peers, ...missing], missing: missing.length, graceUntil };
}

/** What is known when only time has passed: after the grace period, missing peers are gone. */
export function settle(known: KnownPeers, now: number): KnownPeers {
  if (now < known.graceUntil || known.missing === 0) return known;
  return { ...known, peers: known.peers.slice(0, known.peers.length - known.missing), missing: 0 };
}

/** Whether what isn't wanted may be removed. */
export const mayRemove = ({ graceUntil }: KnownPeers, now: number): boolean => now >= graceUntil;

/**
 * Leases that came or changed, and those whose key is no longer there. A subnet manager gives the others as the same
 * objects again, most of them in the same places, so that with thousands of peers few are looked at twice.
 */
export function peerChanges(
  before: readonly Lease[],
  now: readonly Lease[],
): { readonly fresh: readonly Lease[]; readonly departed: readonly Lease[] } {
  const most = Math.min(before.length, now.length);
  let start = 0;
  while (start < most && before[start] === now[start]) start++;
  let [oldEnd, end] = [before.length, now.length];
  while (oldEnd > start && end > start && before[oldEnd - 1] === now[end - 1]) {
    oldEnd--;
    end--;
  }
  const shared = Math.min(oldEnd, end);
  const [old, present] = [new Set(before.slice(shared, oldEnd)), new Set(now.slice(shared, end))];
  for (let at = start; at < shared; at++) {
    if (before[at] === now[at]) continue;
    old.add(before[at] as Lease);
    present.add(now[at] as Lease);
  }
  const missing = [...old.difference(present)];
  const keys = new Set(missing.length === 0 ? [] : [...present].map(({ subnet }) => leaseKey(subnet)));
  return {
    fresh: [...present.difference(old)],
    departed: missing.filter(({ subnet }) => !keys.has(leaseKey(subnet))),
  };
}
