// Links as rtnetlink messages: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK (linux/if_link.h).

import {
  formatLinkAttrs,
  formatVxlan,
  type LinkAttrs,
  parseBridge,
  parseBridgePort,
  parseInfo,
  parseLinkAttrs,
  parseVxlan,
} from 'netlink/dist/rt/ifla.js';
import { type DeviceFlags, formatLink, parseLink } from 'netlink/dist/rt/gen_structs.js';
import { type AttrStream, putU8 } from 'netlink/dist/structs.js';
import { familyOf, fromBytes, macBytes, macOf, toBytes } from '../model/ip.ts';
import type { BridgeOptions, BridgePortOptions, Link, VethPeer, VxlanOptions } from '../model/state.ts';
import type { HeldNamespace } from './netns.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const HEADER = 16;
/** RTEXT_FILTER_SKIP_STATS: counters are most of a link's message. */
const SKIP_STATS = Buffer.from([8, 0, 0, 0]);
const VETH_INFO_PEER = 1;
const IFLA_BR_NF_CALL_IPTABLES = 36;
const IFLA_BR_NF_CALL_IP6TABLES = 37;
const IFLA_BRPORT_MODE = 4;
const IFLA_BRPORT_ISOLATED = 33;
const IFLA_INFO = { kind: 1, data: 2, slaveKind: 4, slaveData: 5 } as const;
const IFLA_LINKINFO = 18;

/** Gives the index of a device. @throws NetError kernel ENODEV */
export type IndexOf = (name: string) => number;
/** Gives the name of a device, or undefined. */
export type NameOf = (index: number) => string | undefined;

type Nested = (out: AttrStream) => void;

const flagsOf = (link: Link): DeviceFlags => ({
  ...(link.up && { up: true }),
  ...(link.promiscuous && { promisc: true }),
});
const changeOf = (link: Link): DeviceFlags => ({
  ...(link.up !== undefined && { up: true }),
  ...(link.promiscuous !== undefined && { promisc: true }),
});

function general(link: Link, indexOf: IndexOf): LinkAttrs {
  return {
    ...(link.mtu !== undefined && { mtu: link.mtu }),
    ...(link.mac !== undefined && { address: Buffer.from(macBytes(link.mac)) }),
    ...(link.master !== undefined && { master: link.master === null ? 0 : indexOf(link.master) }),
  };
}

/**
 * Creates the link, all in one message: a veth with its peer in another namespace costs no grace period.
 * Equivalent to: ip link add NAME … type KIND …
 */
export function addLink(link: Link, indexOf: IndexOf): Request {
  const attrs = { ifname: link.name, ...general(link, indexOf) };
  const data = creationData(link, indexOf);
  return {
    type: RTM_NEWLINK,
    flags: FLAGS.create | FLAGS.exclusive,
    attempt: `add ${link.kind} link ${link.name}`,
    subject: link.name,
    write(out) {
      out.emit(formatLink({ family: 0, flags: flagsOf(link), change: changeOf(link) }));
      out.emit(formatLinkAttrs(attrs));
      out.push(IFLA_LINKINFO, linkInfo(link.kind, data));
    },
  };
}

function linkInfo(kind: string, data: Nested | undefined): Nested {
  return (info) => {
    info.push(IFLA_INFO.kind, Buffer.from(`${kind}\0`));
    if (data !== undefined) info.push(IFLA_INFO.data, data);
  };
}

function creationData(link: Link, indexOf: IndexOf): Nested | undefined {
  if (link.peer !== undefined) return vethPeer(link.peer);
  if (link.vxlan !== undefined) return vxlan(link.vxlan, indexOf);
  if (link.bridge !== undefined) return bridge(link.bridge);
  return undefined;
}

const vethPeer =
  (peer: VethPeer): Nested =>
  (out) =>
    out.push(VETH_INFO_PEER, (inner) => {
      inner.emit(formatLink({}));
      inner.emit(
        formatLinkAttrs({
          ifname: peer.name,
          ...(peer.mac !== undefined && { address: Buffer.from(macBytes(peer.mac)) }),
          ...(peer.mtu !== undefined && { mtu: peer.mtu }),
          ...(peer.namespace !== undefined && { netNsFd: (peer.namespace as HeldNamespace).fd }),
        }),
      );
    });

function vxlan({ vni, port, local, device, learning, gbp }: VxlanOptions, indexOf: IndexOf): Nested {
  const bigEndianPort = Buffer.from([port >> 8, port & 255]);
  const source =
    local === undefined ? {} : { [familyOf(local) === 4 ? 'local' : 'local6']: Buffer.from(toBytes(local)) };
  const format = formatVxlan({
    id: vni,
    port: bigEndianPort,
    ...source,
    ...(device !== undefined && { link: indexOf(device) }),
    learning: learning === false ? 0 : 1,
    ...(gbp && { gbp: true as const }),
  });
  return (out) => out.emit(format);
}

const bridge =
  ({ nfCallIptables, nfCallIp6tables }: BridgeOptions): Nested =>
  (out) => {
    if (nfCallIptables !== undefined) out.push(IFLA_BR_NF_CALL_IPTABLES, putU8(Number(nfCallIptables)));
    if (nfCallIp6tables !== undefined) out.push(IFLA_BR_NF_CALL_IP6TABLES, putU8(Number(nfCallIp6tables)));
  };

const bridgePort =
  ({ hairpin, isolated }: BridgePortOptions): Nested =>
  (out) => {
    if (hairpin !== undefined) out.push(IFLA_BRPORT_MODE, putU8(Number(hairpin)));
    if (isolated !== undefined) out.push(IFLA_BRPORT_ISOLATED, putU8(Number(isolated)));
  };

/** Alters a link's general attributes and bridge options. Equivalent to: ip link set NAME … */
export function changeLink(link: Link, indexOf: IndexOf): Request {
  const index = indexOf(link.name);
  const attrs = general(link, indexOf);
  return {
    type: RTM_NEWLINK,
    flags: 0,
    attempt: `change link ${link.name}`,
    subject: link.name,
    write(out) {
      out.emit(formatLink({ index, flags: flagsOf(link), change: changeOf(link) }));
      out.emit(formatLinkAttrs(attrs));
      if (link.bridge !== undefined) out.push(IFLA_LINKINFO, linkInfo('bridge', bridge(link.bridge)));
    },
  };
}

/**
 * Sets a link's bridge port options; it must be a port already, which is why this is a message of its own.
 * Equivalent to: ip link set NAME type bridge_slave …
 */
export function changePort(name: string, port: BridgePortOptions, indexOf: IndexOf): Request {
  const index = indexOf(name);
  return {
    type: RTM_NEWLINK,
    flags: 0,
    attempt: `change bridge port ${name}`,
    subject: name,
    write(out) {
      out.emit(formatLink({ index }));
      out.push(IFLA_LINKINFO, (info) => {
        info.push(IFLA_INFO.slaveKind, Buffer.from('bridge\0'));
        info.push(IFLA_INFO.slaveData, bridgePort(port));
      });
    },
  };
}

/** Equivalent to: ip link delete NAME */
export function deleteLink(name: string): Request {
  return linkRequest(RTM_DELLINK, `delete link ${name}`, name, { ifname: name });
}

/** Equivalent to: ip link show NAME */
export function getLink(name: string): Request {
  return linkRequest(RTM_GETLINK, `read link ${name}`, name, { ifname: name, extMask: SKIP_STATS });
}

/** Equivalent to: ip link show, of the link with an index */
export function getLinkByIndex(index: number): Request {
  return linkRequest(RTM_GETLINK, `read link ${index}`, String(index), { extMask: SKIP_STATS }, index);
}

/** Equivalent to: ip link show */
export const listLinks = (): Request => linkRequest(RTM_GETLINK, 'list links', undefined, { extMask: SKIP_STATS });

function linkRequest(type: number, attempt: string, subject: string | undefined, attrs: LinkAttrs, index = 0): Request {
  return {
    type,
    flags: 0,
    attempt,
    subject,
    write(out) {
      out.emit(formatLink({ index }));
      out.emit(formatLinkAttrs(attrs));
    },
  };
}

/** The name and index in a link's message: all that {@link NameOf} needs. */
export function identityOf(reply: Reply): { readonly name: string; readonly index: number } {
  return {
    name: parseLinkAttrs(reply.data.subarray(HEADER)).ifname ?? '',
    index: parseLink(reply.data.subarray(0, HEADER)).index ?? 0,
  };
}

/** A link as the kernel describes it, every field filled in. */
export function readLink(reply: Reply, nameOf: NameOf): Link {
  const header = parseLink(reply.data.subarray(0, HEADER));
  const attrs = parseLinkAttrs(reply.data.subarray(HEADER));
  const info = attrs.linkinfo === undefined ? {} : parseInfo(attrs.linkinfo);
  const kind = info.kind ?? 'device';
  return {
    name: attrs.ifname ?? '',
    kind,
    index: header.index ?? 0,
    up: header.flags?.up === true,
    operational: header.flags?.up === true && header.flags?.running === true,
    promiscuous: header.flags?.promisc === true,
    mtu: attrs.mtu ?? 0,
    master: attrs.master === undefined ? null : (nameOf(attrs.master) ?? null),
    ...(attrs.address?.length === 6 && { mac: macOf(attrs.address) }),
    ...(kind === 'vxlan' && info.data !== undefined && { vxlan: readVxlan(info.data, nameOf) }),
    ...(kind === 'bridge' && info.data !== undefined && { bridge: readBridge(info.data) }),
    ...(info.slaveKind === 'bridge' && info.slaveData !== undefined && { port: readPort(info.slaveData) }),
    ...(kind === 'veth' && attrs.link !== undefined && { peerIndex: attrs.link.readUInt32LE(0) }),
  };
}

function readVxlan(data: Buffer, nameOf: NameOf): VxlanOptions {
  const { id, port, local, local6, link, learning, gbp } = parseVxlan(data);
  const source = local ?? local6;
  return {
    vni: id ?? 0,
    port: port?.readUInt16BE(0) ?? 0,
    local: source === undefined || source.every((byte) => byte === 0) ? undefined : fromBytes(source),
    device: link === undefined || link === 0 ? undefined : nameOf(link),
    learning: learning !== 0,
    gbp: gbp === true,
  };
}

const flag = (value: Buffer | undefined): boolean => value !== undefined && value[0] !== 0;

function readBridge(data: Buffer): BridgeOptions {
  const { nfCallIptables, nfCallIp6tables } = parseBridge(data);
  return { nfCallIptables: flag(nfCallIptables), nfCallIp6tables: flag(nfCallIp6tables) };
}

function readPort(data: Buffer): BridgePortOptions {
  const { mode, isolated } = parseBridgePort(data);
  return { hairpin: mode === 1, isolated: flag(isolated) };
}
