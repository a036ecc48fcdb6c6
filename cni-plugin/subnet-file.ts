// What the agent has told the plugin of this node's subnet. The plugin goes by all of it, so that it must be complete.

import { NetError } from '../model/errors.ts';
import type { Prefix } from '../model/ip.ts';
import { MASQUERADE_NAME, MTU_NAME, readSubnetEnv, SUBNET_NAMES } from '../model/subnet-env.ts';

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
  const { networks, subnets, mtu, masquerade, unmasqueraded, problems } = readSubnetEnv(text);
  const refusal = (what: string) => new NetError('invalid-config', `${path} ${what}`, { subject: path });
  if (problems.length > 0) throw refusal(problems.join('; '));
  if (networks.length > 0 && subnets.length > 0 && mtu !== undefined && masquerade !== undefined)
    return { networks: [...new Set(networks)], subnets, mtu, ipMasq: masquerade, unmasqueraded };
  const missing = [
    networks.length === 0 && SUBNET_NAMES[4].network,
    subnets.length === 0 && SUBNET_NAMES[4].subnet,
    mtu === undefined && MTU_NAME,
    masquerade === undefined && MASQUERADE_NAME,
  ];
  throw refusal(`is missing ${missing.filter((name) => name !== false).join(', ')}`);
}
