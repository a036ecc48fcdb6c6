// Addresses as rtnetlink messages: RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR (linux/if_addr.h).

import {
  type AddressAttrs,
  formatAddress,
  formatAddressAttrs,
  parseAddress,
  parseAddressAttrs,
} from 'netlink/dist/rt/gen_structs.js';
import { addressOf, bitsOf, familyOf, fromBytes, lastOf, lengthOf, toBytes, withLength } from '../model/ip.ts';
import type { Address } from '../model/state.ts';
import type { IndexOf, NameOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';
import { AF, familyOfAf, scopeName } from './wire.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const HEADER = 8;

/** Equivalent to: ip address add|replace ADDRESS dev DEVICE [nodad] */
export function addAddress(value: Address, replace: boolean, indexOf: IndexOf): Request {
  const flags = FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);
  const extra = { ...(value.noDad && { flags: { nodad: true as const } }), ...broadcast(value) };
  return message(RTM_NEWADDR, flags, `${replace ? 'replace' : 'add'} address`, value, indexOf, extra);
}

/** Equivalent to: ip address delete ADDRESS dev DEVICE */
export const deleteAddress = (value: Address, indexOf: IndexOf): Request =>
  message(RTM_DELADDR, 0, 'delete address', value, indexOf, {});

/** Subnets with room for one have a broadcast address, as `ip address add … brd +` sets it. */
function broadcast({ address }: Address): AddressAttrs {
  return familyOf(address) === 4 && lengthOf(address) < 31 ? { broadcast: Buffer.from(toBytes(lastOf(address))) } : {};
}

function message(
  type: number,
  flags: number,
  verb: string,
  { address, device }: Address,
  indexOf: IndexOf,
  extra: AddressAttrs,
): Request {
  const index = indexOf(device);
  const family = familyOf(address);
  const bytes = Buffer.from(toBytes(addressOf(address)));
  return {
    type,
    flags,
    attempt: `${verb} ${address} dev ${device}`,
    subject: address,
    write(out) {
      out.emit(formatAddress({ family: AF[family], prefixlen: lengthOf(address), index, scope: 0 }));
      out.emit(formatAddressAttrs({ local: bytes, address: bytes, ...extra }));
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
  const attrs = parseAddressAttrs(reply.data.subarray(HEADER));
  const family = familyOfAf(header.family);
  const bytes = attrs.local ?? attrs.address;
  const device = nameOf(header.index ?? 0);
  if (family === undefined || bytes === undefined || device === undefined) return undefined;
  const { permanent, deprecated, tentative, dadfailed, secondary } = attrs.flags ?? header.flags ?? {};
  return {
    device,
    address: withLength(fromBytes(bytes), header.prefixlen ?? bitsOf(family)),
    scope: scopeName(header.scope ?? 0),
    flags: [
      ...(permanent ? [] : (['dynamic'] as const)),
      ...(family === 6 && secondary ? (['temporary'] as const) : []),
      ...(deprecated ? (['deprecated'] as const) : []),
      ...(tentative ? (['tentative'] as const) : []),
      ...(dadfailed ? (['dadfailed'] as const) : []),
    ],
  };
}
