// Files of KEY=VALUE lines that programs hand to each other, and the names in the one that tells a node's subnet:
// /run/flannel/subnet.env, which the agent writes and the CNI plugin reads.

import type { Family } from './ip.ts';

/** The subnet file's names of each family's network and subnet. */
export const SUBNET_NAMES: Readonly<Record<Family, { readonly network: string; readonly subnet: string }>> = {
  4: { network: 'FLANNEL_NETWORK', subnet: 'FLANNEL_SUBNET' },
  6: { network: 'FLANNEL_IPV6_NETWORK', subnet: 'FLANNEL_IPV6_SUBNET' },
};
export const MTU_NAME = 'FLANNEL_MTU';
export const MASQUERADE_NAME = 'FLANNEL_IPMASQ';
/** Destinations that nobody masquerades traffic to: a name of ours, which flannel ignores. */
export const EXEMPT_NAME = 'FLANNEL_NON_MASQUERADE_CIDRS';

/**
 * Values by name; of a name that stands twice, the last. Space around names and values, one pair of quotes around a value
 * and what is no assignment are passed over.
 */
export const parseEnvFile = (text: string): ReadonlyMap<string, string> =>
  new Map(text.split('\n').flatMap((line) => (line.includes('=') ? [pair(line)] : [])));

function pair(line: string): [string, string] {
  const at = line.indexOf('=');
  const value = line.slice(at + 1).trim();
  return [line.slice(0, at).trim(), value.replace(/^(["'])(.*)\1$/, '$2')];
}
