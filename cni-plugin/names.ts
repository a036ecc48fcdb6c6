// Names and Ethernet addresses that follow from what they belong to, so that whoever knows the attachment finds its
// devices, and an address that is used again has the MAC its neighbours remember.

import { hash } from 'node:crypto';
import type { Ip, Mac } from '../model/ip.ts';
import { macOf } from '../model/ip.ts';

/** A pod as Kubernetes names it. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
  /** A name is given again, this never is. Undefined: the runtime doesn't tell, or what it tells is not the API server's. */
  readonly uid?: string | undefined;
}

/** What identifies an attachment on a host. */
export interface AttachmentKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** SHA-256 of the parts; JSON keeps ("ab","c") and ("a","bc") apart. */
const digest = (...parts: readonly (string | number)[]): Buffer => hash('sha256', JSON.stringify(parts), 'buffer');

/** Locally administered and unicast (IEEE 802, the two low bits of the first byte). */
function macFrom(bytes: Buffer): Mac {
  const [first = 0, ...rest] = bytes.subarray(0, 6);
  return macOf(Uint8Array.of((first & 0xfc) | 2, ...rest));
}

/** The host's end: "veth" and 8 hexadecimal digits. Another `salt` gives another name. */
export const hostVethName = ({ network, containerId, ifname }: AttachmentKey, salt: number): string =>
  `veth${digest('veth', network, containerId, ifname, salt).toString('hex').slice(0, 8)}`;

/** By the MAC of the host's end the attachment's own device is told from another of that name. */
export const hostVethMac = ({ network, containerId, ifname }: AttachmentKey): Mac =>
  macFrom(digest('host', network, containerId, ifname));

/** The host's end by the name that is tried first. */
export const hostVeth = (key: AttachmentKey): { readonly name: string; readonly mac: Mac } => ({
  name: hostVethName(key, 0),
  mac: hostVethMac(key),
});

/**
 * The pod's MAC. It follows from the first address: who still has the last user of that address in its neighbour table
 * reaches the new one at once.
 */
export const podMac = (key: AttachmentKey, addresses: readonly Ip[]): Mac =>
  macFrom(
    addresses[0] === undefined
      ? digest('pod', key.network, key.containerId, key.ifname)
      : digest('address', key.network, addresses[0]),
  );

/** The device for what the pod sends, when that is limited: "ifb" and 12 hexadecimal digits. */
export const ifbOf = ({
  network,
  containerId,
  ifname,
}: AttachmentKey): { readonly name: string; readonly mac: Mac } => {
  const bytes = digest('ifb', network, containerId, ifname);
  return { name: `ifb${bytes.toString('hex', 0, 6)}`, mac: macFrom(bytes.subarray(6)) };
};

/**
 * A bridge's MAC. Given explicitly it stays: the kernel would follow the lowest of the ports (br_stp_recalculate_bridge_id),
 * and every pod would have a stale neighbour entry for its gateway.
 */
export const bridgeMac = (name: string, gateways: readonly Ip[]): Mac => macFrom(digest('bridge', name, ...gateways));
