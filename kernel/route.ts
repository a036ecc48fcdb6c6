// Routes as rtnetlink messages: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE (linux/rtnetlink.h).

import type { StreamData } from 'netlink/dist/structs.js';
import { formatRoute, type RouteScope as WireScope } from 'netlink/dist/rt/gen_structs.js';
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
import { eachAttribute, hasAttribute, u32 } from './attributes.ts';
import type { IndexOf, NameOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';
import { AF, familyOfAf, SCOPES, scopeName, scopeNumber } from './wire.ts';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const HEADER = 12;
/** linux/rtnetlink.h: RTA_*, RTAX_*, RTN_* */
const RTA = { dst: 1, oif: 4, gateway: 5, priority: 6, prefsrc: 7, metrics: 8, table: 15 } as const;
const RTAX = { mtu: 2, advmss: 8 } as const;
const RTN = { unspec: 0, unicast: 1, blackhole: 6 } as const;
/** RTPROT_BOOT: what `ip route add` says of a route whose protocol isn't given. */
const BOOT = 3;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;
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
  const { destination, via, device } = route;
  const attributes = attributesFor(route, device === undefined ? undefined : indexOf(device));
  const kind = type === RTM_DELROUTE ? RTN.unspec : RTN.unicast;
  return {
    type,
    flags,
    attempt: `${verb} ${destination}${via ? ` via ${via}` : ''}${device ? ` dev ${device}` : ''}`,
    subject: destination,
    write(out) {
      out.emit(
        formatRoute({
          family: AF[familyOf(destination)],
          dstLen: lengthOf(destination),
          table: 0,
          protocol: route.protocol ?? (type === RTM_DELROUTE ? 0 : BOOT),
          scope: scope as WireScope,
          type: route.type === 'blackhole' ? RTN.blackhole : kind,
          ...(route.onlink && { flags: { __unknown: RTNH_F_ONLINK } }),
        }),
      );
      for (const [key, value] of attributes) out.push(key, value);
    },
  };
}

type Attribute = readonly [type: number, value: StreamData];

function attributesFor(route: Route, oif: number | undefined): Attribute[] {
  const { destination, via, source, metric } = route;
  const metrics = metricsOf(route);
  return [
    [RTA.table, u32(route.table ?? MAIN_TABLE)],
    ...(lengthOf(destination) > 0 ? [[RTA.dst, toBytes(addressOf(destination))] as const] : []),
    ...(oif === undefined ? [] : [[RTA.oif, u32(oif)] as const]),
    ...(via === undefined ? [] : [[RTA.gateway, toBytes(via)] as const]),
    ...(source === undefined ? [] : [[RTA.prefsrc, toBytes(source)] as const]),
    ...(metric === undefined ? [] : [[RTA.priority, u32(metric)] as const]),
    ...(metrics === undefined ? [] : [[RTA.metrics, metrics] as const]),
  ];
}

function metricsOf({ mtu, advmss }: Route): StreamData | undefined {
  if (mtu === undefined && advmss === undefined) return undefined;
  return (out) => {
    if (mtu !== undefined) out.push(RTAX.mtu, u32(mtu));
    if (advmss !== undefined) out.push(RTAX.advmss, u32(advmss));
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
      out.push(RTA.table, u32(MAIN_TABLE));
      if (index !== undefined) out.push(RTA.oif, u32(index));
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
      out.push(RTA.dst, toBytes(address));
    },
  };
}

/** Whether the protocol made the route, and gave it a gateway: told without reading all of it. */
export const isGatewayOf = ({ data }: Reply, protocol: number): boolean =>
  data[5] === protocol && hasAttribute(data, HEADER, RTA.gateway);

/**
 * A route as the kernel describes it (struct rtmsg and attributes); undefined for what isn't plain forwarding (local,
 * broadcast, multicast, cached).
 */
export function readRoute({ data }: Reply, nameOf: NameOf): Route | undefined {
  const family = familyOfAf(data.readUInt8(0));
  const type = data.readUInt8(7);
  const flags = data.readUInt32LE(8);
  if (family === undefined || (flags & RTM_F_CLONED) !== 0) return undefined;
  if (type !== RTN.unicast && type !== RTN.blackhole) return undefined;
  const { destination, table = data.readUInt8(4), ...way } = attributesIn(data, family, nameOf);
  return {
    destination: destination === undefined ? defaultPrefix(family) : withLength(destination, data.readUInt8(1)),
    ...way,
    type: type === RTN.blackhole ? 'blackhole' : 'unicast',
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    table,
    protocol: data.readUInt8(5),
    scope: scopeName(data.readUInt8(6)),
  };
}

interface Way {
  destination?: Ip;
  table?: number;
  device?: string | undefined;
  via?: Ip;
  source?: Ip;
  metric?: number;
  mtu?: number;
  advmss?: number;
}

/** What the attributes say; what they don't say is absent. */
function attributesIn(data: Buffer, family: Family, nameOf: NameOf): Way {
  const way: Way = {};
  eachAttribute(data, HEADER, (type, at, length) => {
    switch (type) {
      case RTA.dst:
        way.destination = fromBytes(data, at, length);
        break;
      case RTA.oif:
        way.device = nameOf(data.readUInt32LE(at));
        break;
      case RTA.gateway:
        way.via = fromBytes(data, at, length);
        break;
      case RTA.priority:
        if (family === 4 || data.readUInt32LE(at) !== DEFAULT_METRIC6) way.metric = data.readUInt32LE(at);
        break;
      case RTA.prefsrc:
        way.source = fromBytes(data, at, length);
        break;
      case RTA.metrics:
        readMetrics(data.subarray(at, at + length), way);
        break;
      case RTA.table:
        way.table = data.readUInt32LE(at);
        break;
    }
  });
  return way;
}

function readMetrics(data: Buffer, way: Way): void {
  eachAttribute(data, 0, (type, at) => {
    if (type === RTAX.mtu) way.mtu = data.readUInt32LE(at);
    if (type === RTAX.advmss) way.advmss = data.readUInt32LE(at);
  });
}

/** The answer to {@link getRoute} as a route to the host. */
export function readRouteTo(reply: Reply, address: Ip, nameOf: NameOf): Route {
  const { destination: _, table: __, ...way } = attributesIn(reply.data, familyOf(address), nameOf);
  return { ...way, destination: hostPrefix(address) };
}
