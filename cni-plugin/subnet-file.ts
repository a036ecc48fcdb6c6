// The file in which the agent tells the plugin this node's subnet: /run/flannel/subnet.env, KEY=VALUE lines.

import { NetError } from '../model/errors.ts';
import { FAMILIES, type Family, familyOf, networkOf, type Prefix, tryPrefix } from '../model/ip.ts';

export const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env';

export interface SubnetFile {
  /** The cluster's networks, each once. */
  readonly networks: readonly Prefix[];
  /** This node's subnets, as networks: of each family usually one. */
  readonly subnets: readonly Prefix[];
  /** Bytes. */
  readonly mtu: number;
  /** Whether the agent masquerades; then the plugin does not. */
  readonly ipMasq: boolean;
  /** Destinations to which nobody masquerades. */
  readonly unmasqueraded: readonly Prefix[];
}

const EXEMPT = 'FLANNEL_NON_MASQUERADE_CIDRS';
const KEY: Record<Family, string> = { 4: 'FLANNEL', 6: 'FLANNEL_IPV6' };

/**
 * The file's content as a value; lines with other keys are ignored.
 * @throws NetError invalid-config naming the file and the keys that are missing or malformed
 */
export function parseSubnetFile(text: string, path: string): SubnetFile {
  const values = new Map(text.split('\n').map(keyAndValue));
  const problems: string[] = [];
  const listed = (name: string) =>
    FAMILIES.flatMap((family) =>
      prefixes(values.get(`${KEY[family]}_${name}`), `${KEY[family]}_${name}`, family, problems),
    );
  const networks = listed('NETWORK');
  const subnets = listed('SUBNET');
  const unmasqueraded = prefixes(values.get(EXEMPT), EXEMPT, undefined, problems);
  const mtu = values.get('FLANNEL_MTU') ?? '';
  const ipMasq = values.get('FLANNEL_IPMASQ') ?? '';
  const missing = [
    networks.length === 0 && 'FLANNEL_NETWORK',
    subnets.length === 0 && 'FLANNEL_SUBNET',
    mtu === '' && 'FLANNEL_MTU',
    ipMasq === '' && 'FLANNEL_IPMASQ',
  ].filter((name) => name !== false);
  if (mtu !== '' && !/^\d{1,5}$/.test(mtu)) problems.push(`FLANNEL_MTU: expected a number, got "${mtu.slice(0, 64)}"`);
  if (problems.length === 0 && missing.length > 0) problems.push(`is missing ${missing.join(', ')}`);
  if (problems.length > 0) throw new NetError('invalid-config', `${path} ${problems.join('; ')}`, { subject: path });
  return { networks: [...new Set(networks)], subnets, mtu: Number(mtu), ipMasq: ipMasq === 'true', unmasqueraded };
}

function keyAndValue(line: string): [string, string] {
  const [key = '', ...rest] = line.split('=');
  return [key.trim(), rest.join('=').trim()];
}

/** A comma-separated list of prefixes of the family, or of either, as networks; absent and empty are none. */
function prefixes(value: string | undefined, key: string, family: Family | undefined, problems: string[]): Prefix[] {
  const parts = value === undefined || value === '' ? [] : value.split(',');
  return parts.flatMap((part) => {
    const found = tryPrefix(part.trim());
    if (found !== undefined && (family === undefined || familyOf(found) === family)) return [networkOf(found)];
    problems.push(
      `${key}: expected IP${family === undefined ? '' : `v${family}`} prefixes, got "${part.slice(0, 64)}"`,
    );
    return [];
  });
}
