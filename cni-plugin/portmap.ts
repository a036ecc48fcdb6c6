// Host ports as nftables, pure. A port is one element of a map, whose key is the port: the newest attachment that asks
// for it has it, and which attachment has it shows in the value.
//
// A connection to a local address is sent on to the pod by prerouting, or by output if it begins on this host. Its source
// stays what it is, but where the answer would not come back this way: from 127.0.0.1; from the pod to itself; and where
// it leaves by the bridge it came in by, since pods answer each other past the host (unless the bridge hands its frames
// to these chains anyway; those have no incoming device here).

import { boolean, list, object, optional, string } from '../model/check.ts';
import { contains, FAMILIES, type Family, familyOf, type Ip, type Prefix } from '../model/ip.ts';
import {
  type Chain,
  deviceName,
  identifier,
  type NftCommand,
  type NftSet,
  rule,
  type Table,
} from '../model/ruleset.ts';
import type { Sysctl } from '../model/state.ts';
import { HOST_PORT, type HostPort } from './portmap-config.ts';
import { elements, TABLE } from './table.ts';

const PROTOCOL = { 4: identifier('ip'), 6: identifier('ip6') };
const TYPE = { 4: 'ipv4_addr', 6: 'ipv6_addr' };
const LOOPBACK = '127.0.0.0/8' as Prefix;
const LOOPBACK6 = '::1' as Ip;

/** protocol . port : pod . port */
const anyAddress = (family: Family) => identifier(`cni-hostport-v${family}`);
/** address . protocol . port : pod . port */
const oneAddress = (family: Family) => identifier(`cni-hostip-v${family}`);
/** pod . pod */
const selves = (family: Family) => identifier(`cni-hairpin-v${family}`);
/** bridge . bridge */
const BRIDGES = identifier('cni-hairpin-bridge');
const TRANSLATE = identifier('cni-hostport');

/** In nft's own words: 2 is a local address (RTN_LOCAL), 0x20 a flow whose destination was translated (IPS_DST_NAT). */
const CHAINS: readonly Chain[] = [
  {
    name: TRANSLATE,
    rules: FAMILIES.flatMap((family) => {
      const ip = PROTOCOL[family];
      return [
        rule`dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @${oneAddress(family)}`,
        rule`dnat ${ip} to meta l4proto . th dport map @${anyAddress(family)}`,
      ];
    }),
  },
  {
    name: 'cni-hostport-prerouting',
    base: { type: 'nat', hook: 'prerouting', priority: 'dstnat', policy: 'accept' },
    rules: [rule`fib daddr type 2 jump ${TRANSLATE}`],
  },
  {
    name: 'cni-hostport-output',
    base: { type: 'nat', hook: 'output', priority: '-100', policy: 'accept' },
    // The kernel can't take an answer for ::1 from a device: refused at once, a client goes on to 127.0.0.1.
    rules: [rule`ip6 daddr ${LOOPBACK6} return`, rule`fib daddr type 2 jump ${TRANSLATE}`],
  },
  {
    name: 'cni-hostport-postrouting',
    base: { type: 'nat', hook: 'postrouting', priority: 'srcnat', policy: 'accept' },
    rules: [
      // The set's elements are pairs of the same address.
      rule`ip saddr ${LOOPBACK} ip daddr . ip daddr @${selves(4)} masquerade`,
      ...FAMILIES.map((family) => {
        const ip = PROTOCOL[family];
        return rule`${ip} saddr . ${ip} daddr @${selves(family)} masquerade`;
      }),
      rule`ct status 0x20 iifname . oifname @${BRIDGES} masquerade`,
    ],
  },
  {
    // With route_localnet the kernel lets neighbours talk to 127.0.0.1 (CVE-2020-8558).
    name: 'cni-hostport-guard',
    base: { type: 'filter', hook: 'prerouting', priority: 'raw', policy: 'accept' },
    rules: [rule`iifname != "lo" ip daddr ${LOOPBACK} drop`, rule`iifname != "lo" ip saddr ${LOOPBACK} drop`],
  },
];

/** All that is to be known of an attachment's ports, whatever becomes of its configuration. */
export interface PortPlan {
  readonly ports: readonly HostPort[];
  /** The device the pods are reached by; undefined: the host has none that leads there. */
  readonly device?: string | undefined;
  readonly isBridge: boolean;
  /** Whether hairpins over the ports are masqueraded. */
  readonly snat: boolean;
}

/** The plan as a record keeps it. */
export const PORT_PLAN = object({
  ports: list(HOST_PORT),
  device: optional(string),
  isBridge: boolean,
  snat: boolean,
});

/** The table in which the ports lead to their pods. */
export function portTable({ ports, device, isBridge, snat }: PortPlan): Table {
  const bridges =
    device !== undefined && snat && isBridge && ports.length > 0
      ? [`${deviceName(device)} . ${deviceName(device)}`]
      : [];
  return {
    ...TABLE,
    chains: CHAINS,
    sets: [
      ...FAMILIES.flatMap((family) => setsOf(family, ports, snat)),
      { name: BRIDGES, type: 'ifname . ifname', elements: bridges },
    ],
  };
}

function setsOf(family: Family, ports: readonly HostPort[], snat: boolean): NftSet[] {
  const own = ports.filter(({ address }) => familyOf(address) === family);
  const [any, one] = [
    own.filter(({ hostIP }) => hostIP === undefined),
    own.filter(({ hostIP }) => hostIP !== undefined),
  ];
  const address = TYPE[family];
  const gives = `${address} . inet_service`;
  const pods = snat ? [...new Set(own.map((port) => `${port.address} . ${port.address}`))] : [];
  return [
    { name: anyAddress(family), type: 'inet_proto . inet_service', gives, elements: any.map(element) },
    { name: oneAddress(family), type: `${address} . inet_proto . inet_service`, gives, elements: one.map(element) },
    { name: selves(family), type: `${address} . ${address}`, elements: pods },
  ];
}

const element = ({ protocol, hostPort, hostIP, address, containerPort }: HostPort): string =>
  `${hostIP === undefined ? '' : `${hostIP} . `}${protocol} . ${hostPort} : ${address} . ${containerPort}`;

/** Gives the port to this element, whoever has it. Fails with ENOENT where nobody has. */
export const takeOver = (set: NftSet, one: string): NftCommand[] => [
  ...elements('delete', set, [keyOf(one)]),
  ...elements('add', set, [one]),
];

/**
 * Takes elements out. In one transaction: a port that has become another's refuses to be added with our value (EEXIST),
 * which ends it all; what isn't there is added and goes again.
 */
export const takeOut = (set: NftSet, texts: readonly string[]): NftCommand[] => [
  ...elements('add', set, texts),
  ...elements('delete', set, texts.map(keyOf)),
];

/** A map's element without what it gives. */
const keyOf = (text: string): string => text.split(' : ')[0] as string;

/** The kernel's permission to route 127.0.0.1 by the device; nothing where no port asks for it. */
export const localhostSettings = ({ ports, device, snat }: PortPlan): Sysctl[] =>
  device !== undefined && snat && ports.some(isAtLocalhost)
    ? [{ key: `net/ipv4/conf/${device}/route_localnet`, value: '1' }]
    : [];

const isAtLocalhost = ({ hostIP, address }: HostPort): boolean =>
  familyOf(address) === 4 && (hostIP === undefined || contains(LOOPBACK, hostIP));
