// Subnets of pods that could hold the nodes' own addresses: whoever leases the one around an address cuts that node off. It
// is told and not refused, since it is seen of this node only, and others may know why.

import { firstOf, type Ip, lastOf, toNumber } from '../model/ip.ts';
import { familiesOf } from '../model/lease.ts';
import type { FamilyNetwork } from './network-config.ts';
import type { Prepared } from './prepare.ts';

/** A line for each family in which this node's own address may be leased. Where subnets are assigned, none is. */
export function overlapNotes({
  network,
  site,
  assignment,
}: Pick<Prepared, 'network' | 'site' | 'assignment'>): readonly string[] {
  if (assignment !== undefined) return [];
  return familiesOf(site.underlay).flatMap((family) => {
    const [range, under] = [network.families[family], site.underlay[family]];
    if (range === undefined || under === undefined || !mayLease(range, under.address)) return [];
    const { subnetMin, subnetMax } = range;
    return `subnets of pods (${subnetMin} to ${subnetMax}) may hold ${under.address}, the address of ${under.device}: nodes whose address is in a leased subnet can't be reached; choose another network, or narrow it with SubnetMin and SubnetMax`;
  });
}

const mayLease = ({ subnetMin, subnetMax }: FamilyNetwork, address: Ip): boolean => {
  const number = toNumber(address);
  return number >= toNumber(firstOf(subnetMin)) && number <= toNumber(lastOf(subnetMax));
};
