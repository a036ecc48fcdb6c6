// A packet that was dropped, with the names of both ends and the policies that isolate the one that is to blame. Pure.

import type { Ip } from '../../model/ip.ts';
import { questionFor } from './compile.ts';
import type { DroppedPacket } from './dropped.ts';
import { type Direction, keyOf } from './objects.ts';
import type { World } from './world.ts';

interface TraceEnd {
  readonly address: Ip;
  /** "namespace/name"; undefined for an address of no known pod. */
  readonly pod?: string | undefined;
}

/** A line of /policy/trace. */
export interface TraceLine extends Pick<DroppedPacket, 'protocol' | 'port' | 'isReply'> {
  /** ISO 8601. */
  readonly at: string;
  readonly from: TraceEnd;
  readonly to: TraceEnd;
  readonly direction: Direction;
  /** "namespace/name" of those that isolate the pod in this direction. */
  readonly policies: readonly string[];
}

/** `at`: when, in ISO 8601. */
export function traceLine({ direction, from, to, ...rest }: DroppedPacket, world: World, at: string): TraceLine {
  const own = world.endpoints.find(({ addresses }) => addresses.includes(direction === 'ingress' ? to : from));
  const policies =
    own?.pod === undefined
      ? []
      : questionFor(own.pod, world.namespaces.get(own.namespace)?.policies ?? [], direction).policies;
  return {
    at,
    from: named(from, world),
    to: named(to, world),
    direction,
    policies: policies.map(keyOf),
    ...rest,
  };
}

/** Pods of this node hold an address before all others. */
function named(address: Ip, { endpoints, namespaces }: World): TraceEnd {
  const holds = ({ addresses }: { readonly addresses: readonly Ip[] }): boolean => addresses.includes(address);
  const known = endpoints.find(holds) ?? [...namespaces.values()].flatMap(({ pods }) => pods).find(holds);
  return { address, pod: known && keyOf(known) };
}
