// Changes to a living link of the fake kernel, in the order of rtnetlink's do_setlink: what came before a refusal stays.

import type { Mac } from '../model/ip.ts';
import type { BridgePortOptions, Link } from '../model/state.ts';
import { lowerAddresses, raiseAddresses, stopIpv6 } from './fake-addresses.ts';
import {
  type Device,
  deviceNamed,
  forgetNeighbours,
  type HeldRoute,
  is,
  lacksIpv6,
  type Net,
  overheadOf,
  portsOf,
  refuse,
} from './fake-net.ts';

const MTU_MIN = 68;
const MTU_MAX = 65535;
const NO_MAC = '00:00:00:00:00:00' as Mac;

/** Equivalent to: ip link set NAME … */
export function changeLink(net: Net, link: Link): void {
  const device = deviceNamed(net, link.name);
  const master = typeof link.master === 'string' ? deviceNamed(net, link.master) : undefined;
  if (link.bridge !== undefined)
    device.bridge = device.bridge === undefined ? refuse('ENOTSUP') : { ...device.bridge, ...stated(link.bridge) };
  if (link.mac !== undefined) setMac(device, link.mac);
  if (link.mtu !== undefined && link.mtu !== device.mtu) setMtu(device, link.mtu);
  if (link.master === null && device.master !== undefined) detach(device);
  if (master !== undefined && master !== device.master) enslave(device, master);
  if (link.promiscuous !== undefined) device.promiscuous = link.promiscuous;
  if (link.up === true && !device.up) raise(device);
  if (link.up === false && device.up) lower(device);
  if (link.port !== undefined) setPort(device, link.port);
  if (link.txChecksum !== undefined) device.txChecksum = link.txChecksum;
}

/** Without the fields that are there but undefined. */
const stated = <T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

/** @throws NetError kernel EADDRNOTAVAIL for no address and for a group's */
export function checkMac(mac: Mac | undefined): void {
  if (mac !== undefined && (mac === NO_MAC || Number.parseInt(mac.slice(0, 2), 16) & 1)) refuse('EADDRNOTAVAIL');
}

function setMac(device: Device, mac: Mac): void {
  if (device.name !== 'lo') checkMac(mac);
  device.macChosen = true;
  device.settled = true;
  moveMac(device, mac);
  if (device.master !== undefined) followPorts(device.master);
}

/** Neighbours were learned for the old address: even permanent ones go (neigh_changeaddr). */
function moveMac(device: Device, mac: Mac): void {
  device.mac = mac;
  forgetNeighbours(device, () => true);
}

/** @throws NetError kernel EINVAL outside what the kind carries */
export function checkMtu(kind: string, mtu: number): void {
  if (kind !== 'device' && (mtu < MTU_MIN || mtu > MTU_MAX)) refuse('EINVAL');
}

function setMtu(device: Device, mtu: number): void {
  checkMtu(device.kind, mtu);
  if (device.lower !== undefined && device.vxlan !== undefined && mtu > device.lower.mtu - overheadOf(device.vxlan))
    refuse('EINVAL');
  device.mtuChosen = true;
  moveMtu(device, mtu);
  if (device.master !== undefined) followPorts(device.master);
}

/** IPv6 routes that are wider than the device, or were as wide as it was, follow it (rt6_mtu_change_route). */
function moveMtu(device: Device, mtu: number): void {
  const { net, mtu: before } = device;
  device.mtu = mtu;
  if (lacksIpv6(device)) stopIpv6(device);
  const follows = (route: HeldRoute) =>
    route.device === device &&
    is(6)(route.destination) &&
    route.mtu !== undefined &&
    (route.mtu >= mtu || route.mtu === before);
  net.routes = net.routes.map((route) => (follows(route) ? { ...route, mtu } : route));
}

/** A bridge nobody has decided otherwise for has the lowest MAC and the smallest MTU of its ports. */
function followPorts(bridge: Device): void {
  const ports = portsOf(bridge);
  const mac = ports.map((port) => port.mac).sort()[0] ?? NO_MAC;
  if (!bridge.macChosen && mac !== bridge.mac) moveMac(bridge, mac);
  if (bridge.mtuChosen) return;
  const mtu = ports.length === 0 ? 1500 : Math.min(...ports.map((port) => port.mtu));
  if (mtu !== bridge.mtu) moveMtu(bridge, mtu);
}

/** @throws NetError kernel when a link of the kind can't be a port of that device */
export function checkMaster(kind: string, master: Device): void {
  if (master.kind !== 'bridge') refuse('ENOTSUP');
  if (kind === 'bridge') refuse('ELOOP');
}

function enslave(device: Device, master: Device): void {
  checkMaster(device.kind, master);
  if (device.name === 'lo') refuse('EINVAL');
  if (device.master !== undefined) detach(device);
  attach(device, master);
}

/** Makes the device a port of the bridge, with a port's default options. */
export function attach(device: Device, bridge: Device): void {
  device.master = bridge;
  device.port = { hairpin: false, isolated: false };
  bridge.settled = true;
  followPorts(bridge);
}

/** Makes the device a port no longer; a port's options end with it. */
export function detach(device: Device): void {
  const bridge = device.master;
  device.master = undefined;
  device.port = undefined;
  if (bridge !== undefined) followPorts(bridge);
}

/** Equivalent to: ip link set NAME type bridge_slave … */
export function setPort(device: Device, port: BridgePortOptions): void {
  device.port = device.port === undefined ? refuse('ENOTSUP') : { ...device.port, ...stated(port) };
}

/** Equivalent to: ip link set NAME up */
export function raise(device: Device): void {
  if (device.vxlan !== undefined && device.net.devices.some((other) => other.up && socketsClash(device, other)))
    refuse('EADDRINUSE');
  device.up = true;
  raiseAddresses(device);
}

/** VXLANs share the UDP socket of a port, but not one that speaks another dialect. */
function socketsClash({ vxlan: a }: Device, { vxlan: b }: Device): boolean {
  return a !== undefined && b !== undefined && a.port === b.port && overheadOf(a) === overheadOf(b) && a.gbp !== b.gbp;
}

function lower(device: Device): void {
  device.up = false;
  lowerAddresses(device);
}
