// The leases of the peers that an agent is measured with: subnets, addresses and MACs that are different for each.

import { formatLeaseValue } from '../flanneld/subnet/lease-record.ts';
import { ip, mac } from '../model/ip.ts';

/** Holds 8192 subnets. The agent's own is one of the first that no peer has. */
export const NETWORK = '10.0.0.0/11';
export const CONFIG = { Network: NETWORK, Backend: { Type: 'vxlan' } };
const RESERVED = 200;

export interface PeerLease {
  /** Network address of its /24. */
  readonly subnet: string;
  readonly publicIp: string;
  readonly mac: string;
}

/** The peer of a number from 0. */
export function peerLease(number: number): PeerLease {
  const [high, low] = [number >> 8, number & 255];
  const place = number + RESERVED;
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return {
    subnet: `10.${place >> 8}.${place & 255}.0`,
    publicIp: `172.16.${high}.${low}`,
    mac: `02:11:22:33:${hex(high)}:${hex(low)}`,
  };
}

/** Key and value in etcd. */
export const entryOf = (prefix: string, peer: PeerLease): [key: string, value: string] => [
  `${prefix}/subnets/${peer.subnet}-24`,
  formatLeaseValue({
    publicIp: { 4: ip(peer.publicIp) },
    backendType: 'vxlan',
    backendData: { 4: { VNI: 1, VtepMAC: mac(peer.mac) } },
  }),
];
