// The messages between the agent and udp-proxy, as udp-proxy.c describes them. Pure.

import { addressOf, familyOf, type Ip, lengthOf, type Prefix, toBytes } from '../../model/ip.ts';

/** Packets for a network go to a peer. */
export interface ProxyRoute {
  readonly network: Prefix;
  readonly nextHop: Ip;
}

const MESSAGE_BYTES = 40;
const TYPES = { set: 1, begin: 3, commit: 4, count: 5 } as const;

/** In the order of an answer: udp-proxy/common.h. */
export const COUNTERS = [
  'sentPackets',
  'sentBytes',
  'deliveredPackets',
  'deliveredBytes',
  'outMalformed',
  'outNoRoute',
  'outTtl',
  'outFailed',
  'inNotAPeer',
  'inMalformed',
  'inTtl',
  'inFailed',
  'icmpSent',
  'icmpLimited',
  'routes',
  'routesRefused',
] as const;

export type ProxyCounters = Readonly<Record<(typeof COUNTERS)[number], number>>;
export const ANSWER_BYTES = COUNTERS.length * 8;

function message(type: keyof typeof TYPES): Buffer {
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  bytes[0] = TYPES[type];
  return bytes;
}

/** Asks for the counters. */
export const COUNT: Buffer = message('count');

/** Puts these routes in the place of all others, between two packets. */
export const replaceRoutes = (routes: readonly ProxyRoute[], port: number): Buffer =>
  Buffer.concat([message('begin'), ...routes.map((route) => setting(route, port)), message('commit')]);

function setting({ network, nextHop }: ProxyRoute, port: number): Buffer {
  const bytes = message('set');
  bytes[1] = lengthOf(network) + (familyOf(network) === 4 ? 96 : 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(wide(addressOf(network)), 8);
  bytes.set(wide(nextHop), 24);
  return bytes;
}

/** An address as 16 bytes: IPv4 as ::ffff:a.b.c.d. */
function wide(address: Ip): Uint8Array {
  const bytes = toBytes(address);
  return bytes.length === 16 ? bytes : Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes);
}

/** What an answer says. */
export const readCounters = (answer: Buffer): ProxyCounters =>
  Object.fromEntries(
    COUNTERS.map((name, index) => [name, Number(answer.readBigUInt64BE(index * 8))]),
  ) as unknown as ProxyCounters;
