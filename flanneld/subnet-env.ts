// The text of /run/flannel/subnet.env, byte for byte flannel's (pkg/subnet/subnet.go, WriteSubnetFile): what the CNI
// plugin and Docker read, and what tells a restarted agent which subnet the pods of this node use.

import { firstOf, lengthOf, plus, type Prefix, withLength } from '../model/ip.ts';
import { familiesOf, type PerFamily } from '../model/lease.ts';
import { EXEMPT_NAME, MASQUERADE_NAME, MTU_NAME, SUBNET_NAMES } from '../model/subnet-env.ts';

export interface SubnetEnv {
  /** The pod network of each family. */
  readonly network: PerFamily<Prefix>;
  /** This node's subnet in it, as a network: 10.10.11.0/24. In the file stands its first address, 10.10.11.1/24. */
  readonly subnet: PerFamily<Prefix>;
  /** Of the pods' interfaces, in bytes. */
  readonly mtu: number;
  /** Whether the agent masquerades, so that the plugin doesn't. */
  readonly masquerade: boolean;
  /** Destinations that the plugin doesn't masquerade traffic to either: a line of ours, which flannel's plugin ignores. */
  readonly unmasqueraded?: readonly Prefix[] | undefined;
}

/** The two lines of each family that there is, then MTU and masquerade. */
export function formatSubnetEnv({ network, subnet, mtu, masquerade, unmasqueraded = [] }: SubnetEnv): string {
  const lines = familiesOf(subnet).flatMap((family) => [
    `${SUBNET_NAMES[family].network}=${network[family]}`,
    `${SUBNET_NAMES[family].subnet}=${gatewayOf(subnet[family] as Prefix)}`,
  ]);
  const exempt = unmasqueraded.length === 0 ? [] : [`${EXEMPT_NAME}=${unmasqueraded.join(',')}`];
  return [...lines, `${MTU_NAME}=${mtu}`, `${MASQUERADE_NAME}=${masquerade}`, ...exempt, ''].join('\n');
}

/** "10.10.11.0/24" → "10.10.11.1/24" */
const gatewayOf = (subnet: Prefix): Prefix => withLength(plus(firstOf(subnet), 1n), lengthOf(subnet));
