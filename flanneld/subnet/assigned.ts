// The subnet of a node where the store gives it and the node has no choice. Pure.

import { NetError } from '../../model/errors.ts';
import { contains, type Prefix } from '../../model/ip.ts';
import { familiesOf, type PerFamily } from '../../model/lease.ts';
import type { FamilyNetwork, NetworkConfig } from '../network-config.ts';

/**
 * The subnets of the families that the network has, of whatever length.
 * @throws NetError no-pod-cidr: one is missing, or outside of the network
 */
export function assignedSubnet(
  { families }: NetworkConfig,
  assigned: PerFamily<Prefix>,
  node: string,
): PerFamily<Prefix> {
  const fail = (problem: string): never => {
    throw new NetError('no-pod-cidr', `node ${node}: ${problem}`, { subject: node });
  };
  return Object.fromEntries(
    familiesOf(families).map((family) => {
      const [{ network }, subnet] = [families[family] as FamilyNetwork, assigned[family]];
      if (subnet === undefined) return fail(`no IPv${family} pod CIDR is assigned (spec.podCIDRs)`);
      return contains(network, subnet) ? [family, subnet] : fail(`pod CIDR ${subnet} is not inside ${network}`);
    }),
  );
}
