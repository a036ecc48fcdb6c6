// Routes of the fake kernel: what is accepted (net/ipv4/fib_semantics.c, net/ipv6/route.c), what a deletion matches, which
// route a packet takes.

import {
  addressOf,
  defaultPrefix,
  contains,
  familyOf,
  hostPrefix,
  type Ip,
  lengthOf,
  multicast,
  networkOf,
  type Prefix,
} from '../model/ip.ts';
import { MAIN_TABLE, type Route, type RouteScope } from '../model/state.ts';
import {
  type Device,
  deviceNamed,
  type HeldRoute,
  ipv6Disabled,
  is,
  lacksIpv6,
  loopbackOf,
  type Net,
  refuse,
} from './fake-net.ts';
import { SCOPES, scopeName, scopeNumber } from './wire.ts';

const METRIC6 = 1024;
const RTPROT_BOOT = 3;

const metricOf = (route: Route): number => route.metric || (familyOf(route.destination) === 6 ? METRIC6 : 0);

const isLocal = (net: Net, ip: Ip): boolean => net.addresses.some(({ address }) => addressOf(address) === ip);

const isLinkLocal = (ip: Ip): boolean => contains('fe80::/10' as Prefix, ip);

/** Equivalent to: ip route add|replace … */
export function addRoute(net: Net, route: Route, replace: boolean): void {
  const held = accept(net, route);
  const same = net.routes.findIndex((other) => sameKey(other, held));
  if (same < 0) insertRoute(net, held);
  else if (replace) net.routes[same] = held;
  else refuse('EEXIST');
}

const sameKey = (a: HeldRoute, b: HeldRoute): boolean =>
  a.destination === b.destination && a.table === b.table && a.metric === b.metric;

/** Behind those of its metric: the kernel's own routes of two devices to one subnet stand side by side. */
export function insertRoute(net: Net, route: HeldRoute): void {
  const at = net.routes.findIndex((other) => other.destination === route.destination && other.metric > route.metric);
  net.routes.splice(at < 0 ? net.routes.length : at, 0, route);
}

/** The route with everything filled in that was left open. */
function accept(net: Net, route: Route): HeldRoute {
  const six = familyOf(route.destination) === 6;
  if (!six && networkOf(route.destination) !== route.destination) refuse('EINVAL');
  const device = route.type === 'blackhole' ? deviceOfBlackhole(net, route) : nextHop(net, route);
  if (route.source !== undefined && !isLocal(net, route.source)) refuse('EINVAL');
  return {
    destination: networkOf(route.destination),
    table: route.table ?? MAIN_TABLE,
    metric: metricOf(route),
    device,
    via: route.via,
    type: route.type ?? 'unicast',
    onlink: route.onlink ?? false,
    source: route.source,
    scope: six ? 'global' : scopeOf(route),
    protocol: route.protocol ?? RTPROT_BOOT,
    mtu: route.mtu,
    advmss: route.advmss,
  };
}

function scopeOf(route: Route): RouteScope {
  if (route.scope !== undefined) return scopeName(scopeNumber(route.scope));
  return route.via === undefined && route.type !== 'blackhole' ? 'link' : 'global';
}

/** IPv6 hangs them on the loopback device; in IPv4 naming one is a contradiction. */
function deviceOfBlackhole(net: Net, route: Route): Device | undefined {
  if (familyOf(route.destination) === 6) return loopbackOf(net);
  return route.device === undefined && route.via === undefined ? undefined : refuse('EINVAL');
}

function nextHop(net: Net, route: Route): Device {
  const named = route.device === undefined ? undefined : deviceNamed(net, route.device);
  const device = route.via === undefined || route.onlink ? named : reach(net, route, route.via, named);
  if (device === undefined) return refuse('ENODEV');
  if (route.via !== undefined && route.onlink) checkOnlink(net, route.via, device);
  if (familyOf(route.destination) === 6) requireIpv6(device);
  return device.up ? device : refuse('ENETDOWN');
}

function requireIpv6(device: Device): void {
  if (lacksIpv6(device)) refuse('ENODEV');
  if (ipv6Disabled(device)) refuse('EACCES');
}

/** The device on whose link the gateway is. */
function reach(net: Net, route: Route, via: Ip, named: Device | undefined): Device {
  return familyOf(via) === 6 ? reach6(net, via, named) : reach4(net, route, via, named);
}

/** Only routes of a narrower scope than the new one count, so never one that has a gateway itself (fib_check_nh_v4_gw). */
function reach4(net: Net, route: Route, via: Ip, named: Device | undefined): Device {
  const least = scopeNumber(route.scope ?? 'global') + 1;
  const own = net.addresses.find(({ address }) => addressOf(address) === via)?.device;
  if (own !== undefined && (named === undefined || named === own) && least <= SCOPES.host) return own;
  const best = lookup(
    net,
    via,
    (other) => scopeNumber(other.scope) >= least && (named === undefined || other.device === named),
  );
  return best?.device ?? refuse('ENETUNREACH');
}

/** A gateway must be a neighbour, and never the host itself (ip6_validate_gw). */
function reach6(net: Net, via: Ip, named: Device | undefined): Device {
  if (isLocal(net, via)) refuse('EINVAL');
  if (isLinkLocal(via)) return named ?? refuse('EINVAL');
  const best = lookup(net, via, (other) => named === undefined || other.device === named);
  return best?.via === undefined ? (forwardsBy(best) ?? refuse('EHOSTUNREACH')) : refuse('EHOSTUNREACH');
}

/**
 * IPv6 refuses a gateway that the main table finds by another device, default routes aside. So a route whose gateway lies
 * inside its own destination, as between VXLAN peers, can't replace one that leaves by another device.
 */
function checkOnlink(net: Net, via: Ip, device: Device): void {
  if (!device.up) refuse('ENETDOWN');
  if (familyOf(via) === 4) {
    if (isLocal(net, via) || !net.hadIpv4 || contains(multicast(4), via)) refuse('EINVAL');
    return;
  }
  if (isLinkLocal(via)) return;
  if (isLocal(net, via)) refuse('EINVAL');
  const found = lookup(net, via, ({ table }) => table === MAIN_TABLE);
  const by = forwardsBy(found);
  if (found !== undefined && lengthOf(found.destination) > 0 && by !== undefined && by !== device) refuse('EINVAL');
}

/** The device an IPv6 route sends by; what it holds of the loopback device's it drops (fib6_is_reject). */
const forwardsBy = (route: HeldRoute | undefined): Device | undefined =>
  route?.type === 'unicast' && route.device?.name !== 'lo' ? route.device : undefined;

/** The longest prefix that holds the address and passes, lowest metric first. */
function lookup(net: Net, ip: Ip, passes: (route: HeldRoute) => boolean): HeldRoute | undefined {
  const found = net.routes.filter(
    (route) => route.table === MAIN_TABLE && contains(route.destination, ip) && passes(route),
  );
  return found.sort((a, b) => lengthOf(b.destination) - lengthOf(a.destination) || a.metric - b.metric)[0];
}

/** Equivalent to: ip route delete …: the first that has everything the request states. */
export function deleteRoute(net: Net, route: Route): void {
  const device = route.device === undefined ? undefined : deviceNamed(net, route.device);
  const matches = familyOf(route.destination) === 6 ? matches6 : matches4;
  const at = net.routes.findIndex(
    (held) =>
      held.destination === networkOf(route.destination) &&
      held.table === (route.table ?? MAIN_TABLE) &&
      (device === undefined || held.device === device) &&
      agrees(held, route, ['via', 'metric', 'protocol']) &&
      matches(held, route),
  );
  if (at < 0) refuse(findsNullEntry(net, route) ? 'ENOENT' : 'ESRCH');
  net.routes.splice(at, 1);
}

/** An IPv6 table without a default route has an entry in its place that can be found but not deleted (fib6_null_entry). */
const findsNullEntry = (net: Net, route: Route): boolean =>
  route.destination === defaultPrefix(6) &&
  (route.table ?? MAIN_TABLE) === MAIN_TABLE &&
  !(route.device || route.via || route.metric || route.protocol) &&
  !net.routes.some(({ table, destination }) => table === MAIN_TABLE && destination === route.destination);

const matches4 = (held: HeldRoute, route: Route): boolean =>
  agrees(held, route, ['source', 'mtu', 'advmss']) &&
  (route.scope === undefined || scopeNumber(held.scope) === scopeNumber(route.scope)) &&
  (route.type !== 'blackhole' || held.type === 'blackhole');

const matches6 = (): boolean => true;

/** Whether every field that the request states is so; 0 states nothing. */
const agrees = (held: HeldRoute, route: Route, fields: readonly (keyof Route & keyof HeldRoute)[]): boolean =>
  fields.every((field) => !route[field] || held[field] === route[field]);

/** Equivalent to: ip route get ADDRESS */
export function routeTo(net: Net, address: Ip): Route {
  const destination = hostPrefix(address);
  if (isLocal(net, address))
    return { destination, device: 'lo', source: address, ...(familyOf(address) === 6 && { metric: 0 }) };
  const route = lookup(net, address, () => true) ?? refuse('ENETUNREACH', address);
  if (route.type === 'blackhole' || route.device === undefined) return refuse('EINVAL', address);
  const source = route.source ?? sourceFor(net, route.device, route.via ?? address);
  return {
    destination,
    device: route.device.name,
    ...(route.via !== undefined && { via: route.via }),
    ...(source !== undefined && { source }),
    ...(familyOf(address) === 6 && route.metric !== METRIC6 && { metric: route.metric }),
    ...(route.mtu !== undefined && { mtu: route.mtu }),
    ...(route.advmss !== undefined && { advmss: route.advmss }),
  };
}

/** An address of the next hop's subnet, else of the device, else of any. */
function sourceFor(net: Net, device: Device, hop: Ip): Ip | undefined {
  const usable = net.addresses.filter(
    ({ address, scope }) =>
      familyOf(address) === familyOf(hop) && scope !== 'host' && (scope !== 'link' || isLinkLocal(hop)),
  );
  const own = usable.filter((address) => address.device === device);
  const best = own.find(({ address }) => contains(address, hop)) ?? own[0] ?? usable[0];
  return best === undefined ? undefined : addressOf(best.address);
}

/** The device's routes of a family are gone. */
export function flushRoutes(device: Device, family: 4 | 6): void {
  const { net } = device;
  net.routes = net.routes.filter((route) => route.device !== device || !is(family)(route.destination));
}

/** The route as it is read. */
export function readRoute(held: HeldRoute): Route {
  const metric = held.metric === (familyOf(held.destination) === 6 ? METRIC6 : 0) ? undefined : held.metric;
  const { destination, table, device, via, type, onlink, source, scope, protocol, mtu, advmss } = held;
  return {
    destination,
    table,
    type,
    onlink,
    scope,
    protocol,
    ...(device !== undefined && { device: device.name }),
    ...(via !== undefined && { via }),
    ...(source !== undefined && { source }),
    ...(metric !== undefined && { metric }),
    ...(mtu !== undefined && { mtu }),
    ...(advmss !== undefined && { advmss }),
  };
}
