// Addresses as rtnetlink messages: RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR (linux/if_addr.h).

import { formatAddress, parseAddress } from 'netlink/dist/rt/gen_structs.js';
import {
  addressOf,
  bitsOf,
  familyOf,
  fromBytes,
  lastOf,
  lengthOf,
  type Prefix,
  toBytes,
  withLength,
} from '../model/ip.ts';
import type { Address } from '../model/state.ts';
import { attributesOf, u32 } from './attributes.ts';
import type { IndexOf, NameOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';
import { AF, familyOfAf, scopeName } from './wire.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const HEADER = 8;
/** linux/if_addr.h: IFA_* */
const IFA = { address: 1, local: 2, broadcast: 4, flags: 8 } as const;
/** IFA_F_*: the low byte is the header's too. */
const FLAG = {
  secondary: 0x01,
  noDad: 0x02,
  dadFailed: 0x08,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
} as const;

/** Equivalent to: ip address add|replace ADDRESS dev DEVICE [nodad] */
export function addAddress(value: Address, replace: boolean, indexOf: IndexOf): Request {
  const flags = FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);
  return message(RTM_NEWADDR, flags, `${replace ? 'replace' : 'add'} address`, value, indexOf);
}

/** Equivalent to: ip address delete ADDRESS dev DEVICE */
export const deleteAddress = (value: Address, indexOf: IndexOf): Request =>
  message(RTM_DELADDR, 0, 'delete address', value, indexOf);

/** Subnets with room for one have a broadcast address, as `ip address add … brd +` sets it. */
const hasBroadcast = (address: Prefix): boolean => familyOf(address) === 4 && lengthOf(address) < 31;

function message(type: number, flags: number, verb: string, value: Address, indexOf: IndexOf): Request {
  const { address, device, noDad } = value;
  const index = indexOf(device);
  const family = familyOf(address);
  const bytes = toBytes(addressOf(address));
  return {
    type,
    flags,
    attempt: `${verb} ${address} dev ${device}`,
    subject: address,
    write(out) {
      out.emit(formatAddress({ family: AF[family], prefixlen: lengthOf(address), index, scope: 0 }));
      out.push(IFA.local, bytes);
      out.push(IFA.address, bytes);
      if (type !== RTM_NEWADDR) return;
      if (noDad) out.push(IFA.flags, u32(FLAG.noDad));
      if (hasBroadcast(address)) out.push(IFA.broadcast, toBytes(lastOf(address)));
    },
  };
}

/** Equivalent to: ip address show [dev DEVICE] */
export function listAddresses(index = 0): Request {
  return {
    type: RTM_GETADDR,
    flags: 0,
    attempt: 'list addresses',
    write: (out) => out.emit(formatAddress({ index })),
  };
}

/** An address as the kernel describes it, or undefined for a family we don't handle. */
export function readAddress(reply: Reply, nameOf: NameOf): Address | undefined {
  const header = parseAddress(reply.data.subarray(0, HEADER));
  const attributes = attributesOf(reply.data.subarray(HEADER));
  const family = familyOfAf(header.family);
  const bytes = attributes.get(IFA.local) ?? attributes.get(IFA.address);
  const device = nameOf(header.index ?? 0);
  if (family === undefined || bytes === undefined || device === undefined) return undefined;
  const flags = attributes.get(IFA.flags)?.readUInt32LE() ?? reply.data.readUInt8(2);
  const has = (flag: number) => (flags & flag) !== 0;
  return {
    device,
    address: withLength(fromBytes(bytes), header.prefixlen ?? bitsOf(family)),
    scope: scopeName(header.scope ?? 0),
    flags: [
      ...(has(FLAG.permanent) ? [] : (['dynamic'] as const)),
      ...(family === 6 && has(FLAG.secondary) ? (['temporary'] as const) : []),
      ...(has(FLAG.deprecated) ? (['deprecated'] as const) : []),
      ...(has(FLAG.tentative) ? (['tentative'] as const) : []),
      ...(has(FLAG.dadFailed) ? (['dadfailed'] as const) : []),
    ],
  };
}
