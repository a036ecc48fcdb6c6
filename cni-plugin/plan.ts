// What an attachment is, as plain values: the bridge, the host's end of the veth pair and the pod's namespace, from the
// configuration and the addresses. ADD applies these, CHECK compares them with what is there. Pure.

import type { IpamResult } from '../ipam/verbs.ts';
import type { CniRoute } from '../model/cni.ts';
import { NetError } from '../model/errors.ts';
import {
  addressOf,
  contains,
  defaultPrefix,
  type Family,
  familyOf,
  firstOf,
  type Ip,
  lengthOf,
  type Mac,
  plus,
  type Prefix,
  withLength,
} from '../model/ip.ts';
import type { Table } from '../model/ruleset.ts';
import { type Address, EMPTY_STATE, type Link, type Namespace, type State, type Sysctl } from '../model/state.ts';
import type { BridgeConfig } from './config.ts';
import { masqueradeTable } from './masquerade.ts';
import { bridgeMac } from './names.ts';
import type { CniAddress } from './result.ts';
import { planRoutedHost, routedEnd, routedPod, withLinkGateways } from './routed.ts';
import { podRoutes } from './routes.ts';
import { FILTERED } from './sources.ts';

/** The two ends of a pod's veth pair. */
export interface Ends {
  readonly host: string;
  /** Undefined: any, for what another program attached. */
  readonly hostMac: Mac | undefined;
  readonly pod: string;
  readonly podMac: Mac | undefined;
}

type Addresses = Pick<IpamResult, 'ips' | 'routes'>;

const familiesIn = (ips: Addresses['ips']): Family[] => [...new Set(ips.map(({ address }) => familyOf(address)))];

/** What the configuration adds: a gateway for each address, and a default route for each family that has none. */
export function withGateways(config: BridgeConfig, given: IpamResult): IpamResult {
  if (config.mode === 'routed') return withLinkGateways(config, given);
  const { ips, routes, dns } = given;
  const complete = ips.map(({ address, gateway }) => ({
    address,
    gateway: gateway ?? (config.isGateway ? plus(firstOf(address), 1n) : undefined),
  }));
  const defaults = familiesIn(config.isDefaultGateway ? ips : []).flatMap((family): CniRoute[] => {
    const dst = defaultPrefix(family);
    const gw = gatewayFor(complete, family);
    const isThere = routes.some((route) => route.dst === dst && route.gw !== undefined);
    return isThere || gw === undefined ? [] : [{ dst, gw }];
  });
  return { ips: complete, routes: [...routes, ...defaults], dns };
}

/** The gateway of the family's first address. */
export const gatewayFor = (ips: readonly Pick<CniAddress, 'address' | 'gateway'>[], family: Family): Ip | undefined =>
  ips.find(({ address }) => familyOf(address) === family)?.gateway;

/** The gateways' addresses on the bridge. */
export function gatewayAddresses(config: BridgeConfig, ips: Addresses['ips']): Address[] {
  const gateways = ips.flatMap(({ address, gateway }) =>
    config.isGateway && gateway !== undefined ? [withLength(gateway, lengthOf(address))] : [],
  );
  return [...new Set(gateways)].map((address) => gatewayAddress(config.bridge, address));
}

const gatewayAddress = (device: string, address: Prefix): Address =>
  familyOf(address) === 6 ? { device, address, noDad: true } : { device, address };

/**
 * The bridge with its addresses, and the host's forwarding. MAC and MTU are for its creation. `filtered`: what the bridge
 * forwards by itself goes by the inet hooks, where policies are, whatever the sysctl says.
 */
export function planBridge(config: BridgeConfig, ips: Addresses['ips'], filtered: boolean): State {
  const { bridge, mtu, isGateway, promiscuous } = config;
  const addresses = gatewayAddresses(config, ips);
  const mac = bridgeMac(
    bridge,
    addresses.map(({ address }) => addressOf(address)),
  );
  const families = familiesIn(ips);
  return {
    ...EMPTY_STATE,
    links: [
      {
        name: bridge,
        kind: 'bridge',
        up: true,
        mac,
        mtu,
        ...(promiscuous && { promiscuous }),
        ...(filtered && { bridge: FILTERED }),
      },
    ],
    addresses,
    sysctls: [
      // A rogue advertisement from a pod must not become the host's route (CVE-2020-10749).
      { key: `net/ipv6/conf/${bridge}/accept_ra`, value: '0' },
      ...(families.includes(6) ? bridgeIpv6(bridge) : []),
      ...(isGateway ? families.map((family) => FORWARDING[family]) : []),
    ],
  };
}

/** Until a link-local address is known to be nobody else's, the host can't ask pods for their MAC. */
const bridgeIpv6 = (bridge: string): Sysctl[] => [
  { key: `net/ipv6/conf/${bridge}/disable_ipv6`, value: '0' },
  { key: `net/ipv6/conf/${bridge}/accept_dad`, value: '0' },
];

const FORWARDING: Record<Family, Sysctl> = {
  4: { key: 'net/ipv4/ip_forward', value: '1' },
  6: { key: 'net/ipv6/conf/all/forwarding', value: '1' },
};

/** Whether the setting lets the host forward, as opposed to one of the bridge's own. */
export const isForwarding = ({ key }: Sysctl): boolean => Object.values(FORWARDING).some((each) => each.key === key);

/** The host's side of a pair without a bridge, and the host's forwarding. */
export const planHost = (ends: Ends, ips: Addresses['ips']): State =>
  planRoutedHost(
    ends,
    ips,
    familiesIn(ips).map((family) => FORWARDING[family]),
  );

/** The host's device by which a pod is reached, given the host's end. */
export const wayTo = ({ mode, bridge }: BridgeConfig, hostEnd: string | undefined) =>
  mode === 'routed' ? { device: hostEnd, isBridge: false } : { device: bridge, isBridge: true };

/** What of the plan applies to a bridge that is there: what it was created with stays. */
export function settled(want: State, have: State): State {
  const links = want.links.map(({ mac, mtu, ...rest }) =>
    have.links.some(({ name }) => name === rest.name) ? rest : { ...rest, mac, mtu },
  );
  return { ...want, links };
}

/**
 * Addresses on the bridge that can't stay beside the wanted ones: in IPv4 any other, in IPv6 one whose subnet overlaps.
 * @throws NetError foreign-object when the device is no bridge, or for such an address unless the configuration says
 * `forceAddress`
 */
export function conflicts({ bridge, forceAddress }: BridgeConfig, have: State, want: State): Address[] {
  const foreign = have.links.find(({ name, kind }) => name === bridge && kind !== 'bridge');
  if (foreign !== undefined) {
    throw new NetError('foreign-object', `"${bridge}" already exists but is not a bridge`, { subject: bridge });
  }
  const wanted = want.addresses.map(({ address }) => address);
  const clashes = (address: Prefix) =>
    wanted.find(
      (gateway) =>
        familyOf(gateway) === familyOf(address) && (familyOf(address) === 4 || sharesSubnet(address, gateway)),
    );
  const bad = have.addresses.filter(({ address }) => !wanted.includes(address) && clashes(address) !== undefined);
  if (bad.length === 0 || forceAddress) return bad;
  const [first] = bad as [Address];
  throw new NetError(
    'foreign-object',
    `"${bridge}" already has an IP address different from ${clashes(first.address)}`,
    { subject: bridge, details: `it has ${first.address}; forceAddress replaces it` },
  );
}

const sharesSubnet = (a: Prefix, b: Prefix): boolean => contains(a, addressOf(b)) || contains(b, addressOf(a));

/** The nftables table in which the pods' subnets are masqueraded. */
export const planMasquerade = ({ directNetworks }: BridgeConfig, ips: Addresses['ips']): Table =>
  masqueradeTable(
    ips.map(({ address }) => address),
    directNetworks,
  );

/** The host's end, a port of the bridge if there is one. With a namespace: to be created, with its peer born there. */
export function planHostEnd(config: BridgeConfig, ends: Ends, namespace?: Namespace): Link {
  if (config.mode === 'routed') return routedEnd(config, ends, namespace);
  const { bridge, mtu, hairpin, isolated } = config;
  const port = { ...(hairpin && { hairpin }), ...(isolated && { isolated }) };
  return {
    name: ends.host,
    kind: 'veth',
    up: true,
    mac: ends.hostMac,
    mtu,
    master: bridge,
    ...(Object.keys(port).length > 0 && { port }),
    ...(namespace !== undefined && { peer: { name: ends.pod, mac: ends.podMac, mtu, namespace } }),
  };
}

/** The pod's namespace when the veth pair has just been created. */
export const bornPod = ({ pod }: Ends): State => ({
  ...EMPTY_STATE,
  links: [
    { name: 'lo', kind: 'device', up: false },
    { name: pod, kind: 'veth', up: false },
  ],
});

/** The pod's namespace: the interface with addresses and routes. */
export function planPod(config: BridgeConfig, ends: Ends, { ips, routes }: Addresses): State {
  const { pod } = ends;
  const noDad = config.dad ? {} : { noDad: true };
  const plan = {
    ...EMPTY_STATE,
    links: [
      { name: 'lo', kind: 'device', up: true },
      { name: pod, kind: 'veth', up: config.up },
    ],
    addresses: ips.map(({ address }) => ({ device: pod, address, ...(familyOf(address) === 6 && noDad) })),
    routes: podRoutes(routes, pod, (family) => gatewayFor(ips, family)),
    sysctls: podSettings(config, pod, familiesIn(ips)),
  };
  return config.mode === 'routed' ? routedPod(ends, ips, plan) : plan;
}

function podSettings({ dad }: BridgeConfig, pod: string, families: readonly Family[]): Sysctl[] {
  const own = (name: string, value: string) => ({ key: `net/ipv6/conf/${pod}/${name}`, value });
  const always = own('accept_ra', '0');
  if (!families.includes(6)) return [always];
  return [
    always,
    { key: 'net/ipv6/conf/lo/disable_ipv6', value: '0' },
    own('disable_ipv6', '0'),
    own('keep_addr_on_down', '1'),
    own('accept_dad', dad ? '1' : '0'),
    // Until it is done nobody is told of an address; then the kernel does so.
    ...(dad ? [own('enhanced_dad', '1'), own('ndisc_notify', '1')] : []),
  ];
}
