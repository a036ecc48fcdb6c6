// The counters of an nft set's elements: how many packets have found each. Asked of the kernel directly, which takes some
// ten microseconds and no memory of libnftables.

import { hasErrno } from '../model/errors.ts';
import { fromBytes, type Ip } from '../model/ip.ts';
import { attribute, attributesOf, cString } from './attributes.ts';
import { type NetlinkSocket, openNetlink } from './netlink.ts';

const NETLINK_NETFILTER = 12;
/** NFNL_SUBSYS_NFTABLES << 8 with NFT_MSG_GETSETELEM. */
const GET_ELEMENTS = 0xa0d;
const NFPROTO_INET = 1;
/** Bytes of struct nfgenmsg. */
const HEADER = 4;
/** linux/netfilter/nf_tables.h: NFTA_SET_ELEM_LIST_…, NFTA_SET_ELEM_…, NFTA_EXPR_DATA, NFTA_DATA_VALUE, NFTA_COUNTER_PACKETS */
const LIST = { table: 1, set: 2, elements: 3 } as const;
const ELEMENT = { key: 1, expression: 7 } as const;
const EXPRESSION_DATA = 2;
const DATA_VALUE = 1;
const COUNTER_PACKETS = 2;

export interface SetCounters {
  /** Packets by address, of a set of single addresses; nothing where there is no such set. @throws NetError kernel */
  read(table: string, set: string): Map<Ip, number>;
  close(): void;
}

/** Of tables of family inet in the namespace the thread is in. Equivalent to: nft list set inet TABLE SET */
export function openSetCounters(): SetCounters {
  let socket: NetlinkSocket | undefined;
  return {
    read(table, set) {
      socket ??= openNetlink(NETLINK_NETFILTER);
      const body = Buffer.concat([
        Buffer.from([NFPROTO_INET, 0, 0, 0]),
        attribute(LIST.table, cString(table)),
        attribute(LIST.set, cString(set)),
      ]);
      try {
        const replies = socket.dump({
          type: GET_ELEMENTS,
          flags: 0,
          attempt: `read counters of nft set ${table} ${set}`,
          subject: set,
          write: (out) => out.emit(body),
        });
        return new Map(replies.flatMap(({ data }) => countersIn(data)));
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return new Map();
        throw error;
      }
    },
    close() {
      socket?.close();
      socket = undefined;
    },
  };
}

function countersIn(data: Buffer): [Ip, number][] {
  const list = attributesOf(data.subarray(HEADER)).get(LIST.elements) ?? Buffer.alloc(0);
  return [...itemsOf(list)].flatMap((item): [Ip, number][] => {
    const element = attributesOf(item);
    const address = attributesOf(element.get(ELEMENT.key)).get(DATA_VALUE);
    const packets = attributesOf(attributesOf(element.get(ELEMENT.expression)).get(EXPRESSION_DATA)).get(
      COUNTER_PACKETS,
    );
    return address === undefined || packets === undefined
      ? []
      : [[fromBytes(address), Number(packets.readBigUInt64BE())]];
  });
}

/** The values of attributes that all have one type. */
function* itemsOf(list: Buffer): Generator<Buffer> {
  for (let at = 0; at + 4 <= list.length; ) {
    const length = list.readUInt16LE(at);
    if (length < 4) return;
    yield list.subarray(at + 4, at + length);
    at += (length + 3) & ~3;
  }
}
