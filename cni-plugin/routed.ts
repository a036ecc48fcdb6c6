// `"mode": "routed"`, pure: a veth pair without a bridge. The pod has host addresses and sends everything to a gateway that
// nobody has: a link-local address whose neighbour entry is there from the start, so that no packet waits for ARP or
// neighbour discovery. The host has a route and a neighbour entry for each address of the pod. All of it hangs on the two
// ends, and goes with them.

import type { IpamResult } from '../ipam/verbs.ts';
import type { CniRoute } from '../model/cni.ts';
import { NetError } from '../model/errors.ts';
import { addressOf, defaultPrefix, type Family, familyOf, hostPrefix, type Ip, ip, type Prefix } from '../model/ip.ts';
import type { Link, Namespace, Neighbour, Route, State, Sysctl } from '../model/state.ts';
import { EMPTY_STATE, OUR_PROTOCOL } from '../model/state.ts';
import type { BridgeConfig } from './config.ts';
import type { Ends } from './plan.ts';

/** What other networks of this kind have, too: nothing else is given these addresses. */
const LINK_GATEWAY: Readonly<Record<Family, Ip>> = { 4: ip('169.254.1.1'), 6: ip('fe80::1') };

type Addresses = IpamResult['ips'];

/**
 * What a pod gets of the address management's result: its addresses as host addresses, its routes by the link's gateway,
 * and a default route where there would be none of the family, or where it is asked for.
 * @throws NetError invalid-config for a route by another gateway, which nothing leads to
 */
export function withLinkGateways(
  { isDefaultGateway }: Pick<BridgeConfig, 'isDefaultGateway'>,
  { ips, routes, dns }: IpamResult,
): IpamResult {
  const families = [...new Set(ips.map(({ address }) => familyOf(address)))];
  const given = new Set(ips.map(({ gateway }) => gateway));
  const onLink = routes.map((route) => byLink(route, given));
  const lacksDefault = (family: Family) =>
    isDefaultGateway
      ? !onLink.some(({ dst }) => dst === defaultPrefix(family))
      : !onLink.some(({ dst }) => familyOf(dst) === family);
  const defaults = families
    .filter(lacksDefault)
    .map((family): CniRoute => ({ dst: defaultPrefix(family), gw: LINK_GATEWAY[family] }));
  return {
    ips: ips.map(({ address }) => ({
      address: hostPrefix(addressOf(address)),
      gateway: LINK_GATEWAY[familyOf(address)],
    })),
    routes: [...onLink, ...defaults],
    dns,
  };
}

/** A route that names its subnet's gateway means the host, which is the link's gateway. */
function byLink(route: CniRoute, gateways: ReadonlySet<Ip | undefined>): CniRoute {
  const { dst, gw } = route;
  const link = LINK_GATEWAY[familyOf(dst)];
  if (gw === undefined || gw === link) return route;
  if (gateways.has(gw)) return { ...route, gw: link };
  throw new NetError('invalid-config', `route to ${dst}: mode "routed" leads to no gateway ${gw} but to the host`, {
    subject: dst,
  });
}

/** The host's end when it is created: up only when its settings stand. */
export const routedEnd = ({ mtu }: Pick<BridgeConfig, 'mtu'>, ends: Ends, namespace: Namespace | undefined): Link => ({
  name: ends.host,
  kind: 'veth',
  up: namespace === undefined,
  mac: ends.hostMac,
  mtu,
  ...(namespace !== undefined && { peer: { name: ends.pod, mac: ends.podMac, mtu, namespace } }),
});

/** The host's side: its end, and the way to each of the pod's addresses by it. */
export function planRoutedHost(ends: Ends, ips: Addresses, forwarding: readonly Sysctl[]): State {
  const { host, podMac } = ends;
  const addresses = ips.map(({ address }) => addressOf(address));
  return {
    ...EMPTY_STATE,
    links: [{ name: host, kind: 'veth', up: true }],
    sysctls: [...endSettings(host, addresses), ...forwarding],
    neighbours: podMac === undefined ? [] : addresses.map((ip): Neighbour => ({ device: host, ip, mac: podMac })),
    routes: addresses.map((address) => routeTo(hostPrefix(address), host)),
  };
}

const routeTo = (destination: Prefix, device: string): Route => ({ destination, device, protocol: OUR_PROTOCOL });

function endSettings(host: string, addresses: readonly Ip[]): Sysctl[] {
  const ipv6 = (name: string, value: string) => ({ key: `net/ipv6/conf/${host}/${name}`, value });
  const has = (family: Family) => addresses.some((address) => familyOf(address) === family);
  return [
    // A rogue advertisement from a pod must not become the host's route (CVE-2020-10749).
    ipv6('accept_ra', '0'),
    ...(has(6) ? [ipv6('disable_ipv6', '0'), ipv6('accept_dad', '0')] : []),
    // What comes in by the link has an address that leads out by it: the pod's own.
    ...(has(4) ? [{ key: `net/ipv4/conf/${host}/rp_filter`, value: '1' }] : []),
  ];
}

/** What of the pod's plan is different without a bridge: the gateways' neighbour entries, and that they are on the link. */
export function routedPod({ hostMac, pod }: Ends, ips: Addresses, plan: State): State {
  const families = [...new Set(ips.map(({ address }) => familyOf(address)))];
  const neighbour = (family: Family, mac: NonNullable<Ends['hostMac']>): Neighbour => ({
    device: pod,
    ip: LINK_GATEWAY[family],
    mac,
  });
  return {
    ...plan,
    neighbours: hostMac === undefined ? [] : families.map((family) => neighbour(family, hostMac)),
    routes: plan.routes.map((route) => (route.via === undefined ? route : { ...route, onlink: true })),
  };
}
