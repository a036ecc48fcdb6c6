// What on this machine is ours, and so may go when it is no longer wanted. Everything in a shared place is told apart by
// its Network: two agents with two Networks on one host never take each other's entries for stale. The question doesn't
// depend on the backend, so what another backend, another VNI or flannel itself left behind is found by the same rules.

import type { Owns } from '../model/diff.ts';
import { bitsOf, contains, familyOf, type Ip, lengthOf, type Prefix } from '../model/ip.ts';
import { type Address, type Item, type Link, OUR_PROTOCOL, type Route, type State } from '../model/state.ts';

/** rtm_protocol of what Go flannel and `ip route add` make; unspec is what older kernels report for the former. */
const FLANNEL_PROTOCOLS: readonly number[] = [0, 3];
/** Of the udp backend. */
const TUN_NAME = 'flannel0';
const DEVICE_NAME = /^flannel(-v6)?\.[1-9]\d*$/;

export interface Claim {
  /** Networks whose entries are ours: the present one, and those of the subnet file that was here before. */
  readonly networks: readonly Prefix[];
  /** Devices of the present backend. */
  readonly devices: readonly string[];
  /** Public addresses of the peers: a route by one of them was made by flannel, if not by us. */
  readonly gateways: readonly Ip[];
}

/** Names of VXLAN and TUN devices of ours: called like flannel's and holding an address inside one of the Networks. */
export function ourDevices(have: Pick<State, 'links' | 'addresses'>, networks: readonly Prefix[]): string[] {
  return have.links
    .filter(
      (link) => isNamedLikeOurs(link) && addressesOn(have, link.name).some((entry) => inside(networks, entry.address)),
    )
    .map(({ name }) => name);
}

/**
 * An address that says a device of that name is another agent's: global, and outside our Networks while none is inside.
 */
export function foreignAddress(
  have: Pick<State, 'links' | 'addresses'>,
  device: string,
  networks: readonly Prefix[],
): Prefix | undefined {
  const addresses = addressesOn(have, device).filter(({ scope }) => scope !== 'link');
  if (addresses.some(({ address }) => inside(networks, address))) return undefined;
  return addresses[0]?.address;
}

/** Whether something that isn't wanted may be removed. */
export function ownership(have: State, { networks, devices, gateways }: Claim): Owns {
  const old = new Set(ourDevices(have, networks));
  const ours = new Set([...old, ...devices]);
  const byPeer = new Set<Ip>(gateways);
  return (item: Item): boolean => {
    switch (item.type) {
      case 'link':
        return old.has(item.value.name);
      case 'address':
        return ours.has(item.value.device) && inside(networks, item.value.address);
      case 'neighbour':
      case 'fdb':
        return ours.has(item.value.device);
      case 'route':
        return inside(networks, item.value.destination) && madeByUs(item.value, ours, byPeer);
      default:
        return false;
    }
  };
}

/** Whether a route to a subnet may be overwritten: it is ours, or made as flannel makes them. */
export const mayReplace = ({ protocol = 0 }: Route): boolean =>
  protocol === OUR_PROTOCOL || FLANNEL_PROTOCOLS.includes(protocol);

/** A route to one address without a gateway: the CNI plugin's to a pod without a bridge, which goes with its device. */
const leadsToPod = ({ destination, via }: Route): boolean =>
  via === undefined && lengthOf(destination) === bitsOf(familyOf(destination));

function madeByUs(route: Route, devices: ReadonlySet<string>, gateways: ReadonlySet<Ip>): boolean {
  const isOnOurs = route.device !== undefined && devices.has(route.device);
  if (route.protocol === OUR_PROTOCOL) return isOnOurs || !leadsToPod(route);
  if (!mayReplace(route)) return false;
  return isOnOurs || (route.via !== undefined && gateways.has(route.via));
}

const isNamedLikeOurs = ({ kind, name }: Link): boolean =>
  (kind === 'vxlan' && DEVICE_NAME.test(name)) || (kind === 'tun' && name === TUN_NAME);

const addressesOn = ({ addresses }: Pick<State, 'addresses'>, device: string): Address[] =>
  addresses.filter((entry) => entry.device === device);

const inside = (networks: readonly Prefix[], value: Prefix): boolean =>
  networks.some((network) => contains(network, value));
