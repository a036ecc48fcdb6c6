// Reverse path filtering on our own devices. Pure.

import type { Sysctl } from '../../model/state.ts';

/**
 * Lets in what would be answered by another device, such as a node's own address or a peer that is also routed directly:
 * strict filtering, which many distributions set for all devices, drops it. The kernel takes the larger of this value and
 * that of all devices, so that 2 (loose) is what overrules 1 (strict) (Documentation/networking/ip-sysctl.rst).
 */
export const looseFilter = (device: string): Sysctl => ({ key: `net/ipv4/conf/${device}/rp_filter`, value: '2' });
