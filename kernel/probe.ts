// ICMP and ICMPv6 echoes (RFC 792, RFC 4443) of exact size, which are never fragmented by this host, whatever path MTU it
// has learned: only so do they show what a path carries. Equivalent to: ping -M probe -s SIZE

import { createHmac, randomBytes, randomInt } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import rawSocket from 'raw-socket';
import { asNetError, hasErrno, NetError } from '../model/errors.ts';
import type { Family, Ip } from '../model/ip.ts';
import { ioctl } from './ffi.ts';

export interface EchoSocket {
  /**
   * Sends an echo request. One that this host refuses to send (no route, larger than the device's MTU) is as good as
   * lost. @param sequence 0 to 65535 @param bytes of the whole packet with its IP header
   */
  send(to: Ip, sequence: number, bytes: number): void;
  close(): void;
}

export interface EchoListeners {
  /**
   * An answer to one of ours. Not from whom: an address that is also an anycast address of its host (the first of an IPv6
   * subnet) answers from another (RFC 4443, 2.2).
   */
  readonly onReply: (sequence: number) => void;
  /** The socket is of no use any more. */
  readonly onFailure: (error: NetError) => void;
}

export type OpenEchoes = (family: Family, listeners: EchoListeners) => EchoSocket;

/** Type, code, checksum, identifier, sequence; then what tells our own answers from forged ones. */
const HEADER_BYTES = 8;
const COOKIE_BYTES = 8;
/** Of an answer only the beginning is read: the largest IPv4 header, ours, and the cookie. */
const READ_BYTES = 60 + HEADER_BYTES + COOKIE_BYTES;

/** Smallest packet that can be sent, with its IP header. */
export const LEAST_ECHO: Readonly<Record<Family, number>> = {
  4: 20 + HEADER_BYTES + COOKIE_BYTES,
  6: 40 + HEADER_BYTES + COOKIE_BYTES,
};

const KINDS = {
  4: { address: 'IPv4', protocol: 'ICMP', request: 8, reply: 0, header: 20 },
  6: { address: 'IPv6', protocol: 'ICMPv6', request: 128, reply: 129, header: 40 },
} as const;

/** Levels and options of linux/in.h, linux/in6.h, linux/icmp.h and linux/icmpv6.h. */
const SOL_IP = 0;
const IP_MTU_DISCOVER = 10;
const SOL_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
const IPV6_DONTFRAG = 62;
/** IP_PMTUDISC_PROBE: don't fragment, and don't believe what was learned of the path. */
const PMTUDISC_PROBE = 3;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const SOL_ICMPV6 = 58;
const ICMPV6_FILTER = 1;
/** asm-generic/ioctls.h */
const FIOCLEX = 0x5451;
const DESCRIPTORS = '/proc/self/fd';

/** Opens a raw socket in the namespace of this process. @throws NetError kernel (not root, no IPv6) */
export const openEchoes: OpenEchoes = (family, { onReply, onFailure }) => {
  const kind = KINDS[family];
  const identifier = randomInt(0x1_0000);
  const secret = randomBytes(32);
  // Only who was sent an echo can answer it.
  const cookieOf = (sequence: number) =>
    createHmac('sha256', secret).update(String(sequence)).digest().subarray(0, COOKIE_BYTES);
  const failure = (attempt: string, cause: unknown) =>
    new NetError('kernel', `${attempt} ${kind.protocol} socket: ${asNetError(cause).message}`, { cause });
  let socket: ReturnType<typeof rawSocket.createSocket>;
  try {
    socket = keptFromChildren(() =>
      rawSocket.createSocket({
        addressFamily: rawSocket.AddressFamily[kind.address],
        protocol: rawSocket.Protocol[kind.protocol],
        bufferSize: READ_BYTES,
      }),
    );
    neverFragment(socket, family);
    onlyReplies(socket, family, kind.reply);
  } catch (cause) {
    throw failure('open', cause);
  }
  socket.on('message', (packet) => {
    const at = family === 4 ? ((packet[0] ?? 0) & 0x0f) * 4 : 0;
    if (packet[at] !== kind.reply || packet.length < at + HEADER_BYTES + COOKIE_BYTES) return;
    // The identifier may come back as masquerading made it, from an address that its table doesn't know the answer by.
    const sequence = packet.readUInt16BE(at + 6);
    const cookie = packet.subarray(at + HEADER_BYTES, at + HEADER_BYTES + COOKIE_BYTES);
    if (cookie.equals(cookieOf(sequence))) onReply(sequence);
  });
  socket.on('error', (cause) => onFailure(failure('receive from', cause)));
  return {
    send(to, sequence, bytes) {
      const packet = Buffer.alloc(Math.max(bytes, LEAST_ECHO[family]) - kind.header);
      packet[0] = kind.request;
      packet.writeUInt16BE(identifier, 4);
      packet.writeUInt16BE(sequence, 6);
      packet.set(cookieOf(sequence), HEADER_BYTES);
      // The kernel does it for ICMPv6 (RFC 3542, 3.1).
      if (family === 4) rawSocket.writeChecksum(packet, 2, rawSocket.createChecksum(packet));
      socket.send(packet, 0, packet.length, to, () => undefined);
    },
    close: () => void socket.close(),
  };
};

/** The module doesn't ask for SOCK_CLOEXEC, and hides the descriptor: it is the one that leads to a socket only afterwards. */
function keptFromChildren<T>(open: () => T): T {
  const before = sockets();
  const opened = open();
  for (const [fd, link] of sockets()) if (before.get(fd) !== link) ioctl(fd, FIOCLEX);
  return opened;
}

/** Descriptors of this process that are sockets, and which. */
function sockets(): Map<number, string> {
  const links = readdirSync(DESCRIPTORS).flatMap((fd): [number, string][] => {
    try {
      return [[Number(fd), readlinkSync(`${DESCRIPTORS}/${fd}`)]];
    } catch (error) {
      // The one that the listing took.
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    }
  });
  return new Map(links.filter(([, link]) => link.startsWith('socket:')));
}

type Socket = ReturnType<typeof rawSocket.createSocket>;

function neverFragment(socket: Socket, family: Family): void {
  if (family === 4) {
    socket.setOption(SOL_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
  } else {
    socket.setOption(SOL_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
    socket.setOption(SOL_IPV6, IPV6_DONTFRAG, 1);
  }
}

/** A filter has a bit for each type that is kept from us. */
function onlyReplies(socket: Socket, family: Family, reply: number): void {
  const filter = Buffer.alloc(family === 4 ? 4 : 32, 0xff);
  const word = (reply >>> 5) * 4;
  const mask = ~(1 << (reply & 31)) >>> 0;
  // In the byte order of the machine, which is the one of both that Node runs on.
  filter.writeUInt32LE(mask, word);
  socket.setOption(
    family === 4 ? SOL_RAW : SOL_ICMPV6,
    family === 4 ? ICMP_FILTER : ICMPV6_FILTER,
    filter,
    filter.length,
  );
}
