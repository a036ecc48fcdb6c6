// The traffic that must pass this node's packet filters. Pure.

import { defaultPrefix, type Family, hostPrefix, type Ip, type Prefix } from '../../model/ip.ts';
import type { Traffic } from './condition.ts';

/** One family of the node. */
export interface Site {
  readonly family: Family;
  readonly network: Prefix;
  /** Our part of it. */
  readonly subnet: Prefix;
  /** Device of our pods and device towards other nodes' pods, where they are known. */
  readonly pods?: string | undefined;
  readonly overlay?: string | undefined;
  /** Our address towards other nodes, and its device. */
  readonly address?: Ip | undefined;
  readonly underlay?: string | undefined;
  /** UDP port that peers send to; undefined where they route. */
  readonly port?: number | undefined;
}

/** What is forwarded: between nodes first, then out of the network. */
export function forwarded({ family, network, subnet, pods, overlay, underlay }: Site): Traffic[] {
  const world = defaultPrefix(family);
  return [
    { what: 'from pods to other nodes', source: subnet, destination: network, in: pods, out: overlay },
    { what: 'from other nodes to pods', source: network, destination: subnet, in: overlay, out: pods },
    { what: 'from pods to the outside', source: subnet, destination: world, in: pods, out: underlay },
  ];
}

/** What arrives at the node itself: the packets that carry pods' packets. */
export function received({ family, address, underlay, port }: Site): Traffic[] {
  if (port === undefined || address === undefined) return [];
  const [source, destination] = [defaultPrefix(family), hostPrefix(address)];
  const what = `from other nodes to UDP port ${port}`;
  return [{ what, source, destination, in: underlay, protocol: 'udp', port }];
}
