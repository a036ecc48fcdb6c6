// Neighbours and forwarding entries as rtnetlink messages: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH (linux/neighbour.h).
// A VXLAN forwarding entry is a neighbour of family AF_BRIDGE with the VTEP as its destination.

import { formatNeighbor } from 'netlink/dist/rt/gen_structs.js';
import { type Family, familyOf, fromBytes, type Ip, type Mac, macBytes, macOf, toBytes } from '../model/ip.ts';
import type { FdbEntry, Neighbour } from '../model/state.ts';
import { eachAttribute, u32 } from './attributes.ts';
import type { IndexOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';
import { AF } from './wire.ts';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const HEADER = 12;
const AF_BRIDGE = 7;
/** linux/neighbour.h: NDA_*, NUD_PERMANENT */
const NDA = { dst: 1, lladdr: 2, ifindex: 8 } as const;
const PERMANENT = 0x80;

/** Equivalent to: ip neighbour add|replace IP lladdr MAC nud permanent dev DEVICE */
export function addNeighbour(value: Neighbour, replace: boolean, indexOf: IndexOf): Request {
  return neighbourMessage(
    RTM_NEWNEIGH,
    replace ? 'replace neighbour' : 'add neighbour',
    createFlags(replace),
    value,
    indexOf,
  );
}

/** Equivalent to: ip neighbour delete IP dev DEVICE */
export const deleteNeighbour = (value: Neighbour, indexOf: IndexOf): Request =>
  neighbourMessage(RTM_DELNEIGH, 'delete neighbour', 0, value, indexOf);

/** Equivalent to: bridge fdb add|replace MAC dev DEVICE dst VTEP self permanent */
export function addFdb(value: FdbEntry, replace: boolean, indexOf: IndexOf): Request {
  return fdbMessage(RTM_NEWNEIGH, replace ? 'replace fdb' : 'add fdb', createFlags(replace), value, indexOf);
}

/** Equivalent to: bridge fdb delete MAC dev DEVICE dst VTEP self */
export const deleteFdb = (value: FdbEntry, indexOf: IndexOf): Request =>
  fdbMessage(RTM_DELNEIGH, 'delete fdb', 0, value, indexOf);

const createFlags = (replace: boolean): number => FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);

function neighbourMessage(
  type: number,
  verb: string,
  flags: number,
  { ip, mac, device }: Neighbour,
  indexOf: IndexOf,
): Request {
  const ifindex = indexOf(device);
  return {
    type,
    flags,
    attempt: `${verb} ${ip} dev ${device}`,
    subject: ip,
    write(out) {
      out.emit(formatNeighbor({ family: AF[familyOf(ip)], ifindex, state: { permanent: true } }));
      out.push(NDA.dst, toBytes(ip));
      out.push(NDA.lladdr, macBytes(mac));
    },
  };
}

function fdbMessage(
  type: number,
  verb: string,
  flags: number,
  { mac, destination, device }: FdbEntry,
  indexOf: IndexOf,
): Request {
  const ifindex = indexOf(device);
  return {
    type,
    flags,
    attempt: `${verb} ${mac} dst ${destination} dev ${device}`,
    subject: mac,
    write(out) {
      out.emit(formatNeighbor({ family: AF_BRIDGE, ifindex, state: { permanent: true }, flags: { self: true } }));
      out.push(NDA.lladdr, macBytes(mac));
      out.push(NDA.dst, toBytes(destination));
    },
  };
}

/** Equivalent to: ip neighbour show dev DEVICE */
export const listNeighbours = (family: Family, index: number): Request => list(AF[family], index, 'list neighbours');

/** Equivalent to: bridge fdb show dev DEVICE */
export const listFdb = (index: number): Request => list(AF_BRIDGE, index, 'list fdb');

function list(family: number, index: number, attempt: string): Request {
  return {
    type: RTM_GETNEIGH,
    flags: 0,
    attempt,
    write(out) {
      out.emit(formatNeighbor({ family }));
      out.push(NDA.ifindex, u32(index));
    },
  };
}

/** A permanent neighbour of the device, or undefined for any other entry. */
export function readNeighbour(reply: Reply, device: string): Neighbour | undefined {
  const entry = permanentIn(reply);
  return entry && { device, ip: entry.address, mac: entry.mac };
}

/** A permanent forwarding entry of the device, or undefined for any other entry. */
export function readFdb(reply: Reply, device: string): FdbEntry | undefined {
  const entry = permanentIn(reply);
  return entry && { device, mac: entry.mac, destination: entry.address };
}

/** What a permanent entry with both addresses (struct ndmsg, state at byte 8) says. */
function permanentIn({ data }: Reply): { readonly mac: Mac; readonly address: Ip } | undefined {
  if ((data.readUInt16LE(8) & PERMANENT) === 0) return undefined;
  let address: Ip | undefined;
  let mac: Mac | undefined;
  eachAttribute(data, HEADER, (type, at, length) => {
    if (type === NDA.dst) address = fromBytes(data, at, length);
    else if (type === NDA.lladdr && length === 6) mac = macOf(data.subarray(at, at + length));
  });
  return address === undefined || mac === undefined ? undefined : { mac, address };
}
