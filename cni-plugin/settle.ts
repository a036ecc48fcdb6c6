// Waits until IPv6 addresses are received at. Even without duplicate address detection the kernel leaves the last step to
// a worker (net/ipv6/addrconf.c, addrconf_dad_completed): microseconds on an idle machine, and more on a busy one. Until
// then it drops what comes for the address, and nobody hears who asks for it.

import { setTimeout as delay } from 'node:timers/promises';
import type { Kernel } from '../kernel/kernel.ts';
import { hasCode, NetError } from '../model/errors.ts';
import { familyOf, type Ip } from '../model/ip.ts';
import type { Namespace } from '../model/state.ts';

/** With duplicate address detection it takes one to two seconds (RFC 4862), with a duplicate for ever. */
const MOST_MS = 5000;

/** @throws NetError timeout naming an address that is not usable by then, such as a duplicate */
export async function settleAddresses(kernel: Kernel, namespace: Namespace, addresses: readonly Ip[]): Promise<void> {
  const until = performance.now() + MOST_MS;
  for (const address of addresses.filter((each) => familyOf(each) === 6)) {
    while (!isLocal(kernel, namespace, address)) {
      if (performance.now() > until) throw unusable(address, namespace);
      await delay(1);
    }
  }
}

/** What is sent to an address of one's own stays on the loopback device. */
function isLocal(kernel: Kernel, namespace: Namespace, address: Ip): boolean {
  try {
    return kernel.routeTo(namespace, address).device === 'lo';
  } catch (error) {
    if (hasCode(error, 'kernel')) return false;
    throw error;
  }
}

const unusable = (address: Ip, { path }: Namespace): NetError =>
  new NetError('timeout', `${address} in ${path} is not usable within ${MOST_MS / 1000} s; is it a duplicate?`, {
    subject: address,
  });
