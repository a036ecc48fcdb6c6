// Links as rtnetlink messages: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK (linux/if_link.h).

import { formatVxlan, parseVxlan } from 'netlink/dist/rt/ifla.js';
import { type DeviceFlags, formatLink, parseLink } from 'netlink/dist/rt/gen_structs.js';
import { putU8 } from 'netlink/dist/structs.js';
import { familyOf, fromBytes, macBytes, macOf, toBytes } from '../model/ip.ts';
import type { BridgeOptions, BridgePortOptions, Link, VethPeer, VxlanOptions } from '../model/state.ts';
import { attributesOf, cString, type Nested, type Output, textOf, u32 } from './attributes.ts';
import type { HeldNamespace } from './netns.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const HEADER = 16;
/** IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS: counters are most of a link's message. */
const SKIP_STATS: Attribute = [29, u32(8)];
const VETH_INFO_PEER = 1;
const IFLA_BR_NF_CALL_IPTABLES = 36;
const IFLA_BR_NF_CALL_IP6TABLES = 37;
const IFLA_BRPORT_MODE = 4;
const IFLA_BRPORT_ISOLATED = 33;
const IFLA_INFO = { kind: 1, data: 2, slaveKind: 4, slaveData: 5 } as const;
/** linux/if_link.h: IFLA_* */
const IFLA = { address: 1, ifname: 3, mtu: 4, link: 5, master: 10, linkinfo: 18, netNsFd: 28 } as const;

/** An attribute's type and value. */
type Attribute = readonly [type: number, value: Uint8Array];

/** Gives the index of a device. @throws NetError kernel ENODEV */
export type IndexOf = (name: string) => number;
/** Gives the name of a device, or undefined. */
export type NameOf = (index: number) => string | undefined;

const flagsOf = (link: Link): DeviceFlags => ({
  ...(link.up && { up: true }),
  ...(link.promiscuous && { promisc: true }),
});
const changeOf = (link: Link): DeviceFlags => ({
  ...(link.up !== undefined && { up: true }),
  ...(link.promiscuous !== undefined && { promisc: true }),
});

/** Indexes are looked up here, before anything is written: to look one up is a request too. */
function general({ mtu, mac, master }: Link, indexOf: IndexOf): Attribute[] {
  return [
    ...(mtu === undefined ? [] : [[IFLA.mtu, u32(mtu)] as const]),
    ...(mac === undefined ? [] : [[IFLA.address, macBytes(mac)] as const]),
    ...(master === undefined ? [] : [[IFLA.master, u32(master === null ? 0 : indexOf(master))] as const]),
  ];
}

/**
 * Creates the link, all in one message: a veth with its peer in another namespace costs no grace period.
 * Equivalent to: ip link add NAME … type KIND …
 */
export function addLink(link: Link, indexOf: IndexOf): Request {
  const attributes = [nameAttribute(link.name), ...general(link, indexOf)];
  const data = creationData(link, indexOf);
  return {
    type: RTM_NEWLINK,
    flags: FLAGS.create | FLAGS.exclusive,
    attempt: `add ${link.kind} link ${link.name}`,
    subject: link.name,
    write(out) {
      out.emit(formatLink({ family: 0, flags: flagsOf(link), change: changeOf(link) }));
      pushAll(out, attributes);
      out.push(IFLA.linkinfo, linkInfo(link.kind, data));
    },
  };
}

function linkInfo(kind: string, data: Nested | undefined): Nested {
  return (info) => {
    info.push(IFLA_INFO.kind, cString(kind));
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
  ({ name, mac, mtu, namespace }: VethPeer): Nested =>
  (out) =>
    out.push(VETH_INFO_PEER, (inner) => {
      inner.emit(formatLink({}));
      pushAll(inner, [
        nameAttribute(name),
        ...(mac === undefined ? [] : [[IFLA.address, macBytes(mac)] as const]),
        ...(mtu === undefined ? [] : [[IFLA.mtu, u32(mtu)] as const]),
        ...(namespace === undefined ? [] : [[IFLA.netNsFd, u32((namespace as HeldNamespace).fd)] as const]),
      ]);
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
  const attributes = [nameAttribute(link.name), ...general(link, indexOf)];
  return {
    type: RTM_NEWLINK,
    flags: 0,
    attempt: `change link ${link.name}`,
    subject: link.name,
    write(out) {
      out.emit(formatLink({ flags: flagsOf(link), change: changeOf(link) }));
      pushAll(out, attributes);
      if (link.bridge !== undefined) out.push(IFLA.linkinfo, linkInfo('bridge', bridge(link.bridge)));
    },
  };
}

/**
 * Sets a link's bridge port options; it must be a port already, which is why this is a message of its own.
 * Equivalent to: ip link set NAME type bridge_slave …
 */
export function changePort(name: string, port: BridgePortOptions): Request {
  return {
    type: RTM_NEWLINK,
    flags: 0,
    attempt: `change bridge port ${name}`,
    subject: name,
    write(out) {
      out.emit(formatLink({}));
      pushAll(out, [nameAttribute(name)]);
      out.push(IFLA.linkinfo, (info) => {
        info.push(IFLA_INFO.slaveKind, cString('bridge'));
        info.push(IFLA_INFO.slaveData, bridgePort(port));
      });
    },
  };
}

/** Equivalent to: ip link delete NAME */
export function deleteLink(name: string): Request {
  return linkRequest(RTM_DELLINK, `delete link ${name}`, name, [nameAttribute(name)]);
}

/** Equivalent to: ip link show NAME */
export function getLink(name: string): Request {
  return linkRequest(RTM_GETLINK, `read link ${name}`, name, [nameAttribute(name), SKIP_STATS]);
}

/** Equivalent to: ip link show, of the link with an index */
export function getLinkByIndex(index: number): Request {
  return linkRequest(RTM_GETLINK, `read link ${index}`, String(index), [SKIP_STATS], index);
}

/** Equivalent to: ip link show */
export const listLinks = (): Request => linkRequest(RTM_GETLINK, 'list links', undefined, [SKIP_STATS]);

function linkRequest(
  type: number,
  attempt: string,
  subject: string | undefined,
  attributes: readonly Attribute[],
  index = 0,
): Request {
  return {
    type,
    flags: 0,
    attempt,
    subject,
    write(out) {
      out.emit(formatLink({ index }));
      pushAll(out, attributes);
    },
  };
}

const nameAttribute = (name: string): Attribute => [IFLA.ifname, cString(name)];

function pushAll(out: Output, attributes: readonly Attribute[]): void {
  for (const [type, value] of attributes) out.push(type, value);
}

/** The index in a link's message (struct ifinfomsg). */
export const indexIn = (reply: Reply): number => reply.data.readInt32LE(4);

/** The name in a link's message. */
export const nameIn = (reply: Reply): string =>
  textOf(attributesOf(reply.data.subarray(HEADER)).get(IFLA.ifname)) ?? '';

/** A link as the kernel describes it, every field filled in. */
export function readLink(reply: Reply, nameOf: NameOf): Link {
  const { flags, index = 0 } = parseLink(reply.data.subarray(0, HEADER));
  const attributes = attributesOf(reply.data.subarray(HEADER));
  const info = attributesOf(attributes.get(IFLA.linkinfo));
  const kind = textOf(info.get(IFLA_INFO.kind)) ?? 'device';
  const [mac, master, peer] = [IFLA.address, IFLA.master, IFLA.link].map((type) => attributes.get(type));
  const [data, port] = [info.get(IFLA_INFO.data), info.get(IFLA_INFO.slaveData)];
  return {
    name: textOf(attributes.get(IFLA.ifname)) ?? '',
    kind,
    index,
    up: flags?.up === true,
    operational: flags?.up === true && flags?.running === true,
    promiscuous: flags?.promisc === true,
    mtu: attributes.get(IFLA.mtu)?.readUInt32LE() ?? 0,
    master: master === undefined ? null : (nameOf(master.readUInt32LE()) ?? null),
    ...(mac?.length === 6 && { mac: macOf(mac) }),
    ...(kind === 'vxlan' && data !== undefined && { vxlan: readVxlan(data, nameOf) }),
    ...(kind === 'bridge' && data !== undefined && { bridge: readBridge(data) }),
    ...(port !== undefined && textOf(info.get(IFLA_INFO.slaveKind)) === 'bridge' && { port: readPort(port) }),
    ...(kind === 'veth' && peer !== undefined && { peerIndex: peer.readUInt32LE() }),
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

const isSet = (value: Buffer | undefined): boolean => value !== undefined && value[0] !== 0;

function readBridge(data: Buffer): BridgeOptions {
  const options = attributesOf(data);
  return {
    nfCallIptables: isSet(options.get(IFLA_BR_NF_CALL_IPTABLES)),
    nfCallIp6tables: isSet(options.get(IFLA_BR_NF_CALL_IP6TABLES)),
  };
}

function readPort(data: Buffer): BridgePortOptions {
  const options = attributesOf(data);
  return { hairpin: isSet(options.get(IFLA_BRPORT_MODE)), isolated: isSet(options.get(IFLA_BRPORT_ISOLATED)) };
}
