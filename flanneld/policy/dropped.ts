// A packet that was dropped and logged, as the flow that it belongs to: headers read (RFC 791, RFC 8200), what answers turned
// round. Pure.

import { fromBytes, type Ip } from '../../model/ip.ts';
import { type Direction, PROTOCOLS, type Protocol } from './objects.ts';
import { deniedChain, replyChain } from './profile.ts';

export interface DroppedPacket {
  /** Of the policies that don't allow it. */
  readonly direction: Direction;
  /** Whether it answers: then it was sent by `to`. */
  readonly isReply: boolean;
  /** Who began the flow, and with whom. */
  readonly from: Ip;
  readonly to: Ip;
  /** A name that policies know, or the number of IP's protocol. */
  readonly protocol: Protocol | number;
  /** That the flow goes to; undefined for protocols without ports, and for later fragments. */
  readonly port: number | undefined;
}

/** Undefined for what is no such packet. `prefix`: the chain's name, as the rule logs it. */
export function readDropped(prefix: string, packet: Buffer): DroppedPacket | undefined {
  const chain = (['ingress', 'egress'] as const).flatMap((direction) => {
    const name = deniedChain(direction);
    return prefix === name || prefix === replyChain(name) ? [{ direction, isReply: prefix !== name }] : [];
  })[0];
  const head = chain && readHead(packet);
  if (head === undefined) return undefined;
  const { direction, isReply } = chain as NonNullable<typeof chain>;
  const [from, to] = isReply ? [head.destination, head.source] : [head.source, head.destination];
  const known = (Object.keys(PROTOCOLS) as Protocol[]).find((name) => PROTOCOLS[name] === head.protocol);
  const ports = known === undefined ? undefined : head.payload;
  const at = isReply ? 0 : 2;
  const port = ports !== undefined && ports.length >= at + 2 ? ports.readUInt16BE(at) : undefined;
  return { direction, isReply, from, to, protocol: known ?? head.protocol, port };
}

interface Head {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: number;
  /** Undefined for a fragment that isn't the first. */
  readonly payload: Buffer | undefined;
}

function readHead(packet: Buffer): Head | undefined {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4 && packet.length >= 20) {
    const isFirst = (packet.readUInt16BE(6) & 0x1fff) === 0;
    return {
      source: fromBytes(packet.subarray(12, 16)),
      destination: fromBytes(packet.subarray(16, 20)),
      protocol: packet[9] as number,
      payload: isFirst ? packet.subarray(((packet[0] as number) & 15) * 4) : undefined,
    };
  }
  if (version !== 6 || packet.length < 40) return undefined;
  return {
    source: fromBytes(packet.subarray(8, 24)),
    destination: fromBytes(packet.subarray(24, 40)),
    ...behindExtensions(packet),
  };
}

/** Hop-by-hop options, routing and destination options have a length of eight bytes and as many more as they say. */
const OPTIONS = [0, 43, 60];
const FRAGMENT = 44;

function behindExtensions(packet: Buffer): Pick<Head, 'protocol' | 'payload'> {
  let protocol = packet[6] as number;
  let at = 40;
  let isFirst = true;
  while (at + 8 <= packet.length && (OPTIONS.includes(protocol) || protocol === FRAGMENT)) {
    if (protocol === FRAGMENT) isFirst = (packet.readUInt16BE(at + 2) & 0xfff8) === 0;
    const length = protocol === FRAGMENT ? 8 : 8 + (packet[at + 1] as number) * 8;
    protocol = packet[at] as number;
    at += length;
  }
  return { protocol, payload: isFirst ? packet.subarray(at) : undefined };
}
