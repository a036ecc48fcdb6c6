// Forgetting every flow of addresses that are given back, without listing them: the kernel is told to flush those that
// match. That walks its table in 0.2 ms a direction where a listing takes 3.5 ms.

import { hasErrno } from '../model/errors.ts';
import { familyOf, type Ip, toBytes } from '../model/ip.ts';
import { attribute, nested } from './attributes.ts';
import { forgetFlows } from './conntrack.ts';
import type { NetlinkSocket, Request } from './netlink.ts';
import { AF } from './wire.ts';

/** NFNL_SUBSYS_CTNETLINK << 8 with IPCTNL_MSG_CT_DELETE. */
const DELETE = 0x102;
const FILTER = 25;
const DIRECTIONS = { original: 1, reply: 2 } as const;
const ADDRESSES = 1;
const SOURCE = { 4: 1, 6: 3 } as const;
/** net/netfilter/nf_internals.h: CTA_FILTER_F_CTA_IP_SRC. */
const COMPARE_SOURCE = Uint8Array.of(1, 0, 0, 0);

/**
 * Gives a function that forgets all flows that one of the addresses has begun or answers. It works aside; what comes
 * meanwhile is done next.
 * Equivalent to: conntrack --delete --orig-src ADDRESS; conntrack --delete --reply-src ADDRESS
 */
export function forgetterOfEnds(socket: NetlinkSocket): (ends: readonly Ip[]) => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return (ends) => {
    const own = last.then(() => forgetEnds(socket, ends));
    last = own.catch(() => undefined);
    return own;
  };
}

/** @throws NetError kernel */
async function forgetEnds(socket: NetlinkSocket, ends: readonly Ip[]): Promise<void> {
  const errors = await socket.batchAside(ends.flatMap((end) => [flush(end, 'original'), flush(end, 'reply')]));
  const failed = errors.find((error) => error !== undefined);
  if (failed === undefined) return;
  // Linux before 6.8 does not know filters here, and finds the address alone too little.
  if (!hasErrno(failed, 'EINVAL')) throw failed;
  for (const end of ends) forgetFlows(socket, { family: familyOf(end), end });
}

function flush(end: Ip, direction: keyof typeof DIRECTIONS): Request {
  const family = familyOf(end);
  const type = DIRECTIONS[direction];
  const source = nested(type, nested(ADDRESSES, attribute(SOURCE[family], toBytes(end))));
  const body = [Buffer.from([AF[family], 0, 0, 0]), source, nested(FILTER, attribute(type, COMPARE_SOURCE))];
  return {
    type: DELETE,
    flags: 0,
    attempt: `forget the flows of ${end}`,
    subject: end,
    write: (out) => out.emit(Buffer.concat(body)),
  };
}
