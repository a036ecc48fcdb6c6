// `macspoofchk` as nftables, pure: frames that come in by a pod's port must have the pod's MAC. One rule for all ports,
// and for each two elements: that it is looked at, and its MAC.

import type { Mac } from '../model/ip.ts';
import { type Chain, deviceName, identifier, type NftSet, rule, type Table } from '../model/ruleset.ts';

export const SPOOF_TABLE = { family: 'bridge', name: 'flannel' } as const;

const PORTS = identifier('cni-macspoofchk-ports');
const MACS = identifier('cni-macspoofchk');

const CHAIN: Chain = {
  name: 'cni-macspoofchk',
  base: { type: 'filter', hook: 'prerouting', priority: 'filter', policy: 'accept' },
  rules: [rule`iifname @${PORTS} iifname . ether saddr != @${MACS} drop`],
};

/** A port of a bridge, and the only MAC that is let in by it. */
export interface GuardedPort {
  readonly name: string;
  readonly mac: Mac;
}

/** The table in which these ports are guarded. */
export function spoofTable(ports: readonly GuardedPort[]): Table {
  return {
    ...SPOOF_TABLE,
    chains: [CHAIN],
    sets: [
      { name: PORTS, type: 'ifname', elements: ports.map(({ name }) => deviceName(name)) },
      {
        name: MACS,
        type: 'ifname . ether_addr',
        elements: ports.map(({ name, mac }) => `${deviceName(name)} . ${mac}`),
      },
    ],
  };
}

/** The sets with those of their elements that speak of a port that isn't there. */
export function strayElements(have: Table, isThere: (device: string) => boolean): NftSet[] {
  const device = (element: string): string => /^"([^"]*)"/.exec(element)?.[1] ?? '';
  return have.sets
    .filter(({ name }) => name === PORTS || name === MACS)
    .map((set) => ({ ...set, elements: set.elements.filter((element) => !isThere(device(element))) }))
    .filter(({ elements }) => elements.length > 0);
}
