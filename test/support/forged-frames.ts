// Ethernet frames that a pod may send, and such that it must not: each with bytes by which whoever gets it tells it from the
// others.

import { type Ip, ip, type Mac, mac, macBytes, toBytes } from '../../model/ip.ts';
import { icmp6Packet, inFragments, udpPacket } from './ip-packet.ts';

export interface Party {
  readonly mac: Mac;
  readonly four: Ip;
  readonly six: Ip;
}

export interface Frame {
  readonly title: string;
  /** Hexadecimal. */
  readonly frame: string;
  /** Hexadecimal digits in it that are in no other. */
  readonly mark: string;
}

const TYPE = { ip: 0x0800, arp: 0x0806, vlan: 0x8100, ip6: 0x86dd, local: 0x88b5 } as const;
const ALL_NODES = { mac: mac('33:33:00:00:00:01'), six: ip('ff02::1') };
const BROADCAST = mac('ff:ff:ff:ff:ff:ff');
/** Of the pods' subnet (policy-host.ts). */
const SUBNET_BROADCAST = ip('10.5.16.255');
/** RFC 4861, 4.1 to 4.5. */
const ND = { routerAdvert: 134, solicit: 135, advert: 136, redirect: 137 } as const;

const uint16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff);
const ethernet = (to: Mac, from: Mac, type: number, ...payload: Uint8Array[]): string =>
  Buffer.concat([macBytes(to), macBytes(from), uint16(type), ...payload]).toString('hex');

let made = 0;
/** 8 bytes. */
const nextMark = (): Buffer => Buffer.from(`<${String(made++).padStart(6, '0')}>`);

/** With a mark as its data. */
function udp(title: string, to: Mac, from: Mac, source: Ip, destination: Ip, type?: number): Frame {
  const data = nextMark();
  const packet = udpPacket(source, destination, { port: 9, data });
  const own = source.includes(':') ? TYPE.ip6 : TYPE.ip;
  const frame =
    type === undefined ? ethernet(to, from, own, packet) : ethernet(to, from, type, uint16(7), uint16(own), packet);
  return { title, frame, mark: data.toString('hex') };
}

/** The opcode's parties are the mark. */
function arp(title: string, from: Mac, sender: Party, target: Party, opcode: number): Frame {
  const body = Buffer.concat([
    ...[uint16(1), uint16(TYPE.ip), Uint8Array.of(6, 4), uint16(opcode), macBytes(sender.mac), toBytes(sender.four)],
    ...[macBytes(target.mac), toBytes(target.four)],
  ]);
  return { title, frame: ethernet(BROADCAST, from, TYPE.arp, body), mark: body.toString('hex') };
}

/**
 * The mark is in an option of neighbour discovery that nobody knows, and so passes over (RFC 4861, 4.6): whole in whatever
 * fragments, which have multiples of 8 bytes.
 */
function discoveryPacket(
  to: Ip,
  source: Ip,
  type: number,
  target: Ip,
): { readonly packet: Buffer; readonly mark: string } {
  const data = nextMark();
  const body = Buffer.concat([
    ...[Uint8Array.of(type, 0, 0, 0, 0x20, 0, 0, 0), toBytes(target), Uint8Array.of(253, 2)],
    ...[Buffer.alloc(6), data],
  ]);
  return { packet: icmp6Packet(source, to, body), mark: data.toString('hex') };
}

function discovery(title: string, from: Mac, source: Ip, type: number, target: Ip): Frame {
  const { packet, mark } = discoveryPacket(ALL_NODES.six, source, type, target);
  return { title, frame: ethernet(ALL_NODES.mac, from, TYPE.ip6, packet), mark };
}

/** In the first fragment is no more than the type, in the second the target and the mark. */
function advertInFragments(title: string, to: Party, from: Party, target: Ip): Frame[] {
  const { packet, mark } = discoveryPacket(to.six, from.six, ND.advert, target);
  return inFragments(packet).map((each) => ({ title, frame: ethernet(to.mac, from.mac, TYPE.ip6, each), mark }));
}

/** What `own` may send to `victim`. */
export const honestFrames = (own: Party, victim: Party, linkLocal: Ip): Frame[] => [
  udp('IPv4', victim.mac, own.mac, own.four, victim.four),
  udp('IPv6', victim.mac, own.mac, own.six, victim.six),
  arp('ARP request', own.mac, own, victim, 1),
  discovery('neighbour solicitation', own.mac, own.six, ND.solicit, victim.six),
  discovery('the same from the link-local address', own.mac, linkLocal, ND.solicit, victim.six),
  discovery('neighbour advertisement', own.mac, own.six, ND.advert, own.six),
  discovery('search for duplicates', own.mac, ip('::'), ND.solicit, own.six),
];

/** What `own` must not send, be it as `other`. */
export const forgedFrames = (own: Party, victim: Party, other: Party, linkLocal: Ip): Frame[] => [
  udp('IPv4 of another', victim.mac, own.mac, other.four, victim.four),
  udp('IPv4 of nobody', victim.mac, own.mac, ip('192.0.2.1'), victim.four),
  udp('IPv4 of nobody yet', victim.mac, own.mac, ip('0.0.0.0'), victim.four),
  udp('IPv4 with the MAC of another', victim.mac, other.mac, own.four, victim.four),
  udp('IPv4 as another altogether', victim.mac, other.mac, other.four, victim.four),
  udp('IPv4 in a VLAN', victim.mac, own.mac, own.four, victim.four, TYPE.vlan),
  udp('IPv4 of another in a VLAN', victim.mac, own.mac, other.four, victim.four, TYPE.vlan),
  udp('IPv4 in another protocol', victim.mac, own.mac, own.four, victim.four, TYPE.local),
  udp('IPv4 to all', BROADCAST, own.mac, own.four, ip('255.255.255.255')),
  udp('IPv4 to all, sent to one', victim.mac, own.mac, own.four, ip('255.255.255.255')),
  udp('IPv4 to a group', victim.mac, own.mac, own.four, ip('224.0.0.1')),
  udp('IPv4 to all of the subnet, sent to one', victim.mac, own.mac, own.four, SUBNET_BROADCAST),
  udp('IPv4 for another, sent to one', victim.mac, own.mac, own.four, other.four),
  udp('IPv6 for another, sent to one', victim.mac, own.mac, own.six, other.six),
  udp('IPv6 of another', victim.mac, own.mac, other.six, victim.six),
  udp('IPv6 of nobody', victim.mac, own.mac, ip('2001:db8::1'), victim.six),
  udp('IPv6 of nobody yet', victim.mac, own.mac, ip('::'), victim.six),
  udp('IPv6 with the MAC of another', victim.mac, other.mac, own.six, victim.six),
  udp('IPv6 from the link-local address', victim.mac, own.mac, linkLocal, victim.six),
  udp('IPv6 to a link-local address', victim.mac, own.mac, own.six, ip('fe80::1234')),
  udp('IPv6 to all', ALL_NODES.mac, own.mac, own.six, ALL_NODES.six),
  arp('ARP for the address of another', own.mac, { ...own, four: other.four }, victim, 2),
  arp('ARP for the MAC of another', own.mac, { ...own, mac: other.mac }, victim, 2),
  arp('ARP in a frame of another', other.mac, own, victim, 2),
  arp('ARP of nobody yet', own.mac, { ...own, four: ip('0.0.0.0') }, victim, 1),
  discovery('neighbour solicitation as another', own.mac, other.six, ND.solicit, victim.six),
  discovery('neighbour advertisement as another', own.mac, other.six, ND.advert, other.six),
  discovery('neighbour advertisement for another', own.mac, own.six, ND.advert, other.six),
  ...advertInFragments('neighbour advertisement for another, in fragments', victim, own, other.six),
  discovery('search for duplicates of another', own.mac, ip('::'), ND.solicit, other.six),
  discovery('router advertisement', own.mac, linkLocal, ND.routerAdvert, own.six),
  discovery('redirect', own.mac, linkLocal, ND.redirect, own.six),
];
