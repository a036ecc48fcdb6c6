// Peers as VTEPs of one VXLAN segment per family: flannel.<VNI> over IPv4, flannel-v6.<VNI> over IPv6.
//
// No packet is ever flooded and nothing is learned: each peer is a route by the first address of its subnet, a neighbour
// entry that gives that address the peer's VTEP MAC, and a forwarding entry that gives the MAC the peer's public address.
// The history of flannel's other two designs (L3 misses, one big segment) is told at the top of its vxlan.go.

import { createHash } from 'node:crypto';
import { boolean, ethernet, integer, isObject, object, optional, parse, withDefault } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { type Family, firstOf, hostPrefix, type Mac, macBytes, macOf, type Prefix } from '../../model/ip.ts';
import { familiesOf, type Lease, type PerFamily } from '../../model/lease.ts';
import { type Link, OUR_PROTOCOL, type State } from '../../model/state.ts';
import type { Backend, BackendInput, OpenBackend, Peer, Reach, Underlay } from './backend.ts';
import { directRoute } from './host-gw.ts';
import { looseFilter } from './reverse-path.ts';

/** Bytes that VXLAN adds: outer IP header, UDP 8, VXLAN 8, inner Ethernet 14. */
const OVERHEAD: Readonly<Record<Family, number>> = { 4: 20 + 30, 6: 40 + 30 };
/** Smallest MTU of a link: RFC 791 and RFC 8200. */
const LEAST_MTU: Readonly<Record<Family, number>> = { 4: 576, 6: 1280 };
/** The kernel's default port, not IANA's 4789. */
const DEFAULT_PORT = 8472;
const LONGEST_DEVICE_NAME = 15;
/** Peers need not know them, and changing them is at worst a new device within the same run of the loop. */
const LIVE = ['MTU', 'Learning', 'DirectRouting'];

const SHAPE = object({
  Backend: object(
    {
      VNI: withDefault(integer(1, 0xffffff), 1),
      Port: withDefault(integer(0, 65_535), 0),
      MTU: withDefault(integer(0, 65_535), 0),
      Learning: withDefault(boolean, false),
      GBP: withDefault(boolean, false),
      DirectRouting: withDefault(boolean, false),
    },
    { anyCase: true },
  ),
});

type Options = NonNullable<NonNullable<ReturnType<typeof SHAPE>>['Backend']>;

/** What a peer publishes. flannel's JSON: {"VNI":1,"VtepMAC":"e2:5a:84:0d:d0:bb"}; old versions leave VNI out. */
const PEER_DATA = object({ VNI: optional(integer(0, 0xffffff)), VtepMAC: ethernet }, { anyCase: true });

/** One family's device. */
interface Vtep {
  readonly device: string;
  readonly mac: Mac;
  readonly mtu: number;
  readonly underlay: Underlay;
}

/** A device for each family of the underlay. @throws NetError invalid-network-config */
export const openVxlan: OpenBackend = (input) => {
  const options = parse({ Backend: input.options }, SHAPE, 'network configuration', 'invalid-network-config')
    .Backend as Options;
  const families = familiesOf(input.site.underlay);
  const vteps: PerFamily<Vtep> = Object.fromEntries(families.map((family) => [family, vtepOf(family, options, input)]));
  const each = families.map((family) => vteps[family] as Vtep);
  return {
    type: 'vxlan',
    options: { ...options, Port: options.Port || DEFAULT_PORT },
    live: LIVE,
    publishedType: 'vxlan',
    backendData: Object.fromEntries(
      families.map((family) => [family, { VNI: options.VNI, VtepMAC: (vteps[family] as Vtep).mac }]),
    ),
    mtu: Math.min(...each.map(({ mtu }) => mtu)),
    devices: each.map(({ device }) => device),
    port: options.Port || DEFAULT_PORT,
    base: (self) => baseState(self, vteps, options, input.site.txChecksum),
    echoes: ({ subnet }) => firstOf(subnet),
    reach: (peer) => reachByVtep(peer, vteps[peer.family] as Vtep, options),
  } satisfies Backend;
};

function vtepOf(family: Family, options: Options, input: BackendInput): Vtep {
  const device = `${family === 4 ? 'flannel' : 'flannel-v6'}.${options.VNI}`;
  if (device.length > LONGEST_DEVICE_NAME)
    throw invalid(`VNI: ${options.VNI} makes the device name ${device} too long`);
  const underlay = input.site.underlay[family] as Underlay;
  // The kernel refuses a device that carries more than its underlay.
  const mtu = Math.min(options.MTU || underlay.mtu, underlay.mtu) - OVERHEAD[family];
  if (mtu < LEAST_MTU[family]) {
    throw invalid(
      `MTU: ${mtu + OVERHEAD[family]}${options.MTU === mtu + OVERHEAD[family] ? '' : ` of ${underlay.device}`} leaves ${mtu} bytes for IPv${family} packets of pods`,
    );
  }
  return { device, mtu, underlay, mac: macFor(family, device, options.VNI, input) };
}

const invalid = (problem: string): NetError =>
  new NetError('invalid-network-config', `network configuration: Backend.${problem}`, { subject: 'Backend' });

/**
 * The MAC that peers know already, if any, whatever udev made of the device meanwhile; else one that this node, by the
 * identity that it keeps in a file, always comes to.
 */
function macFor(family: Family, device: string, vni: number, { have, stored, site }: BackendInput): Mac {
  const existing = () => have.links.find(({ name, kind }) => name === device && kind === 'vxlan')?.mac;
  return (
    peerData(stored?.backendData[family])?.VtepMAC ??
    existing() ??
    derivedMac(`${site.nodeId} vxlan ${vni} IPv${family}`)
  );
}

/** A locally administered unicast address (IEEE 802, bits 1 and 0 of the first byte). */
function derivedMac(seed: string): Mac {
  const bytes = createHash('sha256').update(seed).digest().subarray(0, 6);
  bytes[0] = ((bytes[0] as number) & 0xfc) | 0x02;
  return macOf(bytes);
}

function baseState(
  self: Lease,
  vteps: PerFamily<Vtep>,
  options: Options,
  txChecksum: boolean | undefined,
): Partial<State> {
  const families = familiesOf(vteps).filter((family) => self.subnet[family] !== undefined);
  const each = families.map((family) => ({
    family,
    ...(vteps[family] as Vtep),
    subnet: self.subnet[family] as Prefix,
  }));
  return {
    links: each.map((vtep) => ({ ...deviceOf(vtep, options), ...(txChecksum !== undefined && { txChecksum }) })),
    sysctls: each.flatMap(({ family, device }) => [
      // Peers' advertisements would give the device addresses and default routes of its own.
      { key: `net/ipv6/conf/${device}/accept_ra`, value: '0' },
      ...(family === 4 ? [looseFilter(device)] : []),
    ]),
    addresses: each.map(({ family, device, subnet }) => ({
      device,
      address: hostPrefix(firstOf(subnet)),
      ...(family === 6 && { noDad: true }),
    })),
  };
}

const deviceOf = ({ device, mac, mtu, underlay }: Vtep, { VNI, Port, Learning, GBP }: Options): Link => ({
  name: device,
  kind: 'vxlan',
  up: true,
  mac,
  mtu,
  vxlan: {
    vni: VNI,
    port: Port || DEFAULT_PORT,
    local: underlay.address,
    device: underlay.device,
    learning: Learning,
    gbp: GBP,
  },
});

function reachByVtep(peer: Peer, vtep: Vtep, options: Options): Reach {
  if (options.DirectRouting && peer.onLink()) return { state: { routes: [directRoute(peer, vtep.underlay)] } };
  const data = peerData(peer.data);
  if (data === undefined)
    return { refused: `publishes no usable VtepMAC for IPv${peer.family}: ${JSON.stringify(peer.data ?? null)}` };
  if (data.VNI !== undefined && data.VNI !== options.VNI)
    return { refused: `has VNI ${data.VNI}, we have ${options.VNI}` };
  if (data.VtepMAC === vtep.mac) return { refused: `publishes our own VtepMAC ${vtep.mac}` };
  return { state: tunnelState(peer, vtep.device, data.VtepMAC) };
}

function tunnelState({ subnet, publicIp }: Peer, device: string, mac: Mac): Partial<State> {
  const gateway = firstOf(subnet);
  return {
    fdb: [{ device, mac, destination: publicIp }],
    neighbours: [{ device, ip: gateway, mac }],
    routes: [{ destination: subnet, via: gateway, device, onlink: true, protocol: OUR_PROTOCOL }],
  };
}

function peerData(data: unknown): { readonly VNI: number | undefined; readonly VtepMAC: Mac } | undefined {
  if (!isObject(data)) return undefined;
  const problems: string[] = [];
  const parsed = PEER_DATA(data, '', problems);
  if (problems.length > 0 || parsed?.VtepMAC === undefined || !isUnicast(parsed.VtepMAC)) return undefined;
  return { VNI: parsed.VNI, VtepMAC: parsed.VtepMAC };
}

/** The zero address is the entry for whatever has none of its own: it would draw every peer's packets. */
const isUnicast = (mac: Mac): boolean => mac !== '00:00:00:00:00:00' && ((macBytes(mac)[0] as number) & 1) === 0;
