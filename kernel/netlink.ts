// Requests to the kernel over a netlink socket of our own: rtnetlink answers inside the send, so a request is a synchronous
// round trip of 3–5 µs. Many messages travel in one datagram; only the last asks for an acknowledgement, since the kernel
// reports every failure anyway. Requests are synchronous, so that all sockets share the buffers they are written to and
// answered in.

import { HEADER_LENGTH } from 'netlink/dist/structs.js';
import { NetError } from '../model/errors.ts';
import { aligned, AttributeWriter, attributesOf, type Output, textOf, u32 } from './attributes.ts';
import { bind, close, errnoName, recv, recvAside, send, sendAside, setsockopt, socket } from './ffi.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const CAPPED = 0x100;
const ACK_TLVS = 0x200;
const DUMP_INTR = 0x10;
const NLMSGERR_ATTR_MSG = 1;

export const FLAGS = {
  request: 1,
  ack: 4,
  root: 0x100,
  match: 0x200,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  append: 0x800,
} as const;
const DUMP = FLAGS.root | FLAGS.match;

/** Receive buffer: more than the kernel ever packs into one datagram of a dump (32 KiB). */
const BUFFER_BYTES = 1 << 16;
/** A datagram's payload. Small enough that the answers, should every message fail, fit the socket's queue. */
const BATCH_BYTES = 1 << 15;
const QUEUE_BYTES = 1 << 22;
/** A datagram and the message with which it is full. */
const OUTGOING_BYTES = BATCH_BYTES + (1 << 16);
const TIMEOUT_SECONDS = 10;
const DUMP_TRIES = 10;

export interface Request {
  readonly type: number;
  /** Besides REQUEST and ACK. */
  readonly flags: number;
  /** What the request does, for errors: "delete link veth1". */
  readonly attempt: string;
  readonly subject?: string | undefined;
  write(out: Output): void;
}

export interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

/** A socket to the kernel in one namespace. */
export interface NetlinkSocket {
  /** Sends the requests in order, as few datagrams as possible. Gives, by position, the error of each that failed. */
  batch(requests: readonly Request[]): (NetError | undefined)[];
  /**
   * The same while this thread goes on: for requests that the kernel takes milliseconds for. Until then, the socket is
   * used for nothing else.
   */
  batchAside(requests: readonly Request[]): Promise<(NetError | undefined)[]>;
  /**
   * Sends the requests in one datagram, of which the kernel makes one transaction (nfnetlink's batches): the first is its
   * begin, and the last but one has the flag ACK. @throws NetError kernel, timeout
   */
  transact(requests: readonly Request[]): void;
  /** One request with one answer. @throws NetError kernel, timeout */
  get(request: Request): Reply;
  /** Every object the kernel lists; repeated when the list changed while it was read. @throws NetError kernel, timeout */
  dump(request: Request): Reply[];
  /**
   * The same while this thread goes on, a datagram at a time, and not repeated: for lists that take the kernel long. Until it has
   * ended, the socket is used for nothing else. @throws NetError kernel, timeout
   */
  dumpAside(request: Request): AsyncIterable<Reply[]>;
  close(): void;
}

/** Opens a socket in the namespace the thread is in; it stays there. @throws NetError kernel */
export function openNetlink(protocol = 0): NetlinkSocket {
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  bind(fd, Uint8Array.of(AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const on = u32(1);
  for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
    setsockopt(fd, SOL_NETLINK, option, on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, u32(QUEUE_BYTES));
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, u32(QUEUE_BYTES));
  const timeout = Buffer.alloc(16);
  timeout.writeBigInt64LE(BigInt(TIMEOUT_SECONDS));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
  return conversation(fd);
}

const incoming = Buffer.alloc(BUFFER_BYTES);
const outgoing = Buffer.alloc(OUTGOING_BYTES);
const writer = new AttributeWriter(outgoing);

/** Writes a message (struct nlmsghdr and payload, padded) from a place of {@link outgoing} on, and returns its end. */
function encode(request: Request, flags: number, sequence: number, start: number): number {
  writer.seek(start + HEADER_LENGTH);
  request.write(writer);
  outgoing.writeUInt32LE(writer.end - start, start);
  outgoing.writeUInt16LE(request.type, start + 4);
  outgoing.writeUInt16LE(FLAGS.request | request.flags | flags, start + 6);
  outgoing.writeUInt32LE(sequence, start + 8);
  outgoing.writeUInt32LE(0, start + 12);
  writer.pad();
  return writer.end;
}

function conversation(fd: number): NetlinkSocket {
  let sequence = 0;

  const next = (): number => {
    sequence = (sequence + 1) >>> 0;
    return sequence;
  };

  const sendOne = (request: Request, flags: number): void => {
    send(fd, outgoing.subarray(0, encode(request, flags, next(), 0)));
  };

  /** As many requests as fit one datagram, the last with ACK. The datagram is a view of {@link outgoing}. */
  function pack(requests: readonly Request[], start: number): { datagram: Buffer; taken: number } {
    let end = 0;
    let last = 0;
    let at = start;
    for (; at < requests.length && end < BATCH_BYTES; at++) {
      last = end;
      end = encode(requests[at] as Request, 0, next(), end);
    }
    outgoing.writeUInt16LE(outgoing.readUInt16LE(last + 6) | FLAGS.ack, last + 6);
    return { datagram: outgoing.subarray(0, end), taken: at - start };
  }

  /** Messages of the next datagram; the data is copied, since the buffer is used again. */
  function receive(attempt: string): Generator<Message> {
    const length = receiveInto(fd, incoming, attempt);
    return messagesIn(Buffer.from(incoming.subarray(0, length)), attempt);
  }

  function exchange(requests: readonly Request[], first: number, errors: (NetError | undefined)[]): void {
    const last = sequence;
    for (;;) {
      for (const message of receive(requests[0]?.attempt ?? '')) {
        const index = message.seq - first;
        if (message.type !== NLMSG_ERROR || index < 0 || index >= requests.length) continue;
        errors[index] = errorOf(message.data, message.flags, requests[index] as Request);
        if (message.seq === last) return;
      }
    }
  }

  /** The datagrams one by one; when the next is asked for, the last has been sent, and its answers are read. */
  function* datagrams(requests: readonly Request[], errors: (NetError | undefined)[]): Generator<Buffer> {
    for (let start = 0; start < requests.length; ) {
      const { datagram, taken } = pack(requests, start);
      const part: (NetError | undefined)[] = [];
      const first = sequence - taken + 1;
      yield datagram;
      exchange(requests.slice(start, start + taken), first, part);
      for (let i = 0; i < taken; i++) errors[start + i] = part[i];
      start += taken;
    }
  }

  function batch(requests: readonly Request[]): (NetError | undefined)[] {
    const errors: (NetError | undefined)[] = [];
    for (const datagram of datagrams(requests, errors)) send(fd, datagram);
    return errors;
  }

  async function batchAside(requests: readonly Request[]): Promise<(NetError | undefined)[]> {
    const errors: (NetError | undefined)[] = [];
    for (const datagram of datagrams(requests, errors)) await sendAside(fd, Buffer.from(datagram));
    return errors;
  }

  function transact(requests: readonly Request[]): void {
    const attempt = requests[0]?.attempt ?? '';
    const first = sequence + 1;
    let end = 0;
    for (const request of requests) end = encode(request, 0, next(), end);
    send(fd, outgoing.subarray(0, end));
    let failed: NetError | undefined;
    for (;;) {
      for (const message of receive(attempt)) {
        const index = message.seq - first;
        const request = requests[index];
        if (message.type !== NLMSG_ERROR || request === undefined) continue;
        failed ??= errorOf(message.data, message.flags, request);
        // What fails as a whole is said of its begin, and may be all that is said.
        if (index > 0 && index < requests.length - 2) continue;
        if (failed !== undefined) throw failed;
        return;
      }
    }
  }

  function get(request: Request): Reply {
    sendOne(request, 0);
    for (;;) {
      for (const message of receive(request.attempt)) {
        if (message.seq !== sequence) continue;
        if (message.type !== NLMSG_ERROR) return message;
        throw (
          errorOf(message.data, message.flags, request) ??
          new NetError('kernel', `${request.attempt}: no answer`, { errno: 'ENODATA' })
        );
      }
    }
  }

  function dumpOnce(request: Request): Reply[] | undefined {
    const replies: Reply[] = [];
    let interrupted = false;
    sendOne(request, DUMP);
    for (;;) {
      for (const message of receive(request.attempt)) {
        if (message.seq !== sequence) continue;
        interrupted ||= (message.flags & DUMP_INTR) !== 0;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const error = errorOf(message.data, message.flags, request);
          if (error !== undefined) throw error;
          return interrupted ? undefined : replies;
        }
        replies.push(message);
      }
    }
  }

  function dump(request: Request): Reply[] {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const replies = dumpOnce(request);
      if (replies !== undefined) return replies;
    }
    throw new NetError('busy', `${request.attempt}: changed ${DUMP_TRIES} times while being read`, {
      errno: 'EINTR',
      subject: request.subject,
    });
  }

  async function* dumpAside(request: Request): AsyncGenerator<Reply[]> {
    const { attempt } = request;
    await sendAside(fd, Buffer.from(outgoing.subarray(0, encode(request, DUMP, next(), 0))));
    for (;;) {
      const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
      const length = wholeOf(await recvAside(fd, buffer).catch((error) => unanswered(error, attempt)), attempt);
      const messages = [...messagesIn(buffer.subarray(0, length), attempt)].filter(({ seq }) => seq === sequence);
      const end = messages.find(({ type }) => type === NLMSG_ERROR || type === NLMSG_DONE);
      const error = end && errorOf(end.data, end.flags, request);
      if (error !== undefined) throw error;
      yield messages.filter((message) => message !== end);
      if (end !== undefined) return;
    }
  }

  return { batch, batchAside, transact, get, dump, dumpAside, close: () => close(fd) };
}

interface Message extends Reply {
  readonly flags: number;
  readonly seq: number;
}

/** The messages of a datagram; their data are views of it. */
function* messagesIn(datagram: Buffer, attempt: string): Generator<Message> {
  for (let at = 0; at + HEADER_LENGTH <= datagram.length; ) {
    const size = datagram.readUInt32LE(at);
    if (size < HEADER_LENGTH || at + size > datagram.length)
      throw new NetError('kernel', `${attempt}: malformed answer`, { errno: 'EBADMSG' });
    const [type, flags] = [datagram.readUInt16LE(at + 4), datagram.readUInt16LE(at + 6)];
    yield { type, flags, seq: datagram.readUInt32LE(at + 8), data: datagram.subarray(at + HEADER_LENGTH, at + size) };
    at += aligned(size);
  }
}

function receiveInto(fd: number, buffer: Buffer, attempt: string): number {
  try {
    return wholeOf(recv(fd, buffer), attempt);
  } catch (error) {
    return unanswered(error, attempt);
  }
}

function wholeOf(length: number, attempt: string): number {
  if (length <= BUFFER_BYTES) return length;
  throw new NetError('kernel', `${attempt}: answer of ${length} bytes`, { errno: 'EMSGSIZE' });
}

function unanswered(error: unknown, attempt: string): never {
  if (error instanceof NetError && error.errno === 'EAGAIN') {
    throw new NetError('timeout', `${attempt}: the kernel did not answer within ${TIMEOUT_SECONDS} s`, {
      cause: error,
    });
  }
  throw error;
}

/** The error an NLMSG_ERROR or NLMSG_DONE carries, or undefined for success (netlink(7); ext ack: linux/netlink.h). */
function errorOf(data: Buffer, flags: number, request: Request): NetError | undefined {
  const errno = data.length >= 4 ? -data.readInt32LE(0) : 0;
  if (errno <= 0) return undefined;
  const name = errnoName(errno);
  const reason = (flags & ACK_TLVS) === 0 ? undefined : kernelMessage(data, flags);
  return new NetError('kernel', `${request.attempt}: ${name}${reason === undefined ? '' : ` (${reason})`}`, {
    errno: name,
    subject: request.subject,
  });
}

function kernelMessage(data: Buffer, flags: number): string | undefined {
  const original = (flags & CAPPED) !== 0 ? HEADER_LENGTH : aligned(data.readUInt32LE(4));
  return textOf(attributesOf(data.subarray(4 + original)).get(NLMSGERR_ATTR_MSG));
}
