// The node's families as packet filters see them, by what the agent holds at this moment.

import type { Kernel } from '../../kernel/kernel.ts';
import type { Prefix } from '../../model/ip.ts';
import { familiesOf, type Lease } from '../../model/lease.ts';
import { deviceToPods } from '../device-to.ts';
import type { Prepared } from '../prepare.ts';
import type { Site } from './traffic.ts';

/** Peers whose routes are looked at: they all leave by one device, or by none that can be named. */
const MOST_PEERS = 8;

/** A site for each family that our lease has. */
export function sitesOf(
  kernel: Kernel,
  { site: { networks, underlay }, backend }: Pick<Prepared, 'site' | 'backend'>,
  lease: Lease,
  peers: readonly Lease[],
): Site[] {
  return familiesOf(networks).flatMap((family) => {
    const [network, subnet] = [networks[family], lease.subnet[family]];
    if (network === undefined || subnet === undefined) return [];
    const remote = peers.slice(0, MOST_PEERS).flatMap((peer) => peer.subnet[family] ?? []);
    const under = underlay[family];
    const pods = routed(kernel, [subnet]);
    return [
      {
        family,
        network,
        subnet,
        // The default route's, before the first pod.
        pods: pods === under?.device ? undefined : pods,
        overlay: routed(kernel, remote),
        address: under?.address,
        underlay: under?.device,
        port: backend.port,
      },
    ];
  });
}

/** The device that packets to all of the subnets leave by. */
function routed(kernel: Kernel, subnets: readonly Prefix[]): string | undefined {
  const devices = new Set(subnets.map((subnet) => deviceToPods(kernel, subnet)));
  return devices.size === 1 ? [...devices][0] : undefined;
}
