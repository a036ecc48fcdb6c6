// The file in which the agent tells the plugin this node's subnet: /run/flannel/subnet.env, KEY=VALUE lines.

import { EXEMPT_NAME, MASQUERADE_NAME, MTU_NAME, parseEnvFile, SUBNET_NAMES } from '../model/env-file.ts';
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

/**
 * The file's content as a value; lines with other keys are ignored.
 * @throws NetError invalid-config naming the file and the keys that are missing or malformed
 */
export function parseSubnetFile(text: string, path: string): SubnetFile {
  const values = parseEnvFile(text);
  const problems: string[] = [];
  const listed = (what: 'network' | 'subnet') =>
    FAMILIES.flatMap((family) => {
      const name = SUBNET_NAMES[family][what];
      return prefixes(values.get(name), name, family, problems);
    });
  const networks = listed('network');
  const subnets = listed('subnet');
  const unmasqueraded = prefixes(values.get(EXEMPT_NAME), EXEMPT_NAME, undefined, problems);
  const mtu = values.get(MTU_NAME) ?? '';
  const ipMasq = values.get(MASQUERADE_NAME) ?? '';
  const missing = [
    networks.length === 0 && SUBNET_NAMES[4].network,
    subnets.length === 0 && SUBNET_NAMES[4].subnet,
    mtu === '' && MTU_NAME,
    ipMasq === '' && MASQUERADE_NAME,
  ].filter((name) => name !== false);
  if (mtu !== '' && !/^\d{1,5}$/.test(mtu)) problems.push(`${MTU_NAME}: expected a number, got "${mtu.slice(0, 64)}"`);
  if (problems.length === 0 && missing.length > 0) problems.push(`is missing ${missing.join(', ')}`);
  if (problems.length > 0) throw new NetError('invalid-config', `${path} ${problems.join('; ')}`, { subject: path });
  return { networks: [...new Set(networks)], subnets, mtu: Number(mtu), ipMasq: ipMasq === 'true', unmasqueraded };
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
