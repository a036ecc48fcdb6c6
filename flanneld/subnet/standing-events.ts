// What an operator must see of how a node stands, as Events. Pure.

import type { KubeEvent } from '../kube/events.ts';
import type { PeerStatus } from '../peer-status.ts';
import { probeStateOf } from '../probe/notes.ts';
import type { Standing } from './manager.ts';

/** Peers that are named. */
const NAMED = 5;

const warning = (reason: string, message: string): KubeEvent => ({ type: 'Warning', reason, message });

/** One Event for each kind of trouble, whatever it concerns. */
export function standingEvents({ peers, problems, config }: Standing): KubeEvent[] {
  const lost = peers.flatMap((peer) => troubleOf(peer) ?? []);
  const rest = lost.length > NAMED ? [`and ${lost.length - NAMED} more`] : [];
  return [
    ...(config === undefined ? [] : [warning('NetworkConfigNotInForce', config)]),
    ...problems.slice(0, 1).map((problem) => warning('NetworkNotProgrammed', problem)),
    ...(lost.length === 0 ? [] : [warning('PeerUnreachable', [...lost.slice(0, NAMED), ...rest].join('; '))]),
  ];
}

/** Why a peer is not reached, as we see it. */
function troubleOf(peer: PeerStatus): string | undefined {
  const name = peer.nodeId ?? peer.key;
  if (peer.state !== 'programmed') return `${name}: ${peer.reason}`;
  return probeStateOf(peer) === 'unreachable' ? `${name}: answers no probe` : undefined;
}
