// Tells neighbours where an address is: a gratuitous ARP request (RFC 5227, 3: an ARP announcement) or an unsolicited
// neighbour advertisement (RFC 4861, 7.2.6), sent by the host for the pod. From here it costs no entry of a namespace, and
// it does not have to wait until the bridge forwards what the pod's own port sends.

import { formatNeighbor } from 'netlink/dist/rt/gen_structs.js';
import { familyOf, type Ip, type Mac, macBytes, toBytes } from '../model/ip.ts';
import type { Link } from '../model/state.ts';
import { close, sendTo, socket } from './ffi.ts';
import { FLAGS, type NetlinkSocket, type Request } from './netlink.ts';
import { devicesOf } from './read.ts';
import { AF } from './wire.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const RTM_NEWNEIGH = 28;
/** linux/neighbour.h: NDA_* */
const NDA = { destination: 1, linkLayerAddress: 2 } as const;
const ETH_P = { arp: 0x0806, ipv6: 0x86dd } as const;
const BROADCAST = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
/** 33:33:00:00:00:01 and ff02::1. */
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6 = 58;
const ADVERTISEMENT = 136;
/** The first byte of the flags: replaces what is cached. */
const OVERRIDE = 0x20;
const TARGET_LINK_LAYER_ADDRESS = 2;

export interface Announcer {
  /** As the Kernel's. */
  announce(device: Pick<Link, 'name' | 'index'>, mac: Mac, addresses: readonly Ip[]): void;
  close(): void;
}

interface Announcement {
  /** Of the device. */
  readonly index: number;
  readonly frame: Buffer;
}

/** For the namespace of the netlink socket, which the thread is in whenever it announces. */
export function createAnnouncer(netlink: NetlinkSocket): Announcer {
  let fd: number | undefined;
  let unsent: Announcement[] = [];
  // A bridge makes a copy for every port, a microsecond each: nobody needs to wait for that.
  const sendAll = () => {
    const announcements = unsent;
    unsent = [];
    try {
      // Protocol 0: it receives nothing.
      fd ??= socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
      for (const { index, frame } of announcements) sendTo(fd, frame, linkAddress(index, frame));
    } catch {}
  };
  return {
    announce({ name, index = devicesOf(netlink).indexOf(name) }, mac, addresses) {
      if (index === undefined) return;
      netlink.batch(addresses.map((address) => rememberNeighbour(index, mac, address)));
      if (unsent.length === 0) setImmediate(sendAll);
      unsent.push(...addresses.map((address) => ({ index, frame: announcementOf(mac, address) })));
    },
    close() {
      if (unsent.length > 0) sendAll();
      if (fd !== undefined) close(fd);
      fd = undefined;
    },
  };
}

/**
 * The host's own entry, as if it had been told. Its first packet then needs no answer to a question, which in IPv6 nobody
 * hears until a worker of the kernel has joined the address's group (net/ipv6/addrconf.c, addrconf_dad_begin).
 * Equivalent to: ip neighbour replace ADDRESS lladdr MAC nud stale dev DEVICE
 */
function rememberNeighbour(index: number, mac: Mac, address: Ip): Request {
  return {
    type: RTM_NEWNEIGH,
    flags: FLAGS.create | FLAGS.replace,
    attempt: `replace neighbour ${address}`,
    subject: address,
    write(out) {
      out.emit(formatNeighbor({ family: AF[familyOf(address)], ifindex: index, state: { stale: true } }));
      out.push(NDA.destination, Buffer.from(toBytes(address)));
      out.push(NDA.linkLayerAddress, Buffer.from(macBytes(mac)));
    },
  };
}

/** struct sockaddr_ll: family, the frame's protocol, the device. */
function linkAddress(index: number, frame: Buffer): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  frame.copy(address, 2, 12, 14);
  address.writeInt32LE(index, 4);
  return address;
}

/** The Ethernet frame that says that the address is at the MAC. */
export const announcementOf = (mac: Mac, address: Ip): Buffer =>
  familyOf(address) === 4
    ? arpAnnouncement(macBytes(mac), toBytes(address))
    : advertisement(macBytes(mac), toBytes(address));

const uint16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff);

/** A request in which the asker asks for itself. */
function arpAnnouncement(mac: Uint8Array, address: Uint8Array): Buffer {
  const [ethernet, ipv4, request] = [uint16(1), uint16(0x0800), uint16(1)];
  return Buffer.concat([
    ...[BROADCAST, mac, uint16(ETH_P.arp)],
    ...[ethernet, ipv4, Uint8Array.of(6, 4), request],
    ...[mac, address, Buffer.alloc(6), address],
  ]);
}

function advertisement(mac: Uint8Array, address: Uint8Array): Buffer {
  const message = Buffer.concat([
    Uint8Array.of(ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0),
    address,
    Uint8Array.of(TARGET_LINK_LAYER_ADDRESS, 1),
    mac,
  ]);
  const pseudoHeader = Buffer.concat([address, ALL_NODES, Uint8Array.of(0, 0, 0, message.length, 0, 0, 0, ICMPV6)]);
  message.writeUInt16BE(checksum(Buffer.concat([pseudoHeader, message])), 2);
  const header = Buffer.concat([Uint8Array.of(0x60, 0, 0, 0, 0, message.length, ICMPV6, 255), address, ALL_NODES]);
  return Buffer.concat([ALL_NODES_MAC, mac, uint16(ETH_P.ipv6), header, message]);
}

/** RFC 1071, of an even number of bytes. */
export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
