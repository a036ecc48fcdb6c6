// The peers of a store as a list, from one change to the next: a lease stays in its place, and where one has gone the last
// takes its place. So of thousands of peers two lists differ in few places, and a change costs what it changes. Pure.

import type { Lease } from '../../model/lease.ts';

export interface PeerList {
  /** Takes `now` in place of `before`, each undefined where there is none. `before` is the very object that was taken. */
  change(before: Lease | undefined, now: Lease | undefined): void;
  /** All of them. The same list until the next change. */
  all(): readonly Lease[];
}

/** With these to begin with. */
export function createPeerList(first: readonly Lease[] = []): PeerList {
  const peers = [...first];
  let told: readonly Lease[] | undefined;
  return {
    change(before, now) {
      if (before === now) return;
      told = undefined;
      const place = before === undefined ? -1 : peers.indexOf(before);
      const end = place < 0 ? peers.length : place;
      if (now !== undefined) peers[end] = now;
      else if (place >= 0) {
        const last = peers.pop() as Lease;
        if (place < peers.length) peers[place] = last;
      }
    },
    all() {
      told ??= peers.slice();
      return told;
    },
  };
}
