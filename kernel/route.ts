// Routes as rtnetlink messages: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE (linux/rtnetlink.h).

import {
  formatRoute,
  formatRouteAttrs,
  parseRoute,
  parseRouteAttrs,
  type RouteAttrs,
  RouteProtocol,
  RouteType,
  type RouteScope as WireScope,
} from 'netlink/dist/rt/gen_structs.js';
import { putU32 } from 'netlink/dist/structs.js';
import {
  addressOf,
  bitsOf,
  defaultPrefix,
  type Family,
  familyOf,
  fromBytes,
  hostPrefix,
  type Ip,
  lengthOf,
  toBytes,
  withLength,
} from '../model/ip.ts';
import { MAIN_TABLE, type Route } from '../model/state.ts';
import type { IndexOf, NameOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';
import { AF, familyOfAf, SCOPES, scopeName, scopeNumber } from './wire.ts';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const HEADER = 12;
const RTNH_F_ONLINK = 4;
/** IP6_RT_PRIO_USER: what the kernel gives an IPv6 route without a metric. */
const DEFAULT_METRIC6 = 1024;
/** RT_SCOPE_NOWHERE: in a deletion, any scope. */
const ANY_SCOPE = 255;

/** IPv4 needs it right: a route without a gateway goes to a neighbour on the link (fib_check_nh). */
function scopeOf(route: Route): number {
  if (route.scope !== undefined) return scopeNumber(route.scope);
  return familyOf(route.destination) === 4 && route.via === undefined && route.type !== 'blackhole'
    ? SCOPES.link
    : SCOPES.global;
}

/** Equivalent to: ip route add|replace DESTINATION [via GATEWAY] [dev DEVICE] [onlink] … */
export function addRoute(route: Route, replace: boolean, indexOf: IndexOf): Request {
  const flags = FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);
  return message(RTM_NEWROUTE, flags, replace ? 'replace route' : 'add route', route, scopeOf(route), indexOf);
}

/** Equivalent to: ip route delete DESTINATION … */
export function deleteRoute(route: Route, indexOf: IndexOf): Request {
  const scope = route.scope === undefined ? ANY_SCOPE : scopeNumber(route.scope);
  return message(RTM_DELROUTE, 0, 'delete route', route, scope, indexOf);
}

function message(type: number, flags: number, verb: string, route: Route, scope: number, indexOf: IndexOf): Request {
  const attrs = attributes(route, indexOf);
  const family = familyOf(route.destination);
  return {
    type,
    flags,
    attempt: `${verb} ${route.destination}${route.via ? ` via ${route.via}` : ''}${route.device ? ` dev ${route.device}` : ''}`,
    subject: route.destination,
    write(out) {
      out.emit(
        formatRoute({
          family: AF[family],
          dstLen: lengthOf(route.destination),
          table: 0,
          protocol: route.protocol ?? (type === RTM_DELROUTE ? 0 : RouteProtocol.BOOT),
          scope: scope as WireScope,
          type:
            route.type === 'blackhole'
              ? RouteType.BLACKHOLE
              : type === RTM_DELROUTE
                ? RouteType.UNSPEC
                : RouteType.UNICAST,
          ...(route.onlink && { flags: { __unknown: RTNH_F_ONLINK } }),
        }),
      );
      out.emit(formatRouteAttrs(attrs));
    },
  };
}

function attributes(route: Route, indexOf: IndexOf): RouteAttrs {
  const metrics = {
    ...(route.mtu !== undefined && { mtu: putU32(route.mtu) }),
    ...(route.advmss !== undefined && { advmss: putU32(route.advmss) }),
  };
  return {
    table: route.table ?? MAIN_TABLE,
    ...(lengthOf(route.destination) > 0 && { dst: Buffer.from(toBytes(addressOf(route.destination))) }),
    ...(route.device !== undefined && { oif: indexOf(route.device) }),
    ...(route.via !== undefined && { gateway: Buffer.from(toBytes(route.via)) }),
    ...(route.source !== undefined && { prefsrc: Buffer.from(toBytes(route.source)) }),
    ...(route.metric !== undefined && { priority: route.metric }),
    ...(Object.keys(metrics).length > 0 && { metrics }),
  };
}

/** Equivalent to: ip [-6] route show table main [dev DEVICE] */
export function listRoutes(family: Family, index?: number): Request {
  return {
    type: RTM_GETROUTE,
    flags: 0,
    attempt: `list IPv${family} routes`,
    write(out) {
      out.emit(formatRoute({ family: AF[family] }));
      out.emit(formatRouteAttrs({ table: MAIN_TABLE, ...(index !== undefined && { oif: index }) }));
    },
  };
}

/** Equivalent to: ip route get ADDRESS */
export function getRoute(address: Ip): Request {
  const family = familyOf(address);
  return {
    type: RTM_GETROUTE,
    flags: 0,
    attempt: `find the route to ${address}`,
    subject: address,
    write(out) {
      out.emit(formatRoute({ family: AF[family], dstLen: bitsOf(family) }));
      out.emit(formatRouteAttrs({ dst: Buffer.from(toBytes(address)) }));
    },
  };
}

/** A route as the kernel describes it; undefined for what isn't plain forwarding (local, broadcast, multicast, cached). */
export function readRoute(reply: Reply, nameOf: NameOf): Route | undefined {
  const header = parseRoute(reply.data.subarray(0, HEADER));
  const attrs = parseRouteAttrs(reply.data.subarray(HEADER));
  const family = familyOfAf(header.family);
  if (family === undefined || header.flags?.cloned) return undefined;
  if (header.type !== 'UNICAST' && header.type !== 'BLACKHOLE') return undefined;
  return {
    destination: destinationOf(attrs, header.dstLen ?? 0, family),
    ...forwarding(attrs, family, nameOf),
    ...facts(header, attrs),
  };
}

function destinationOf(attrs: RouteAttrs, length: number, family: Family) {
  return attrs.dst === undefined ? defaultPrefix(family) : withLength(fromBytes(attrs.dst), length);
}

function forwarding(attrs: RouteAttrs, family: Family, nameOf: NameOf): Partial<Route> {
  const metric = family === 6 && attrs.priority === DEFAULT_METRIC6 ? undefined : attrs.priority;
  return {
    ...(attrs.oif !== undefined && { device: nameOf(attrs.oif) }),
    ...(attrs.gateway !== undefined && { via: fromBytes(attrs.gateway) }),
    ...(attrs.prefsrc !== undefined && { source: fromBytes(attrs.prefsrc) }),
    ...(metric !== undefined && { metric }),
    ...(attrs.metrics?.mtu !== undefined && { mtu: attrs.metrics.mtu.readUInt32LE(0) }),
    ...(attrs.metrics?.advmss !== undefined && { advmss: attrs.metrics.advmss.readUInt32LE(0) }),
  };
}

function facts(header: ReturnType<typeof parseRoute>, attrs: RouteAttrs): Partial<Route> {
  return {
    type: header.type === 'BLACKHOLE' ? 'blackhole' : 'unicast',
    onlink: ((header.flags?.__unknown ?? 0) & RTNH_F_ONLINK) !== 0,
    table: attrs.table ?? header.table ?? MAIN_TABLE,
    scope: scopeName(numberOf(WIRE_SCOPES, header.scope)),
    protocol: numberOf(RouteProtocol as unknown as Record<string, number>, header.protocol),
  };
}

const WIRE_SCOPES: Record<string, number> = { UNIVERSE: 0, SITE: 200, LINK: 253, HOST: 254, NOWHERE: 255 };

/** The codec gives a name where it knows one. */
const numberOf = (names: Record<string, number>, value: number | string | undefined): number =>
  typeof value === 'string' ? (names[value] ?? 0) : (value ?? 0);

/** The answer to {@link getRoute} as a route to the host. */
export function readRouteTo(reply: Reply, address: Ip, nameOf: NameOf): Route {
  const attrs = parseRouteAttrs(reply.data.subarray(HEADER));
  return { destination: hostPrefix(address), ...forwarding(attrs, familyOf(address), nameOf) };
}
