// Whether a neighbour of the host can be sent to without a gateway, from the routes as read. Pure.

import { contains, type Ip, lengthOf } from '../model/ip.ts';
import type { Route } from '../model/state.ts';

/** Whether the most specific of the routes to the address has no gateway and leaves by the device. */
export function isOnLink(routes: readonly Route[], address: Ip, device: string): boolean {
  let longest = -1;
  let found = false;
  for (const route of routes) {
    if (lengthOf(route.destination) < longest || !contains(route.destination, address)) continue;
    const direct = route.via === undefined && route.device === device && route.type !== 'blackhole';
    found = lengthOf(route.destination) === longest ? found || direct : direct;
    longest = lengthOf(route.destination);
  }
  return found;
}
