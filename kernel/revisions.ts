// Whether something has changed since it was looked at, in a system call or two: what reading it again would cost more
// than what is done with it. rtnetlink puts its notifications into the queues of listening sockets before the change's own
// request returns, and nftables counts its transactions, so the answer is as fresh as a reading would be.

import { attachFilter, close } from './ffi.ts';
import { linkFilter, MOST_INDEXES } from './link-filter.ts';
import type { NetlinkSocket } from './netlink.ts';
import { listenTo, receive } from './notify.ts';

const NETLINK_ROUTE = 0;
/** linux/rtnetlink.h, RTNLGRP_*: links, IPv4 addresses, IPv6 addresses, and the settings of both families. */
const GROUPS = [1, 5, 9, 24, 25];
const RTM_NEWNETCONF = 80;
const RTM_DELNETCONF = 81;
/** struct nlmsghdr; then ifinfomsg and ifaddrmsg both have the index of the device at byte 4. */
const HEADER = 16;
const INDEX_AT = 4;
/** struct netconfmsg and the first attribute, NETCONFA_IFINDEX, whose value may say "all" and "default". */
const NETCONF_INDEX_AT = 8;
const DATAGRAM_BYTES = 1 << 16;

/** linux/netfilter/nf_tables.h: NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES */
const GETGEN = (10 << 8) | 16;

export interface LinkRevisions {
  /** A number that is another one once the device, its addresses or a setting for all devices may have changed. */
  of(index: number): number;
  close(): void;
}

/** Begins to listen in the namespace the thread is in. @throws NetError kernel */
export function openLinkRevisions(): LinkRevisions {
  const fd = listenTo(NETLINK_ROUTE, GROUPS);
  const buffer = Buffer.alloc(DATAGRAM_BYTES);
  /** Of the devices that were asked for. */
  const changed = new Map<number, number>();
  let all = 0;
  let serial = 0;

  const take = (datagram: Buffer) => {
    serial++;
    for (let at = 0; at + HEADER + INDEX_AT + 4 <= datagram.length; ) {
      const index = deviceIn(datagram, at);
      if (index === 0) all = serial;
      else if (changed.has(index)) changed.set(index, serial);
      at += Math.max(HEADER, (datagram.readUInt32LE(at) + 3) & ~3);
    }
  };
  /** Listens to what is said of the device, too. */
  const heed = (index: number) => {
    if (changed.size === MOST_INDEXES) changed.clear();
    all = ++serial;
    changed.set(index, serial);
    attachFilter(fd, linkFilter([...changed.keys()]));
  };
  return {
    of(index) {
      if (!changed.has(index)) heed(index);
      for (let length = receive(fd, buffer); length !== undefined; length = receive(fd, buffer)) {
        if (length === 'lost') all = ++serial;
        else take(buffer.subarray(0, length));
      }
      return Math.max(all, changed.get(index) ?? 0);
    },
    close: () => close(fd),
  };
}

/** 0 for what concerns all devices. */
function deviceIn(datagram: Buffer, at: number): number {
  const type = datagram.readUInt16LE(at + 4);
  const isSetting = type === RTM_NEWNETCONF || type === RTM_DELNETCONF;
  const place = at + HEADER + (isSetting ? NETCONF_INDEX_AT : INDEX_AT);
  return place + 4 <= datagram.length ? Math.max(0, datagram.readInt32LE(place)) : 0;
}

/** The number of nftables' last transaction in the socket's namespace. @throws NetError kernel */
export function rulesGeneration(socket: NetlinkSocket): number {
  const reply = socket.get({
    type: GETGEN,
    flags: 0,
    attempt: 'read the generation of the nft rules',
    write: (out) => out.emit(Uint8Array.of(0, 0, 0, 0)),
  });
  // struct nfgenmsg, then NFTA_GEN_ID in network order.
  return reply.data.readUInt32BE(8);
}
