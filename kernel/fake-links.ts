// Links of the fake kernel: birth, death and whom they take along, and what is read of them (net/core/rtnetlink.c,
// drivers/net/veth.c, drivers/net/vxlan). Changes to a living link are in fake-link-changes.ts.

import { contains, familyOf, type Mac, multicast } from '../model/ip.ts';
import type { Link, Namespace, VethPeer, VxlanOptions } from '../model/state.ts';
import { dropAddresses } from './fake-addresses.ts';
import { attach, checkMac, checkMaster, checkMtu, detach, raise, setPort } from './fake-link-changes.ts';
import { type Device, deviceNamed, findDevice, hasCarrier, type Net, overheadOf, refuse } from './fake-net.ts';
import { dropQdiscs } from './fake-qdiscs.ts';

/** What the kernel can be asked to create; a tun device comes to life by an ioctl. */
const KINDS: readonly string[] = ['bridge', 'veth', 'vxlan', 'ifb'];
const DEFAULT_MTU = 1500;

/** Gives the namespace a veth's peer is born in. */
export type NetOf = (namespace: Namespace) => Net;

/** Equivalent to: ip link add NAME … type KIND … */
export function addLink(net: Net, link: Link, netOf: NetOf): void {
  checkName(link.name);
  if (findDevice(net, link.name) !== undefined) refuse('EEXIST');
  if (!KINDS.includes(link.kind)) refuse('ENOTSUP');
  checkMac(link.mac);
  if (link.mtu !== undefined) checkMtu(link.kind, link.mtu);
  const lower = link.kind === 'vxlan' ? underlayOf(net, link.vxlan) : undefined;
  const master = typeof link.master === 'string' ? deviceNamed(net, link.master) : undefined;
  if (master !== undefined) checkMaster(link.kind, master);
  const peer = link.kind === 'veth' ? bornPeer(net, link, netOf) : undefined;
  const device = born(net, link, { lower, peer });
  if (peer !== undefined) peer.peer = device;
  start(device, link, master);
  if (link.port !== undefined) setPort(device, link.port);
}

/** Still the same message: a link that can't be brought up is not created. */
function start(device: Device, link: Link, master: Device | undefined): void {
  try {
    if (master !== undefined) attach(device, master);
    if (link.up) raise(device);
  } catch (error) {
    vanish(device);
    throw error;
  }
}

type Relatives = Partial<Pick<Device, 'lower' | 'peer'>>;

function born(
  net: Net,
  link: Pick<Link, 'name' | 'kind' | 'mac' | 'mtu' | 'promiscuous' | 'bridge' | 'vxlan' | 'txChecksum'>,
  relatives: Relatives,
): Device {
  const { vxlan, bridge } = link;
  const index = ++net.lastIndex;
  const device: Device = {
    index,
    name: link.name,
    kind: link.kind,
    net,
    up: false,
    mac: link.mac ?? madeUpMac(index),
    mtu: bornMtu(link, relatives.lower),
    promiscuous: link.promiscuous ?? false,
    master: undefined,
    port: undefined,
    bridge:
      link.kind === 'bridge'
        ? { nfCallIptables: bridge?.nfCallIptables ?? false, nfCallIp6tables: bridge?.nfCallIp6tables ?? false }
        : undefined,
    vxlan:
      link.kind === 'vxlan' && vxlan !== undefined
        ? { ...vxlan, learning: vxlan.learning !== false, gbp: vxlan.gbp === true }
        : undefined,
    lower: relatives.lower,
    peer: relatives.peer,
    macChosen: link.mac !== undefined,
    mtuChosen: false,
    settled: link.mac !== undefined,
    ready: false,
    txChecksum: link.txChecksum ?? true,
  };
  net.devices.push(device);
  inheritSettings(device);
  return device;
}

/** Random in the kernel, told apart by the index here. */
const madeUpMac = (index: number): Mac => `fa:4e:00:00:${hex(index >> 8)}:${hex(index & 255)}` as Mac;

const hex = (byte: number): string => (byte & 255).toString(16).padStart(2, '0');

/** A VXLAN never starts above what its underlay carries. */
function bornMtu({ mtu = DEFAULT_MTU, vxlan }: Pick<Link, 'mtu' | 'vxlan'>, lower: Device | undefined): number {
  return lower === undefined || vxlan === undefined ? mtu : Math.min(mtu, lower.mtu - overheadOf(vxlan));
}

function inheritSettings({ net, name }: Device): void {
  for (const [key, value] of [...net.sysctls]) {
    const [, family, conf, which, setting] = key.split('/');
    if (conf === 'conf' && which === 'default') net.sysctls.set(`net/${family}/conf/${name}/${setting}`, value);
  }
}

/** dev_valid_name; what the kernel would expand (%d) is refused here. */
function checkName(name: string): void {
  if (Buffer.byteLength(name) > 15) refuse('ERANGE');
  const odd = [...Buffer.from(name)].some(
    (byte) => byte === 0 || (byte >= 9 && byte <= 13) || byte === 0x20 || byte === 0xa0,
  );
  if (odd || /[/:%]/.test(name) || ['', '.', '..', 'all', 'default'].includes(name)) refuse('EINVAL');
}

function underlayOf(net: Net, vxlan: VxlanOptions | undefined): Device | undefined {
  if (vxlan === undefined) return refuse('EINVAL');
  const lower = vxlan.device === undefined ? undefined : deviceNamed(net, vxlan.device);
  if (vxlan.vni >= 1 << 24) refuse('ERANGE');
  if (vxlan.local !== undefined && contains(multicast(familyOf(vxlan.local)), vxlan.local)) refuse('EINVAL');
  if (net.devices.some((other) => other.vxlan !== undefined && sameSegment(other.vxlan, vxlan))) refuse('EEXIST');
  return lower;
}

/** Received frames must belong to one device: by VNI, UDP port, family and dialect, never by the local address. */
const sameSegment = (a: VxlanOptions, b: VxlanOptions): boolean =>
  a.vni === b.vni && a.port === b.port && (a.gbp ?? false) === (b.gbp ?? false) && overheadOf(a) === overheadOf(b);

function bornPeer(net: Net, link: Link, netOf: NetOf): Device {
  const where = link.peer?.namespace === undefined ? net : netOf(link.peer.namespace);
  const peer: VethPeer = link.peer ?? { name: freeVethName(where) };
  checkName(peer.name);
  if (findDevice(where, peer.name) !== undefined || (where === net && peer.name === link.name)) refuse('EEXIST');
  checkMac(peer.mac);
  if (peer.mtu !== undefined) checkMtu('veth', peer.mtu);
  return born(where, { name: peer.name, kind: 'veth', mac: peer.mac, mtu: peer.mtu }, {});
}

function freeVethName(net: Net): string {
  for (let number = 0; ; number++) if (findDevice(net, `veth${number}`) === undefined) return `veth${number}`;
}

/** A device that no request creates: a physical one, the loopback device. */
export function plug(net: Net, link: Pick<Link, 'name' | 'kind' | 'mac' | 'mtu'>): Device {
  if (findDevice(net, link.name) !== undefined) refuse('EEXIST');
  return born(net, link, {});
}

/** Equivalent to: ip link delete NAME */
export function deleteLink(net: Net, name: string): void {
  const device = deviceNamed(net, name);
  if (device.kind === 'device') refuse('ENOTSUP');
  vanish(device);
}

/** The device leaves, with everything of it, its peer and whatever runs over it; its bridge's ports stay, on their own. */
export function vanish(device: Device): void {
  const { net } = device;
  if (device.master !== undefined) detach(device);
  for (const port of net.devices.filter(({ master }) => master === device)) detach(port);
  dropAddresses(device);
  net.devices = net.devices.filter((other) => other !== device);
  net.fdb = net.fdb.filter((entry) => entry.device !== device);
  dropQdiscs(device);
  for (const key of net.sysctls.keys()) if (key.split('/')[3] === device.name) net.sysctls.delete(key);
  for (const over of net.devices.filter(({ lower }) => lower === device)) vanish(over);
  const { peer } = device;
  device.peer = undefined;
  if (peer?.peer === device) vanish(peer);
}

/** The link as it is read. */
export function readLink(device: Device): Link {
  const { name, kind, index, up, promiscuous, mtu, mac, master, vxlan, bridge, port, peer } = device;
  return {
    name,
    kind,
    index,
    up,
    operational: up && hasCarrier(device),
    promiscuous,
    mtu,
    mac,
    master: master?.name ?? null,
    ...(vxlan !== undefined && { vxlan: { ...vxlan }, txChecksum: device.txChecksum }),
    ...(bridge !== undefined && { bridge: { ...bridge } }),
    ...(port !== undefined && { port: { ...port } }),
    ...(peer !== undefined && { peerIndex: peer.index }),
  };
}
