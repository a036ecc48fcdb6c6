// Everything that is decided before the agent touches the host or the lease store: interface, backend, which leftovers are
// ours. A mistake in the configuration ends here, with one clear line and nothing changed.

import { release } from 'node:os';
import type { Kernel } from '../kernel/kernel.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import {
  bitsOf,
  contains,
  defaultPrefix,
  type Family,
  familyOf,
  type Ip,
  lengthOf,
  networkOf,
  type Prefix,
} from '../model/ip.ts';
import { familiesOf, type Lease, type LeaseAttributes, type PerFamily } from '../model/lease.ts';
import { merge, OUR_PROTOCOL, type Route, type State } from '../model/state.ts';
import type { Backend, Site, Underlay } from './backend/backend.ts';
import { foreignKind, openBackend } from './backend/registry.ts';
import { txChecksumFor } from './checksum-offload.ts';
import type { AgentConfig } from './config.ts';
import { chooseUnderlay } from './external-interface.ts';
import type { NetworkConfig } from './network-config.ts';
import { foreignAddress, ourDevices } from './ownership.ts';
import type { Assignment, Snapshot } from './subnet/manager.ts';
import type { PreviousSubnet } from './subnet-file.ts';

export interface Prepared {
  readonly network: NetworkConfig;
  readonly site: Site;
  readonly backend: Backend;
  /** What our lease says. */
  readonly attributes: LeaseAttributes;
  /** Networks whose leftovers are ours: the present ones, and those the subnet file had before. */
  readonly networks: readonly Prefix[];
  /** Devices to look at: the backend's, and those left by another backend or VNI. */
  readonly devices: readonly string[];
  /** Interfaces whose IPv6 default route came by router advertisement. */
  readonly advertised: readonly string[];
  /** What the store said of this node, where it does. */
  readonly assignment: Assignment | undefined;
  /** Our lease as it was stored before this start. */
  readonly stored: Lease | undefined;
  /** Whether pods run in the subnet that the subnet file had before. */
  readonly podsInPrevious: boolean;
}

export interface PrepareInput {
  readonly kernel: Kernel;
  readonly config: Pick<AgentConfig, 'interface' | 'publicIp'> & Partial<Pick<AgentConfig, 'txChecksum'>>;
  readonly network: NetworkConfig;
  readonly nodeId: string;
  /** What the subnet file had before. */
  readonly previous: PreviousSubnet;
  /** What the store held before this start, where it is known. */
  readonly store: Snapshot | undefined;
}

/** @throws NetError no-interface, invalid-network-config, invalid-flag, foreign-object */
export function prepare({ kernel, config, network, nodeId, previous, store }: PrepareInput): Prepared {
  const families = familiesOf(network.families);
  const have = readHost(kernel, [...families, ...previous.networks.map(familyOf)]);
  const choice = { ...config, publicIp: { ...store?.assignment?.publicIp, ...given(config.publicIp) } };
  const underlay = chooseUnderlay(have, families, choice, (address) => kernel.routeTo(kernel.host, address));
  const networks = Object.fromEntries(families.map((family) => [family, network.families[family]?.network]));
  const site: Site = { nodeId, networks, underlay, txChecksum: txChecksumFor(config.txChecksum ?? 'auto', release()) };
  const stored = store && storedLease(store, underlay);
  const backend = openBackend(network.backend.type, {
    options: network.backend.options,
    site,
    have,
    stored,
    lacking: lackedKind(kernel, network.backend.type),
  });
  const ours = [
    ...new Set([...families.map((family) => networks[family] as Prefix), ...previous.networks.map(networkOf)]),
  ];
  refuseForeignDevices(have, backend, ours);
  return {
    network,
    site,
    backend,
    attributes: attributesOf(backend, site),
    networks: ours,
    devices: [...new Set([...backend.devices, ...ourDevices(have, ours)])],
    advertised: advertisedDevices(have),
    assignment: store?.assignment,
    stored,
    podsInPrevious: podsInSubnet(have, previous.subnet),
  };
}

/**
 * The kind of link that a backend would need and the kernel doesn't know. It is asked for one with a name that none can
 * have: the kind is looked at first, and nothing is made.
 */
function lackedKind(kernel: Kernel, type: string): string | undefined {
  const kind = foreignKind(type);
  if (kind === undefined) return undefined;
  const [failure] = kernel.apply(kernel.host, [
    { verb: 'add', item: { type: 'link', value: { name: 'flannel/probe', kind } } },
  ]);
  return failure !== undefined && hasErrno(failure.error, 'ENOTSUP') ? kind : undefined;
}

/** What the operator said on the command line comes before what is said of the node in the store. */
const given = (publicIp: PerFamily<Ip>): PerFamily<Ip> =>
  Object.fromEntries(familiesOf(publicIp).map((family) => [family, publicIp[family]]));

/** Our lease by our identity, else as flannel knows it, by our address. */
const storedLease = ({ own, peers }: Snapshot, underlay: PerFamily<Underlay>): Lease | undefined =>
  own ??
  peers.find(
    (peer) =>
      peer.nodeId === undefined &&
      familiesOf(underlay).some((family) => peer.publicIp[family] === underlay[family]?.publicIp),
  );

/**
 * Routes of the families that count only: a kernel without IPv6 has no table to ask. Those to the peers, of which there may
 * be thousands, say nothing about the host.
 */
export function readHost(kernel: Kernel, families: readonly Family[]): State {
  const routes = { families: [...new Set(families)], withoutGatewaysOf: OUR_PROTOCOL };
  const state = kernel.read(kernel.host, { links: 'all', addresses: 'all', routes });
  const sysctls = defaultRouteDevices(state).map(acceptRa);
  return merge(state, { sysctls: kernel.read(kernel.host, { sysctls }).sysctls });
}

const acceptRa = (device: string): string => `net/ipv6/conf/${device}/accept_ra`;

/** rtm_protocol: made by the kernel itself, learned from a router advertisement. */
const RTPROT_KERNEL = 2;
const RTPROT_RA = 9;

const defaultRouteDevices = ({ routes }: State): string[] => [
  ...new Set(
    routes
      .filter(({ destination, protocol }) => destination === defaultPrefix(6) && protocol === RTPROT_RA)
      .flatMap(({ device }) => device ?? []),
  ),
];

/** Where accept_ra is 0, a program (systemd-networkd) handles advertisements instead of the kernel. */
const advertisedDevices = (have: State): string[] =>
  defaultRouteDevices(have).filter((device) =>
    have.sysctls.some(({ key, value }) => key === acceptRa(device) && value !== '0'),
  );

/** Two agents with one device would take turns at removing each other's entries from it. */
function refuseForeignDevices(have: State, backend: Backend, networks: readonly Prefix[]): void {
  for (const device of backend.devices) {
    const address = foreignAddress(have, device, networks);
    if (address === undefined) continue;
    throw new NetError(
      'foreign-object',
      `device ${device} has the address ${address}, which is in none of ${networks.join(', ')}: another agent's: give this network a Backend.VNI of its own (or, if nothing uses it: ip link delete ${device})`,
      { subject: device },
    );
  }
}

function attributesOf(backend: Backend, site: Site): LeaseAttributes {
  const families = familiesOf(site.underlay);
  return {
    publicIp: Object.fromEntries(families.map((family) => [family, (site.underlay[family] as Underlay).publicIp])),
    backendType: backend.publishedType,
    backendData: backend.backendData,
    nodeId: site.nodeId,
  };
}

/** Whether pods of this host have addresses in the subnet, from all its links, addresses and routes. */
export const podsInSubnet = (have: State, subnet: PerFamily<Prefix>): boolean =>
  familiesOf(subnet).some((family) => podsIn(have, networkOf(subnet[family] as Prefix)));

/** Whether a bridge with an address in the subnet has ports, or a host route leads to a pod in it. */
function podsIn({ links, addresses, routes }: State, subnet: Prefix): boolean {
  const bridges = addresses.filter(({ address }) => contains(subnet, address)).map(({ device }) => device);
  const ports = links.some(({ master }) => typeof master === 'string' && bridges.includes(master));
  return ports || routes.some((route) => isPodRoute(route) && contains(subnet, route.destination));
}

/** A host route to a device; the kernel makes such ones for the host's own IPv6 addresses. */
const isPodRoute = ({ destination, via, protocol }: Route): boolean =>
  via === undefined && protocol !== RTPROT_KERNEL && lengthOf(destination) === bitsOf(familyOf(destination));
