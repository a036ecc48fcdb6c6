// What would carry packets past the policy table.

import type { Kernel } from '../../kernel/kernel.ts';

/** The device of kube-proxy's IPVS mode. */
const IPVS_DEVICE = 'kube-ipvs0';

/**
 * Why policies would not be enforced; undefined when nothing is in the way. IPVS takes packets for services out of the input
 * hook and sends them on from there: they never come by the forward hook (net/netfilter/ipvs/ip_vs_core.c).
 */
export function policyBypass(kernel: Pick<Kernel, 'read' | 'host'>): string | undefined {
  const { links } = kernel.read(kernel.host, { links: [IPVS_DEVICE] });
  if (links.length === 0) return undefined;
  return `kube-proxy runs in IPVS mode (device ${IPVS_DEVICE}), which bypasses network policy: use its nftables or iptables mode`;
}
