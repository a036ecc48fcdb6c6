// The text of /run/flannel/subnet.env, byte for byte flannel's (pkg/subnet/subnet.go, WriteSubnetFile): what the CNI
// plugin and Docker read, and what tells a restarted agent which subnet the pods of this node use.

import {
  FAMILIES,
  type Family,
  familyOf,
  firstOf,
  lengthOf,
  networkOf,
  plus,
  type Prefix,
  tryPrefix,
  withLength,
} from '../model/ip.ts';
import { familiesOf, type PerFamily } from '../model/lease.ts';

export interface SubnetEnv {
  /** The pod network of each family. */
  readonly network: PerFamily<Prefix>;
  /** This node's subnet in it, as a network: 10.10.11.0/24. In the file stands its first address, 10.10.11.1/24. */
  readonly subnet: PerFamily<Prefix>;
  /** Of the pods' interfaces, in bytes. */
  readonly mtu: number;
  /** Whether the agent masquerades, so that the plugin doesn't. */
  readonly masquerade: boolean;
  /** Destinations that the plugin doesn't masquerade traffic to either: a line of ours, which flannel's plugin ignores. */
  readonly unmasqueraded?: readonly Prefix[] | undefined;
}

const NAMES: Readonly<Record<Family, { readonly network: string; readonly subnet: string }>> = {
  4: { network: 'FLANNEL_NETWORK', subnet: 'FLANNEL_SUBNET' },
  6: { network: 'FLANNEL_IPV6_NETWORK', subnet: 'FLANNEL_IPV6_SUBNET' },
};

/** The two lines of each family that there is, then MTU and masquerade. */
export function formatSubnetEnv({ network, subnet, mtu, masquerade, unmasqueraded = [] }: SubnetEnv): string {
  const lines = familiesOf(subnet).flatMap((family) => [
    `${NAMES[family].network}=${network[family]}`,
    `${NAMES[family].subnet}=${gatewayOf(subnet[family] as Prefix)}`,
  ]);
  const exempt = unmasqueraded.length === 0 ? [] : [`FLANNEL_NON_MASQUERADE_CIDRS=${unmasqueraded.join(',')}`];
  return [...lines, `FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${masquerade}`, ...exempt, ''].join('\n');
}

/** "10.10.11.0/24" → "10.10.11.1/24" */
const gatewayOf = (subnet: Prefix): Prefix => withLength(plus(firstOf(subnet), 1n), lengthOf(subnet));

/**
 * What the file says, leaving out what can't be understood: a value that is no prefix is as good as none. MTU 0 and no
 * masquerade where the line is missing.
 */
export function parseSubnetEnv(text: string): SubnetEnv {
  const values = new Map(text.split('\n').map((line) => pair(line.trim())));
  const prefixes = (key: 'network' | 'subnet'): PerFamily<Prefix> =>
    Object.fromEntries(
      FAMILIES.flatMap((family) => {
        const prefix = tryPrefix(values.get(NAMES[family][key]));
        return prefix !== undefined && familyOf(prefix) === family ? [[family, networkOf(prefix)]] : [];
      }),
    );
  const mtu = values.get('FLANNEL_MTU') ?? '';
  return {
    network: prefixes('network'),
    subnet: prefixes('subnet'),
    mtu: /^\d{1,5}$/.test(mtu) ? Number(mtu) : 0,
    masquerade: values.get('FLANNEL_IPMASQ') === 'true',
  };
}

function pair(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1).replace(/^(["'])(.*)\1$/, '$2')];
}
