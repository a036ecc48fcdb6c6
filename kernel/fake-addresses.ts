// Addresses of the fake kernel, and the routes that come and go with them and with their device (net/ipv4/devinet.c and
// fib_frontend.c, net/ipv6/addrconf.c).

import {
  addressOf,
  contains,
  familyOf,
  type Ip,
  lengthOf,
  linkLocal,
  multicast,
  networkOf,
  type Prefix,
  withLength,
} from '../model/ip.ts';
import { type Address, MAIN_TABLE, type RouteScope } from '../model/state.ts';
import {
  type Device,
  deviceNamed,
  forgetNeighbours,
  hasCarrier,
  type HeldAddress,
  type HeldRoute,
  ipv6Disabled,
  is,
  lacksIpv6,
  type Net,
  refuse,
  setting,
} from './fake-net.ts';
import { flushRoutes, insertRoute } from './fake-routes.ts';

const RTPROT_KERNEL = 2;
const CONNECTED_METRIC6 = 256;
const LOOPBACK4 = '127.0.0.1/8' as Prefix;
const LOOPBACK6 = '::1/128' as Prefix;

/** Equivalent to: ip address add|replace ADDRESS dev DEVICE */
export function addAddress(net: Net, { device: name, address }: Address, replace: boolean): void {
  const device = deviceNamed(net, name);
  if (familyOf(address) === 6) acceptIpv6(device, addressOf(address));
  const there = net.addresses.some((held) => held.device === device && sameAddress(held.address, address));
  if (there && !replace) refuse('EEXIST');
  if (!there) insertAddress({ device, address, scope: scopeOf(addressOf(address)) });
}

/** IPv6 knows an address of a device by its bits alone, IPv4 by its length too. */
const sameAddress = (a: Prefix, b: Prefix): boolean => (familyOf(a) === 6 ? addressOf(a) === addressOf(b) : a === b);

function acceptIpv6(device: Device, ip: Ip): void {
  if (lacksIpv6(device)) refuse('EINVAL');
  if (ipv6Disabled(device)) refuse('EACCES');
  if (ip === '::' || contains(multicast(6), ip)) refuse('EADDRNOTAVAIL');
}

function scopeOf(ip: Ip): RouteScope {
  if (ip === '::1') return 'host';
  return familyOf(ip) === 6 && contains('fe80::/10' as Prefix, ip) ? 'link' : 'global';
}

function insertAddress(held: HeldAddress): void {
  const { net } = held.device;
  net.addresses.push(held);
  net.hadIpv4 ||= is(4)(held.address);
  if (held.device.up) connect(held);
}

/** Whether another address of the device and subnet was there first: it then goes when that one goes. */
const isSecondary = (held: HeldAddress): boolean => subnetOf(held)[0] !== held;

const subnetOf = ({ device, address }: HeldAddress): HeldAddress[] =>
  device.net.addresses.filter((other) => other.device === device && networkOf(other.address) === networkOf(address));

/** The route to the address's subnet that the kernel keeps while the device is up; undefined where there is none. */
function connectedRoute({ device, address }: HeldAddress): HeldRoute | undefined {
  const six = familyOf(address) === 6;
  if (device.name === 'lo' && (!six || address === LOOPBACK6)) return undefined;
  if (!six && (lengthOf(address) === 32 || contains('0.0.0.0/8' as Prefix, addressOf(address)))) return undefined;
  return {
    destination: networkOf(address),
    table: MAIN_TABLE,
    metric: six ? CONNECTED_METRIC6 : 0,
    device,
    via: undefined,
    type: 'unicast',
    onlink: false,
    source: six ? undefined : addressOf(address),
    scope: six ? 'global' : 'link',
    protocol: RTPROT_KERNEL,
    mtu: undefined,
    advmss: undefined,
  };
}

function connect(held: HeldAddress): void {
  const route = connectedRoute(held);
  if (route === undefined || isSecondary(held)) return;
  const { net } = held.device;
  if (!net.routes.some((other) => sameConnected(other, route))) insertRoute(net, route);
}

const sameConnected = (a: HeldRoute, b: HeldRoute): boolean =>
  a.destination === b.destination &&
  a.device === b.device &&
  a.source === b.source &&
  a.protocol === b.protocol &&
  a.metric === b.metric;

function disconnect(held: HeldAddress): void {
  const route = connectedRoute(held);
  const { net } = held.device;
  if (route !== undefined) net.routes = net.routes.filter((other) => !sameConnected(other, route));
}

/** Equivalent to: ip address delete ADDRESS dev DEVICE */
export function deleteAddress(net: Net, { device: name, address }: Address): void {
  const device = deviceNamed(net, name);
  const held =
    net.addresses.find((other) => other.device === device && other.address === address) ?? refuse('EADDRNOTAVAIL');
  removeAddress(held);
}

function removeAddress(held: HeldAddress): void {
  if (familyOf(held.address) === 6) removeIpv6(held);
  else removeIpv4(held);
}

const forget = (held: HeldAddress): void => {
  const { net } = held.device;
  net.addresses = net.addresses.filter((other) => other !== held);
};

/** A primary address takes the others of its subnet along, unless they may be promoted. */
function removeIpv4(held: HeldAddress): void {
  const { device } = held;
  const secondaries = isSecondary(held) ? [] : subnetOf(held).slice(1);
  if (!isSecondary(held)) disconnect(held);
  forget(held);
  const next = promotes(device) ? secondaries[0] : undefined;
  if (next === undefined) for (const secondary of secondaries) removeIpv4(secondary);
  else if (device.up) connect(next);
  if (!device.net.addresses.some((other) => other.device === device && is(4)(other.address))) stopIpv4(device);
  forgetSource(device.net, addressOf(held.address));
}

const promotes = ({ net, name }: Device): boolean =>
  ['all', name].some((which) => setting(net, `net/ipv4/conf/${which}/promote_secondaries`, 0) !== 0);

/** Without an address on it, and while it is down, a device forwards no IPv4. */
function stopIpv4(device: Device): void {
  flushRoutes(device, 4);
  forgetNeighbours(device, is(4));
}

/** A route can't prefer a source that the host doesn't have (fib_sync_down_addr). */
function forgetSource(net: Net, ip: Ip): void {
  if (!hasAddress(net, ip)) net.routes = net.routes.filter(({ source }) => source !== ip);
}

function removeIpv6(held: HeldAddress): void {
  const { net } = held.device;
  const others = subnetOf(held).length > 1;
  forget(held);
  if (!others) disconnect(held);
  const ip = addressOf(held.address);
  if (!hasAddress(net, ip))
    net.routes = net.routes.map((route) => (route.source === ip ? { ...route, source: undefined } : route));
}

const hasAddress = (net: Net, ip: Ip): boolean => net.addresses.some(({ address }) => addressOf(address) === ip);

/** The device went up: its connected routes appear, and the loopback device's own addresses. */
export function raiseAddresses(device: Device): void {
  const { net } = device;
  for (const held of net.addresses.filter((other) => other.device === device)) connect(held);
  if (device.name !== 'lo') return;
  const there = net.addresses.some((held) => held.device === device && held.address === LOOPBACK4);
  if (!there) insertAddress({ device, address: LOOPBACK4, scope: 'host' });
  if (!ipv6Disabled(device)) net.addresses.push({ device, address: LOOPBACK6, scope: 'host' });
}

/** The device went down: it keeps nothing but its IPv4 addresses. */
export function lowerAddresses(device: Device): void {
  stopIpv4(device);
  stopIpv6(device);
}

/** The device is up no longer, or IPv6 not wanted on it. */
export function stopIpv6(device: Device): void {
  const { net } = device;
  device.ready = false;
  net.addresses = net.addresses.filter((held) => held.device !== device || !is(6)(held.address));
  flushRoutes(device, 6);
  forgetNeighbours(device, is(6));
}

/** The device is leaving: everything of it goes, and routes elsewhere that prefer one of its addresses as source. */
export function dropAddresses(device: Device): void {
  lowerAddresses(device);
  for (const held of device.net.addresses.filter((other) => other.device === device).reverse()) removeAddress(held);
}

/** Gives every device that has come to have a carrier its link-local address (eui64), once until it goes down. */
export function settleIpv6(net: Net): void {
  for (const device of net.devices) {
    if (
      device.name === 'lo' ||
      device.ready ||
      !device.up ||
      lacksIpv6(device) ||
      ipv6Disabled(device) ||
      !hasCarrier(device)
    )
      continue;
    device.ready = true;
    if (setting(net, `net/ipv6/conf/${device.name}/addr_gen_mode`, 0) !== 0) continue;
    const address = withLength(linkLocal(device.mac), 64);
    const there = net.addresses.some((held) => held.device === device && held.address === address);
    if (!there) insertAddress({ device, address, scope: 'link' });
  }
}
