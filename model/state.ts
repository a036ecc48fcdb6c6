// What one network namespace holds, as plain values: links, addresses, routes, neighbours, forwarding entries, sysctls,
// queueing disciplines. Devices are referred to by name; kernel/ turns names into indexes. A field that is undefined in
// a wanted value means "don't care"; what kernel/ reads is always filled in.

import { familyOf, type Ip, type Mac, type Prefix } from './ip.ts';

/** A network namespace. `path` is where it was opened; `id` ("device:inode") tells whether two are the same. */
export interface Namespace {
  readonly path: string;
  readonly id: string;
}

export interface VxlanOptions {
  readonly vni: number;
  /** UDP destination port. */
  readonly port: number;
  /** Underlay source address. */
  readonly local?: Ip | undefined;
  /** Underlay device. */
  readonly device?: string | undefined;
  readonly learning?: boolean | undefined;
  readonly gbp?: boolean | undefined;
}

export interface BridgeOptions {
  /** Hand bridged IPv4 packets to the inet hooks, whatever the sysctl says (IFLA_BR_NF_CALL_IPTABLES). */
  readonly nfCallIptables?: boolean | undefined;
  readonly nfCallIp6tables?: boolean | undefined;
}

export interface BridgePortOptions {
  readonly hairpin?: boolean | undefined;
  readonly isolated?: boolean | undefined;
}

/** The other end of a veth pair, born in its namespace. It can't be created up (ENOTCONN). */
export interface VethPeer {
  readonly name: string;
  readonly mac?: Mac | undefined;
  readonly mtu?: number | undefined;
  readonly namespace?: Namespace | undefined;
}

export interface Link {
  readonly name: string;
  /** The kernel's kind: bridge, veth, vxlan, tun, ifb …; "device" for what has none (physical, loopback). */
  readonly kind: string;
  readonly up?: boolean | undefined;
  readonly mac?: Mac | undefined;
  readonly mtu?: number | undefined;
  /** Bridge the link is a port of; null: of none. */
  readonly master?: string | null | undefined;
  readonly promiscuous?: boolean | undefined;
  readonly vxlan?: VxlanOptions | undefined;
  readonly bridge?: BridgeOptions | undefined;
  readonly port?: BridgePortOptions | undefined;
  /** VXLAN only: checksums of inner packets are left to what the packets go out by (ethtool's tx). */
  readonly txChecksum?: boolean | undefined;
  /** Only when adding a veth. */
  readonly peer?: VethPeer | undefined;
  /** Read only. */
  readonly index?: number | undefined;
  /** Read only: carrier and administrative state allow traffic. */
  readonly operational?: boolean | undefined;
  /** Read only, veth: the index of the other end in its namespace. */
  readonly peerIndex?: number | undefined;
}

export interface Address {
  readonly device: string;
  /** With host bits: 10.5.1.1/24. */
  readonly address: Prefix;
  /** IPv6: usable at once, no duplicate address detection (IFA_F_NODAD). Write only. */
  readonly noDad?: boolean | undefined;
  /** Read only: global, site, link or host. */
  readonly scope?: RouteScope | undefined;
  /** Read only: has a limited lifetime or is temporary or deprecated. */
  readonly flags?: readonly ('dynamic' | 'temporary' | 'deprecated' | 'tentative' | 'dadfailed')[] | undefined;
}

export type RouteScope = 'global' | 'site' | 'link' | 'host' | number;

export interface Route {
  readonly destination: Prefix;
  readonly via?: Ip | undefined;
  readonly device?: string | undefined;
  readonly type?: 'unicast' | 'blackhole' | undefined;
  /** The gateway is taken to be on the link whether an address says so or not. */
  readonly onlink?: boolean | undefined;
  readonly source?: Ip | undefined;
  readonly metric?: number | undefined;
  /** Routing table; main (254) when undefined. */
  readonly table?: number | undefined;
  readonly scope?: RouteScope | undefined;
  /** Who made it (rtm_protocol): kernel 2, boot 3, static 4, ours {@link OUR_PROTOCOL}. */
  readonly protocol?: number | undefined;
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
}

/** A permanent neighbour (ARP, ND) entry. */
export interface Neighbour {
  readonly device: string;
  readonly ip: Ip;
  readonly mac: Mac;
}

/** A permanent entry of a VXLAN device's forwarding database: frames to `mac` go to the VTEP at `destination`. */
export interface FdbEntry {
  readonly device: string;
  readonly mac: Mac;
  readonly destination: Ip;
}

/**
 * A queueing discipline. `tbf` at the device's root: what leaves by the device passes a token bucket of `rate` bytes a
 * second and `burst` bytes, before which at most `limit` bytes wait. `ingress`: the place for filters on what enters the
 * device; read, a clsact discipline counts as one.
 */
export type Qdisc =
  | {
      readonly device: string;
      readonly kind: 'tbf';
      readonly rate: number;
      /** As exact as the kernel's clock: model/token-bucket.ts. */
      readonly burst: number;
      readonly limit: number;
    }
  | { readonly device: string; readonly kind: 'ingress' };

/** A filter: whatever enters the device leaves by the device `to` instead, where it can be made to queue. */
export interface Redirect {
  readonly device: string;
  readonly to: string;
}

/** A file under /proc/sys of the namespace: key "net/ipv4/ip_forward". */
export interface Sysctl {
  readonly key: string;
  readonly value: string;
}

export interface State {
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  readonly fdb: readonly FdbEntry[];
  readonly sysctls: readonly Sysctl[];
  readonly qdiscs: readonly Qdisc[];
  readonly redirects: readonly Redirect[];
}

export const EMPTY_STATE: State = {
  links: [],
  addresses: [],
  routes: [],
  neighbours: [],
  fdb: [],
  sysctls: [],
  qdiscs: [],
  redirects: [],
};

/** The rtm_protocol of every route the agent makes, so that it can tell its own. Not in iproute2's rt_protos. */
export const OUR_PROTOCOL = 251;
export const MAIN_TABLE = 254;

/** Every part of several states, one after the other. */
export function merge(...states: readonly Partial<State>[]): State {
  return {
    links: states.flatMap((state) => state.links ?? []),
    addresses: states.flatMap((state) => state.addresses ?? []),
    routes: states.flatMap((state) => state.routes ?? []),
    neighbours: states.flatMap((state) => state.neighbours ?? []),
    fdb: states.flatMap((state) => state.fdb ?? []),
    sysctls: states.flatMap((state) => state.sysctls ?? []),
    qdiscs: states.flatMap((state) => state.qdiscs ?? []),
    redirects: states.flatMap((state) => state.redirects ?? []),
  };
}

/** An object of a State with its type: what a step acts on. */
export type Item =
  | { readonly type: 'link'; readonly value: Link }
  | { readonly type: 'address'; readonly value: Address }
  | { readonly type: 'route'; readonly value: Route }
  | { readonly type: 'neighbour'; readonly value: Neighbour }
  | { readonly type: 'fdb'; readonly value: FdbEntry }
  | { readonly type: 'sysctl'; readonly value: Sysctl }
  | { readonly type: 'qdisc'; readonly value: Qdisc }
  | { readonly type: 'redirect'; readonly value: Redirect };

/** IPv6 knows no route without a metric: what states none gets this one (linux/ipv6_route.h: IP6_RT_PRIO_USER). */
export const DEFAULT_METRIC6 = 1024;

/** The metric, 0 where it is the family's default. */
export const metricOf = ({ destination, metric = 0 }: Route): number =>
  metric === DEFAULT_METRIC6 && familyOf(destination) === 6 ? 0 : metric;

/** What makes an object that object: two items with the same identity can't both exist in a namespace. */
export function identity(item: Item): string {
  switch (item.type) {
    case 'link':
      return `link ${item.value.name}`;
    case 'address':
      return `address ${item.value.device} ${item.value.address}`;
    case 'route':
      return `route ${item.value.table ?? MAIN_TABLE} ${item.value.destination} ${metricOf(item.value)}`;
    case 'neighbour':
      return `neighbour ${item.value.device} ${item.value.ip}`;
    case 'fdb':
      return `fdb ${item.value.device} ${item.value.mac}`;
    case 'sysctl':
      return `sysctl ${item.value.key}`;
    case 'qdisc':
      return `qdisc ${item.value.device} ${item.value.kind === 'ingress' ? 'ingress' : 'root'}`;
    case 'redirect':
      return `redirect ${item.value.device}`;
  }
}

/** Every object of a state. */
export function itemsOf(state: Partial<State>): Item[] {
  const items: Item[] = [];
  for (const value of state.links ?? []) items.push({ type: 'link', value });
  for (const value of state.sysctls ?? []) items.push({ type: 'sysctl', value });
  for (const value of state.addresses ?? []) items.push({ type: 'address', value });
  for (const value of state.fdb ?? []) items.push({ type: 'fdb', value });
  for (const value of state.neighbours ?? []) items.push({ type: 'neighbour', value });
  for (const value of state.routes ?? []) items.push({ type: 'route', value });
  for (const value of state.qdiscs ?? []) items.push({ type: 'qdisc', value });
  for (const value of state.redirects ?? []) items.push({ type: 'redirect', value });
  return items;
}
