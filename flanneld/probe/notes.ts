// What the probes say of all peers together, in a line or two for people. Pure.

import type { PeerStatus } from '../peer-status.ts';
import { PROBE_STATES, type ProbeState } from './window.ts';

/** Names that are written out; the rest is counted. */
const NAMED = 5;

/** How many peers stand how. A peer of two families has the worse of their states. */
export function countProbes(peers: readonly PeerStatus[]): Readonly<Record<ProbeState, number>> {
  const counts: Record<ProbeState, number> = { reachable: 0, 'mtu-too-small': 0, unreachable: 0, unknown: 0 };
  for (const peer of peers) {
    const state = probeStateOf(peer);
    if (state !== undefined) counts[state]++;
  }
  return counts;
}

/** From best to worst; not knowing one family hides nothing that is known of the other. */
const WORST: readonly ProbeState[] = ['unknown', 'reachable', 'mtu-too-small', 'unreachable'];

/** The worst that is seen; undefined for a peer that isn't probed. */
export function probeStateOf({ probes }: PeerStatus): ProbeState | undefined {
  if (probes === undefined || probes.length === 0) return undefined;
  return WORST[Math.max(...probes.map(({ state }) => WORST.indexOf(state)))];
}

/** A line for each way that something is amiss: "peers unreachable: 2 of 7 (10.244.2.0-24, 10.244.3.0-24)". */
export function probeNotes(peers: readonly PeerStatus[]): string[] {
  const probed = peers.filter((peer) => probeStateOf(peer) !== undefined);
  return PROBE_STATES.filter((state) => state === 'unreachable' || state === 'mtu-too-small').flatMap((state) => {
    const keys = probed.filter((peer) => probeStateOf(peer) === state).map(({ key }) => key);
    if (keys.length === 0) return [];
    const more = keys.length > NAMED ? `, and ${keys.length - NAMED} more` : '';
    return [`peers ${state}: ${keys.length} of ${probed.length} (${keys.slice(0, NAMED).join(', ')}${more})`];
  });
}
