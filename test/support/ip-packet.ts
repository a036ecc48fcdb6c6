// IP packets as bytes, with right checksums: what a test puts into a tunnel.

import { familyOf, type Ip, toBytes } from '../../model/ip.ts';

const TCP = 6;
const UDP = 17;

export interface Packet {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: number;
  readonly payload: Buffer;
  readonly ttl?: number;
  /** IPv4's flags and fragment offset. */
  readonly fragment?: number;
}

/** The internet checksum (RFC 1071). */
function checksum(...parts: readonly Uint8Array[]): number {
  const bytes = Buffer.concat([...parts, Buffer.alloc(1)]);
  let sum = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function ipPacket({ source, destination, protocol, payload, ttl = 64, fragment = 0x4000 }: Packet): Buffer {
  if (familyOf(source) === 6) {
    const header = Buffer.from([0x60, 0, 0, 0, 0, 0, protocol, ttl, ...toBytes(source), ...toBytes(destination)]);
    header.writeUInt16BE(payload.length, 4);
    return Buffer.concat([header, payload]);
  }
  const addresses = [...toBytes(source), ...toBytes(destination)];
  const header = Buffer.from([0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0, ...addresses]);
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(fragment, 6);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

function pseudoHeader(source: Ip, destination: Ip, protocol: number, length: number): Buffer {
  return Buffer.from([...toBytes(source), ...toBytes(destination), 0, protocol, length >> 8, length & 0xff]);
}

export interface UdpOptions {
  readonly port: number;
  readonly data: Buffer;
  readonly ttl?: number;
}

export function udpPacket(source: Ip, destination: Ip, { port, data, ttl = 64 }: UdpOptions): Buffer {
  const payload = Buffer.concat([Buffer.alloc(8), data]);
  payload.writeUInt16BE(port, 0);
  payload.writeUInt16BE(port, 2);
  payload.writeUInt16BE(payload.length, 4);
  payload.writeUInt16BE(checksum(pseudoHeader(source, destination, UDP, payload.length), payload) || 0xffff, 6);
  return ipPacket({ source, destination, protocol: UDP, payload, ttl });
}

export interface TcpOptions {
  readonly sequence: number;
  readonly data: Buffer;
  /** ACK by default. */
  readonly flags?: number;
}

export function tcpPacket(source: Ip, destination: Ip, { sequence, data, flags = 0x10 }: TcpOptions): Buffer {
  const payload = Buffer.concat([Buffer.alloc(20), data]);
  payload.writeUInt32BE(0x1f901f90, 0);
  payload.writeUInt32BE(sequence >>> 0, 4);
  payload.writeUInt16BE(0x5000 | flags, 12);
  payload.writeUInt16BE(0xffff, 14);
  payload.writeUInt16BE(checksum(pseudoHeader(source, destination, TCP, payload.length), payload), 16);
  return ipPacket({ source, destination, protocol: TCP, payload });
}

/** Whether bytes are exactly one IPv4 packet with TCP in it, all lengths and checksums right. */
export function isWholeTcp(packet: Buffer): boolean {
  const header = packet.subarray(0, 20);
  const tcp = packet.subarray(20);
  const plain =
    packet.length >= 40 && packet[0] === 0x45 && packet[9] === TCP && packet.readUInt16BE(2) === packet.length;
  if (!plain || checksum(header) !== 0) return false;
  const pseudo = Buffer.from([...packet.subarray(12, 20), 0, TCP, tcp.length >> 8, tcp.length & 0xff]);
  return checksum(pseudo, tcp) === 0;
}

const ICMPV6 = 58;
/** The most that a packet of neighbour discovery has: it has come over no router (RFC 4861, 6.1 and 7.1). */
const ON_LINK = 255;

/** `body`: the whole message, its checksum 0. */
export function icmp6Packet(source: Ip, destination: Ip, body: Buffer): Buffer {
  const payload = Buffer.from(body);
  payload.writeUInt16BE(checksum(pseudoHeader(source, destination, ICMPV6, payload.length), payload), 2);
  return ipPacket({ source, destination, protocol: ICMPV6, payload, ttl: ON_LINK });
}

/** Protocol numbers of IPv6's extension headers (RFC 8200, 4). */
const [FRAGMENT, DESTINATION_OPTIONS] = [44, 60];
/** Bytes of data in an option of a type that nobody knows and everybody passes over, and how many of them a header has. */
const [OPTION, OPTIONS] = [244, 5];

/** The packet with so many options that of its payload no more than 8 bytes are in the first of two fragments of usual length. */
export function inFragments(packet: Buffer): [Buffer, Buffer] {
  const [header, payload, protocol] = [packet.subarray(0, 40), packet.subarray(40), packet[6] as number];
  const option = Buffer.concat([Uint8Array.of(0x1e, OPTION), Buffer.alloc(OPTION)]);
  const options = Buffer.concat([Buffer.alloc(2), ...Array<Buffer>(OPTIONS).fill(option)]);
  options.set([protocol, options.length / 8 - 1]);
  const part = (from: number, bytes: Buffer, more: number): Buffer => {
    const own = Buffer.concat([header, Buffer.from([DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0x12, 0x34]), bytes]);
    own.writeUInt16BE(8 + bytes.length, 4);
    own[6] = FRAGMENT;
    own.writeUInt16BE(from | more, 42);
    return own;
  };
  const first = Buffer.concat([options, payload.subarray(0, 8)]);
  return [part(0, first, 1), part(first.length, payload.subarray(8), 0)];
}
