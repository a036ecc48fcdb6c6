// The file in which the agent tells the CNI plugin, and Docker, this node's subnet: /run/flannel/subnet.env, lines of
// KEY=VALUE. The names in it, and what it says.

import { FAMILIES, type Family, familyOf, networkOf, type Prefix, tryPrefix } from './ip.ts';

/** Names of each family's network and subnet. */
export const SUBNET_NAMES: Readonly<Record<Family, { readonly network: string; readonly subnet: string }>> = {
  4: { network: 'FLANNEL_NETWORK', subnet: 'FLANNEL_SUBNET' },
  6: { network: 'FLANNEL_IPV6_NETWORK', subnet: 'FLANNEL_IPV6_SUBNET' },
};
export const MTU_NAME = 'FLANNEL_MTU';
export const MASQUERADE_NAME = 'FLANNEL_IPMASQ';
/** Destinations that nobody masquerades traffic to: a name of ours, which flannel ignores. */
export const EXEMPT_NAME = 'FLANNEL_NON_MASQUERADE_CIDRS';

/** What the file says; what is missing is undefined, or none. */
export interface SubnetEnvReading {
  /** The cluster's networks, IPv4 first: of each family usually one. */
  readonly networks: readonly Prefix[];
  /** This node's subnets, as networks. */
  readonly subnets: readonly Prefix[];
  /** Of the pods' interfaces, in bytes. */
  readonly mtu: number | undefined;
  /** Whether the agent masquerades, so that the plugin doesn't. */
  readonly masquerade: boolean | undefined;
  /** Destinations to which nobody masquerades. */
  readonly unmasqueraded: readonly Prefix[];
  /** What can't be understood and is left out, each with its name: "FLANNEL_MTU: expected a number, got "x"". */
  readonly problems: readonly string[];
}

/** Lines with other names are ignored. */
export function readSubnetEnv(text: string): SubnetEnvReading {
  const values = parseEnvFile(text);
  const masquerade = values.get(MASQUERADE_NAME) ?? '';
  const problems: string[] = [];
  const listed = (what: 'network' | 'subnet') =>
    FAMILIES.flatMap((family) => prefixes(values, SUBNET_NAMES[family][what], family, problems));
  return {
    networks: listed('network'),
    subnets: listed('subnet'),
    unmasqueraded: prefixes(values, EXEMPT_NAME, undefined, problems),
    mtu: bytes(values.get(MTU_NAME), problems),
    masquerade: masquerade === '' ? undefined : masquerade === 'true',
    problems,
  };
}

type Values = ReadonlyMap<string, string>;

/** A comma-separated list of prefixes of the family, or of either, as networks; absent and empty are none. */
function prefixes(values: Values, name: string, family: Family | undefined, problems: string[]): Prefix[] {
  const value = values.get(name);
  const parts = value === undefined || value === '' ? [] : value.split(',');
  return parts.flatMap((part) => {
    const found = tryPrefix(part.trim());
    if (found !== undefined && (family === undefined || familyOf(found) === family)) return [networkOf(found)];
    problems.push(
      `${name}: expected IP${family === undefined ? '' : `v${family}`} prefixes, got "${part.slice(0, 64)}"`,
    );
    return [];
  });
}

function bytes(value: string | undefined, problems: string[]): number | undefined {
  if (value === undefined || value === '') return undefined;
  if (/^\d{1,5}$/.test(value)) return Number(value);
  problems.push(`${MTU_NAME}: expected a number, got "${value.slice(0, 64)}"`);
  return undefined;
}

/**
 * Values by name; of a name that stands twice, the last. Space around names and values, one pair of quotes around a value
 * and what is no assignment are passed over.
 */
export const parseEnvFile = (text: string): Values =>
  new Map(text.split('\n').flatMap((line) => (line.includes('=') ? [pair(line)] : [])));

function pair(line: string): [string, string] {
  const at = line.indexOf('=');
  const value = line.slice(at + 1).trim();
  return [line.slice(0, at).trim(), value.replace(/^(["'])(.*)\1$/, '$2')];
}
