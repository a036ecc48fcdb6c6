// The kernel's notifications of the namespace the process lives in, over two sockets of our own that are looked at many
// times a second. Node can't wait for a descriptor it didn't make, and the netlink package's socket, which can, aborts the
// process when the kernel reports an overrun (libuv's status for POLLERR becomes a null string in its binding.cc).

import { u32 } from './attributes.ts';
import { type DeviceNames, networkChanges, ruleChanges } from './changes.ts';
import { bind, close, recvNow, setsockopt, socket } from './ffi.ts';
import type { Change } from './kernel.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
/** linux/rtnetlink.h, RTNLGRP_*: links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes. */
const NETWORK_GROUPS = [1, 3, 5, 7, 9, 11];
/** linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES */
const RULE_GROUPS = [7];

/** Between two looks. Each costs two system calls when nothing has happened. */
const LOOK_MS = 50;
/** What the kernel keeps between two looks; what is more is an overrun. */
const QUEUE_BYTES = 1 << 22;
/** No notification is larger: those of nftables are packed into pages. */
const DATAGRAM_BYTES = 1 << 16;
/** The rest waits for the next look, so that a storm doesn't stop everything else. */
const MOST_DATAGRAMS = 1000;

/** Tells of changes until the returned function is called. `names`: devices by index, read after listening has begun. */
export function watchKernel(names: () => DeviceNames, onChange: (change: Change) => void): () => void {
  const network = listenTo(NETLINK_ROUTE, NETWORK_GROUPS);
  const rules = listenTo(NETLINK_NETFILTER, RULE_GROUPS);
  const known = names();
  const buffer = Buffer.alloc(DATAGRAM_BYTES);
  return lookAt([network, rules], () => {
    for (const change of drain(network, buffer, (datagram) => networkChanges(datagram, known))) onChange(change);
    for (const change of drain(rules, buffer, ruleChanges)) onChange(change);
  });
}

/** Looks at sockets many times a second, until the returned function is called, which closes them. */
export function lookAt(sockets: readonly number[], look: () => void): () => void {
  const timer = setInterval(look, LOOK_MS).unref();
  let open = true;
  return () => {
    if (!open) return;
    open = false;
    clearInterval(timer);
    for (const fd of sockets) close(fd);
  };
}

/** A socket that is told of what happens in the namespace the thread is in. @throws NetError kernel */
export function listenTo(protocol: number, groups: readonly number[]): number {
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  bind(fd, Uint8Array.of(AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, u32(QUEUE_BYTES));
  for (const group of groups) setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, u32(group));
  return fd;
}

/** The changes that wait in a socket's queue, at most so many. */
function drain(fd: number, buffer: Buffer, read: (datagram: Buffer) => readonly Change[]): Change[] {
  const changes: Change[] = [];
  for (const datagram of waiting(fd, buffer, MOST_DATAGRAMS)) {
    if (datagram === 'lost') return [...changes, { type: 'overrun' }];
    changes.push(...read(datagram));
  }
  return changes;
}

/** The datagrams that wait in a socket's queue, at most so many, each in the buffer until the next. ENOBUFS: some are lost. */
export function* waiting(fd: number, buffer: Buffer, most: number): Generator<Buffer | 'lost'> {
  for (let count = 0; count < most; count++) {
    const length = receive(fd, buffer);
    if (length === undefined) return;
    yield length === 'lost' ? length : buffer.subarray(0, length);
  }
}

/** The length of the next datagram; undefined when none waits. ENOBUFS: more came than the queue holds. */
export function receive(fd: number, buffer: Buffer): number | 'lost' | undefined {
  try {
    return recvNow(fd, buffer);
  } catch {
    return 'lost';
  }
}
