// Which device packets leave by.

import type { Kernel } from '../kernel/kernel.ts';
import { firstOf, type Ip, plus, type Prefix } from '../model/ip.ts';

/** The device of the route to an address; undefined when there is no route. */
export function deviceTo(kernel: Kernel, address: Ip): string | undefined {
  try {
    return kernel.routeTo(kernel.host, address).device;
  } catch {
    return undefined;
  }
}

/** The same to pods of a subnet, whose first addresses are those of the node itself. */
export const deviceToPods = (kernel: Kernel, subnet: Prefix): string | undefined =>
  deviceTo(kernel, plus(firstOf(subnet), 2n));
