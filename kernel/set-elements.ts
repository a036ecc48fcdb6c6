// Elements of nft sets and maps as nfnetlink messages (linux/netfilter/nf_tables.h). libnftables reads all tables, chains
// and sets, and all elements of those that are maps, before it adds one element; what an attachment adds is a few elements
// of sets of which all is known.

import { macBytes, toBytes, tryIp, tryMac } from '../model/ip.ts';
import type { NftCommand, SetHead, Table, Transaction } from '../model/ruleset.ts';
import { aligned, attribute, cString, nested } from './attributes.ts';
import { FLAGS, type NetlinkSocket, type Request } from './netlink.ts';

/** linux/netfilter/nfnetlink.h: NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES. */
const BEGIN = 0x10;
const END = 0x11;
const SUBSYSTEM = 10;
/** NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM */
const MESSAGE = { add: (SUBSYSTEM << 8) | 12, delete: (SUBSYSTEM << 8) | 14 } as const;
/** NFPROTO_* */
const PROTOCOL: Readonly<Record<Table['family'], number>> = { inet: 1, ip: 2, netdev: 5, bridge: 7, ip6: 10 };
/** NFTA_SET_ELEM_LIST_*, NFTA_LIST_ELEM, NFTA_SET_ELEM_*, NFTA_DATA_VALUE */
const LIST = { table: 1, set: 2, elements: 3 } as const;
const LIST_ELEMENT = 1;
const ELEMENT = { key: 1, data: 2 } as const;
const DATA_VALUE = 1;

/** An attribute of attributes has at most 64 KiB; more than these few are libnftables' work, and soon a child's. */
const MOST_ELEMENTS = 64;
const IFNAMSIZ = 16;

/** The bytes of a value in nft's words; undefined for one that it can't be. */
type Encoder = (text: string) => Uint8Array | undefined;

const address =
  (bytes: number): Encoder =>
  (text) => {
    const ip = tryIp(text);
    const value = ip === undefined ? undefined : toBytes(ip);
    return value?.length === bytes ? value : undefined;
  };

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

const ENCODERS: Readonly<Record<string, Encoder>> = {
  ipv4_addr: address(4),
  ipv6_addr: address(16),
  inet_proto: (text) => (PROTOCOLS[text] === undefined ? undefined : Uint8Array.of(PROTOCOLS[text])),
  inet_service(text) {
    const port = /^\d{1,5}$/.test(text) ? Number(text) : 0x10000;
    return port <= 0xffff ? Uint8Array.of(port >> 8, port & 255) : undefined;
  },
  ether_addr(text) {
    const mac = tryMac(text);
    return mac === undefined ? undefined : macBytes(mac);
  },
  /** A name with an asterisk at its end would stand for many. */
  ifname(text) {
    const name = /^"([^"*]{1,15})"$/.exec(text)?.[1];
    if (name === undefined || Buffer.byteLength(name) >= IFNAMSIZ) return undefined;
    const bytes = Buffer.alloc(IFNAMSIZ);
    bytes.write(name);
    return bytes;
  },
};

/**
 * Commits with messages of ours where they will do, all else with libnftables. A set's first transaction is among that:
 * libnftables finds by itself that there is no such set, while a refusal by the kernel takes a grace period, some 10 ms
 * (net/netfilter/nf_tables_api.c, __nf_tables_abort).
 */
export function elementCommitter(
  socket: () => Pick<NetlinkSocket, 'transact'>,
  commit: (transaction: Transaction) => void,
): (transaction: Transaction) => void {
  const known = new Set<string>();
  return (transaction) => {
    const { family, table, commands } = transaction;
    const sets = commands.flatMap((command) =>
      command.verb === 'add' && (command.type === 'set' || command.type === 'element')
        ? [`${family} ${table} ${command.set.name}`]
        : [],
    );
    const messages = sets.every((set) => known.has(set)) ? elementMessages(transaction) : undefined;
    if (messages !== undefined) return socket().transact(messages);
    commit(transaction);
    for (const set of sets) known.add(set);
  };
}

/**
 * The transaction as messages, to be sent in one datagram; undefined when it is more than some elements of types known
 * here. The last but one asks for an acknowledgement: kernels before 6.10 don't acknowledge the end.
 */
export function elementMessages({ family, table, commands }: Transaction): Request[] | undefined {
  const attempt = `change table ${family} ${table}`;
  const frame = (type: number): Request => ({
    type,
    flags: 0,
    attempt,
    subject: table,
    write: (out) => out.emit(Uint8Array.of(0, 0, 0, SUBSYSTEM)),
  });
  const head = Uint8Array.of(PROTOCOL[family], 0, 0, 0);
  const requests: Request[] = [frame(BEGIN)];
  let count = 0;
  for (const [at, command] of commands.entries()) {
    const elements = command.type === 'element' ? encodeElements(command) : undefined;
    if (command.type !== 'element' || elements === undefined) return undefined;
    count += elements.length;
    const body = Buffer.concat([
      head,
      attribute(LIST.table, cString(table)),
      attribute(LIST.set, cString(command.set.name)),
      nested(LIST.elements, ...elements),
    ]);
    const acknowledged = at === commands.length - 1 ? FLAGS.ack : 0;
    requests.push({
      type: MESSAGE[command.verb],
      flags: acknowledged | (command.verb === 'add' ? FLAGS.create : 0),
      attempt,
      subject: table,
      write: (out) => out.emit(body),
    });
  }
  return count === 0 || count > MOST_ELEMENTS ? undefined : [...requests, frame(END)];
}

function encodeElements({ set, elements }: Extract<NftCommand, { type: 'element' }>): Buffer[] | undefined {
  if (set.flags?.length) return undefined;
  const encoded = elements.map((element) => encodeElement(set, element));
  return encoded.every((each) => each !== undefined) ? encoded : undefined;
}

/** A deletion names a map's element by its key alone. */
function encodeElement({ type, gives }: SetHead, element: string): Buffer | undefined {
  const [key = '', value, ...more] = element.split(' : ');
  const name = encodeValue(type, key);
  const given = value === undefined ? undefined : encodeValue(gives ?? '', value);
  if (name === undefined || more.length > 0 || (value !== undefined && given === undefined)) return undefined;
  const parts = [datum(ELEMENT.key, name), ...(given === undefined ? [] : [datum(ELEMENT.data, given)])];
  return nested(LIST_ELEMENT, ...parts);
}

const datum = (type: number, value: Uint8Array): Buffer => nested(type, attribute(DATA_VALUE, value));

/** Each part of a concatenation begins at a register of four bytes. */
function encodeValue(type: string, text: string): Uint8Array | undefined {
  const types = type.split(' . ');
  const texts = text.split(' . ');
  const parts = types.map((each, at) => ENCODERS[each]?.(texts[at] ?? ''));
  if (texts.length !== types.length || !parts.every((part) => part !== undefined)) return undefined;
  return parts.length === 1 ? parts[0] : Buffer.concat(parts.map(padded));
}

function padded(part: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(part.length));
  bytes.set(part);
  return bytes;
}
