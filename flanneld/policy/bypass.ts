// What would carry packets past the policy table.

import { isFiltered } from '../../cni-plugin/sources.ts';
import type { Kernel } from '../../kernel/kernel.ts';

/** The device of kube-proxy's IPVS mode. */
const IPVS_DEVICE = 'kube-ipvs0';
/** What bridges hand packets over by (br_netfilter) has this setting, whatever it is. */
const BRIDGE_FILTER = 'net/bridge/bridge-nf-call-iptables';

/**
 * Why policies would not be enforced for pods on these bridges and others; undefined when nothing is in the way. IPVS takes
 * packets for services out of the input hook and sends them on from there: they never come by the forward hook
 * (net/netfilter/ipvs/ip_vs_core.c). @throws NetError kernel
 */
export function policyBypass(kernel: Pick<Kernel, 'read' | 'host'>, bridges: readonly string[]): string | undefined {
  const { links, sysctls } = kernel.read(kernel.host, { links: [IPVS_DEVICE, ...bridges], sysctls: [BRIDGE_FILTER] });
  if (links.some(({ name }) => name === IPVS_DEVICE))
    return `kube-proxy runs in IPVS mode (device ${IPVS_DEVICE}), which bypasses network policy: use its nftables or iptables mode`;
  if (bridges.length > 0 && sysctls.length === 0)
    return `the kernel module br_netfilter is not there: pods on bridge ${bridges[0]} reach each other past network policy (modprobe br_netfilter, or "mode": "routed")`;
  const unfiltered = links.find(({ bridge }) => bridge !== undefined && !isFiltered(bridge));
  return (
    unfiltered &&
    `bridge ${unfiltered.name} does not hand packets to network policy (ip link set ${unfiltered.name} type bridge nf_call_iptables 1 nf_call_ip6tables 1)`
  );
}
