// One namespace of the fake kernel: what the kernel calls struct net. Objects refer to their device itself rather than to
// its name, so that a device that dies takes them along and one that is born under the same name finds nothing.

import { NetError } from '../model/errors.ts';
import { type Family, familyOf, type Ip, type Mac, type Prefix } from '../model/ip.ts';
import type { BridgeOptions, BridgePortOptions, Qdisc, RouteScope, VxlanOptions } from '../model/state.ts';

/** IPv6 runs on no device with a smaller MTU (RFC 8200, section 5). */
const IPV6_MIN_MTU = 1280;

export interface Device {
  readonly index: number;
  readonly name: string;
  readonly kind: string;
  readonly net: Net;
  up: boolean;
  mac: Mac;
  mtu: number;
  promiscuous: boolean;
  master: Device | undefined;
  port: Required<BridgePortOptions> | undefined;
  bridge: Required<BridgeOptions> | undefined;
  readonly vxlan: VxlanOptions | undefined;
  /** A VXLAN's underlay. */
  readonly lower: Device | undefined;
  /** A veth's other end. */
  peer: Device | undefined;
  /** Bridge: somebody chose the MAC, so it no longer follows the ports. */
  macChosen: boolean;
  /** Bridge: somebody changed the MTU, so it no longer follows the ports. */
  mtuChosen: boolean;
  /** Bridge: its ports have decided about its carrier at least once; a new bridge has one without any port. */
  settled: boolean;
  /** IPv6 has seen it up with a carrier since it last went up (IF_READY). */
  ready: boolean;
  txChecksum: boolean;
}

export interface HeldAddress {
  readonly device: Device;
  readonly address: Prefix;
  readonly scope: RouteScope;
}

export interface HeldRoute {
  readonly destination: Prefix;
  readonly table: number;
  /** 0 is IPv4's default, 1024 IPv6's. */
  readonly metric: number;
  readonly device: Device | undefined;
  readonly via: Ip | undefined;
  readonly type: 'unicast' | 'blackhole';
  readonly onlink: boolean;
  readonly source: Ip | undefined;
  readonly scope: RouteScope;
  readonly protocol: number;
  readonly mtu: number | undefined;
  readonly advmss: number | undefined;
}

export interface HeldNeighbour {
  readonly device: Device;
  readonly ip: Ip;
  readonly mac: Mac;
}

export interface HeldFdbEntry {
  readonly device: Device;
  readonly mac: Mac;
  readonly destination: Ip;
}

export interface HeldQdisc {
  readonly device: Device;
  readonly qdisc: Qdisc;
}

export interface HeldRedirect {
  readonly device: Device;
  readonly to: Device;
}

export interface Net {
  lastIndex: number;
  /** An IPv4 address was here once: until then the kernel has no local table and takes any address for broadcast. */
  hadIpv4: boolean;
  devices: Device[];
  /** IPv4: in the order that makes the first of a subnet the primary. */
  addresses: HeldAddress[];
  routes: HeldRoute[];
  neighbours: HeldNeighbour[];
  fdb: HeldFdbEntry[];
  qdiscs: HeldQdisc[];
  redirects: HeldRedirect[];
  /** Values that differ from the kernel's defaults. */
  readonly sysctls: Map<string, string>;
}

/** The kernel's answer; kernel/fake.ts adds what was attempted. */
export function refuse(errno: string, subject?: string): never {
  throw new NetError('kernel', errno, { errno, subject });
}

/** By name; undefined when there is none. */
export const findDevice = (net: Net, name: string): Device | undefined =>
  net.devices.find((device) => device.name === name);

/** @throws NetError kernel ENODEV */
export const deviceNamed = (net: Net, name: string): Device => findDevice(net, name) ?? refuse('ENODEV', name);

/** Every namespace has one. */
export const loopbackOf = (net: Net): Device => deviceNamed(net, 'lo');

/** The integer that a sysctl stands at. */
export const setting = (net: Net, key: string, fallback: number): number => Number(net.sysctls.get(key) ?? fallback);

/** Whether IPv6 has nothing to say on the device at all: its MTU is too small for it. */
export const lacksIpv6 = (device: Device): boolean => device.mtu < IPV6_MIN_MTU;

/** By the device's own sysctl. */
export const ipv6Disabled = ({ net, name }: Device): boolean =>
  setting(net, `net/ipv6/conf/${name}/disable_ipv6`, 0) !== 0;

/** Whether the device could move a frame now, were it up. */
export function hasCarrier(device: Device): boolean {
  if (device.kind === 'veth') return device.up && device.peer?.up === true;
  if (device.kind !== 'bridge' || !device.settled) return true;
  return portsOf(device).some((port) => port.up && hasCarrier(port));
}

/** Devices whose master is the bridge. */
export const portsOf = (bridge: Device): Device[] => bridge.net.devices.filter(({ master }) => master === bridge);

/** Outer IP and UDP headers, the VXLAN header and the inner Ethernet header. */
export const overheadOf = ({ local }: VxlanOptions): number => (local !== undefined && familyOf(local) === 6 ? 70 : 50);

/** Forgets the device's neighbours of the families. */
export function forgetNeighbours(device: Device, isFamily: (ip: Ip) => boolean): void {
  const { net } = device;
  net.neighbours = net.neighbours.filter((neighbour) => neighbour.device !== device || !isFamily(neighbour.ip));
}

/** Tells the addresses and prefixes of a family. */
export const is =
  (family: Family) =>
  (value: Ip | Prefix): boolean =>
    familyOf(value) === family;
