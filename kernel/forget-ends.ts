// Forgetting every flow of addresses that are given back, while the thread goes on.

import { familyOf, type Ip } from '../model/ip.ts';
import { flushes, forgetListed, lacksFilters } from './conntrack.ts';
import type { NetlinkSocket } from './netlink.ts';

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
  const filters = ends.map((end) => ({ family: familyOf(end), end }));
  const errors = await socket.batchAside(filters.flatMap(flushes));
  const failed = errors.find((error) => error !== undefined);
  if (failed === undefined) return;
  if (!lacksFilters(failed)) throw failed;
  for (const filter of filters) forgetListed(socket, filter);
}
