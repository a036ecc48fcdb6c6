// Which of the host's changes are a reason to look again. On a busy node most are not: every pod that comes or goes changes
// links, addresses and rules that are nothing to the agent. Pure.

import type { Change } from '../kernel/kernel.ts';
import { bitsOf, contains, familyOf, lengthOf, overlaps, type Prefix } from '../model/ip.ts';
import { familiesOf } from '../model/lease.ts';
import type { Prepared } from './prepare.ts';
import { FLANNEL_TABLE, ownsChains } from './rules/table.ts';

/** underlay: the interface to other nodes may have changed too; host: something that is held to a value. */
export type Concern = 'underlay' | 'host';

/** Why a change matters; undefined when it doesn't. */
export function concernOf(
  change: Change,
  prepared: Pick<Prepared, 'site' | 'devices' | 'networks'>,
): Concern | undefined {
  switch (change.type) {
    case 'link':
    case 'address':
      return ofDevice(change.device, prepared);
    case 'neighbour':
      return change.device !== undefined && prepared.devices.includes(change.device) ? 'host' : undefined;
    case 'route':
      return ofRoute(change.destination, change.device, prepared);
    case 'rules': {
      const ours = change.part === undefined || ownsChains(prepared.networks)(change.part);
      return change.table === FLANNEL_TABLE.name && ours ? 'host' : undefined;
    }
    case 'transaction':
      return undefined;
    case 'overrun':
      return 'underlay';
  }
}

type Places = Pick<Prepared, 'site' | 'devices' | 'networks'>;

function ofDevice(device: string | undefined, { site, devices }: Places): Concern | undefined {
  const { underlay } = site;
  if (device === undefined || familiesOf(underlay).some((family) => underlay[family]?.device === device)) {
    return 'underlay';
  }
  return devices.includes(device) ? 'host' : undefined;
}

function ofRoute(destination: Prefix, device: string | undefined, places: Places): Concern | undefined {
  if (lengthOf(destination) === 0) return 'underlay';
  const ours = device !== undefined && ofDevice(device, places) !== undefined;
  const isPod =
    lengthOf(destination) === bitsOf(familyOf(destination)) &&
    places.networks.some((network) => contains(network, destination));
  if (isPod && !ours) return undefined;
  return ours || places.networks.some((network) => overlaps(network, destination)) ? 'host' : undefined;
}
