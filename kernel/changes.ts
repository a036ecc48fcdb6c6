// What the kernel's notifications say: messages of the rtnetlink and nfnetlink multicast groups as values. Only as much is
// read as it takes to tell whether somebody cares; what is there now is read by whoever does.

import { HEADER_LENGTH, align, parseHeader } from 'netlink/dist/structs.js';
import { fromBytes, type Prefix, withLength } from '../model/ip.ts';
import { MAIN_TABLE } from '../model/state.ts';
import { attributesOf } from './attributes.ts';
import type { Change } from './kernel.ts';
import { familyOfAf } from './wire.ts';

/** linux/rtnetlink.h */
const RTM = {
  newLink: 16,
  delLink: 17,
  newAddress: 20,
  delAddress: 21,
  newRoute: 24,
  delRoute: 25,
  newNeighbour: 28,
  delNeighbour: 29,
};
const IFLA_IFNAME = 3;
const RTA = { destination: 1, device: 4 };
const RTM_F_CLONED = 0x200;
/** Lengths of the fixed part that stands before the attributes. */
const LINK_HEADER = 16;
const ROUTE_HEADER = 12;
const NFGEN_HEADER = 4;

/** linux/netfilter/nf_tables.h: message types, less the number of the subsystem. Every object names its table first. */
const NFT_MSG = { newChain: 3, delChain: 5, newGeneration: 15 };
const NFT_SUBSYSTEM = 10;
const NFTA_TABLE = 1;
/** Where a message of the type names its object: a chain's third attribute, a rule's chain and a set the second. */
const partAttribute = (type: number): number => (type >= NFT_MSG.newChain && type <= NFT_MSG.delChain ? 3 : 2);
const NFT_MSG_TABLES = [0, 1, 2];

/** Names of devices by index, as the notifications so far have told them. */
export type DeviceNames = Map<number, string>;

interface Message {
  readonly type: number;
  readonly data: Buffer;
}

function* messages(datagram: Buffer): Generator<Message> {
  for (let at = 0; at + HEADER_LENGTH <= datagram.length; ) {
    const { length, type } = parseHeader(datagram.subarray(at)).x;
    if (length < HEADER_LENGTH || at + length > datagram.length) return;
    yield { type, data: datagram.subarray(at + HEADER_LENGTH, at + length) };
    at += align(length);
  }
}

/** The changes that a datagram of rtnetlink's groups tells; `names` learns from it. */
export function networkChanges(datagram: Buffer, names: DeviceNames): Change[] {
  return [...messages(datagram)].flatMap((message) => networkChange(message, names));
}

function networkChange({ type, data }: Message, names: DeviceNames): Change[] {
  switch (type) {
    case RTM.newLink:
    case RTM.delLink:
      return linkChange(data, type === RTM.delLink, names);
    case RTM.newAddress:
    case RTM.delAddress:
      return [{ type: 'address', device: names.get(data.readUInt32LE(4)) }];
    case RTM.newNeighbour:
    case RTM.delNeighbour:
      return [{ type: 'neighbour', device: names.get(data.readUInt32LE(4)) }];
    case RTM.newRoute:
    case RTM.delRoute:
      return routeChange(data, names);
    default:
      return [];
  }
}

/** A renamed device is a change of both names. */
function linkChange(data: Buffer, gone: boolean, names: DeviceNames): Change[] {
  const index = data.readInt32LE(4);
  const device = attributesOf(data.subarray(LINK_HEADER)).get(IFLA_IFNAME)?.toString().replace(/\0.*$/s, '');
  if (device === undefined) return [];
  const former = names.get(index);
  if (gone) names.delete(index);
  else names.set(index, device);
  const renamed = former !== undefined && former !== device ? [former] : [];
  return [...renamed, device].map((name) => ({ type: 'link', device: name }));
}

/** Of the main table only. */
function routeChange(data: Buffer, names: DeviceNames): Change[] {
  const family = familyOfAf(data[0]);
  const cloned = (data.readUInt32LE(8) & RTM_F_CLONED) !== 0;
  if (family === undefined || data[4] !== MAIN_TABLE || cloned) return [];
  const attributes = attributesOf(data.subarray(ROUTE_HEADER));
  const bytes = attributes.get(RTA.destination) ?? Buffer.alloc(family === 4 ? 4 : 16);
  const destination: Prefix = withLength(fromBytes(bytes), data[1] ?? 0);
  const index = attributes.get(RTA.device)?.readUInt32LE(0);
  return [{ type: 'route', destination, device: index === undefined ? undefined : names.get(index) }];
}

/** The changes that a datagram of nftables' group tells, each part, and each table's transaction, once. */
export function ruleChanges(datagram: Buffer): Change[] {
  const found = new Map<string, Change>();
  for (const { type, data } of messages(datagram)) {
    const change = ruleChange(type, data);
    if (change === undefined) continue;
    const { table, part } = change;
    // struct nfgenmsg's res_id: of the ruleset's generation the lower half.
    const generation = data.readUInt16BE(2);
    found.set(`${table} ${part}`, change);
    found.set(`${table} ${generation}:`, { type: 'transaction', table, generation });
  }
  return [...found.values()];
}

function ruleChange(type: number, data: Buffer): Extract<Change, { type: 'rules' }> | undefined {
  const kind = type & 0xff;
  if (type >> 8 !== NFT_SUBSYSTEM || kind === NFT_MSG.newGeneration) return undefined;
  const attributes = attributesOf(data.subarray(NFGEN_HEADER));
  const text = (attribute: number) => attributes.get(attribute)?.toString().replace(/\0.*$/s, '');
  const table = text(NFTA_TABLE);
  if (table === undefined) return undefined;
  return { type: 'rules', table, part: NFT_MSG_TABLES.includes(kind) ? undefined : text(partAttribute(kind)) };
}
