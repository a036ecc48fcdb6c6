// Which sources a port lets in, pure: the tables `flannel-guard`, of family bridge for ports of bridges and of family inet
// for links without one. The rules never change; an attachment adds elements: its port, and with the port and its MAC each
// of its addresses, once as the source of packets and of ARP, once as what neighbour discovery may speak of. An address of
// an attachment is let in by its own port only, whoever else there is. What a bridge hands from port to port must be for the
// one that it goes to: a bridge goes by MACs, policies by addresses, and a frame can have the MAC of one pod with any address.
//
// What policies can't judge doesn't pass: tags of VLANs, other protocols of Ethernet, broadcast and multicast, and IPv6
// between addresses that nobody has given out, but for what neighbour discovery needs.

import { FAMILIES, type Family, familyOf, type Ip, linkLocal, type Mac, toNumber } from '../model/ip.ts';
import {
  type BaseChain,
  type Chain,
  deviceName,
  type Identifier,
  identifier,
  type NftSet,
  type Rule,
  rule,
  type Table,
} from '../model/ruleset.ts';
import type { Link } from '../model/state.ts';
import type { Attachment } from './attachments.ts';
import { podMac } from './names.ts';

/** bridge: before bridges hand packets to the inet hooks. inet: before connection tracking. */
export const GUARD_FAMILIES = ['bridge', 'inet'] as const;
export type GuardFamily = (typeof GUARD_FAMILIES)[number];

export const GUARD_TABLE = 'flannel-guard';

/** A port with what may come in by it. */
export interface GuardedSource {
  readonly family: GuardFamily;
  readonly port: string;
  readonly mac: Mac;
  /** Not empty. */
  readonly addresses: readonly Ip[];
}

/** Undefined for an attachment that has no port of ours, or no address that could be told from a forged one. */
export function sourceOf(record: Attachment): GuardedSource | undefined {
  const { link, bridge, addresses } = record;
  if (link === undefined || addresses.length === 0) return undefined;
  // Records that older agents have written don't name every MAC.
  const mac = record.mac ?? record.routed?.mac ?? record.guardedMac ?? podMac(record, addresses);
  return { family: bridge === undefined ? 'inet' : 'bridge', port: link.name, mac, addresses };
}

/** Of a bridge that hands what it forwards to the inet hooks. */
export const FILTERED: NonNullable<Link['bridge']> = { nfCallIptables: true, nfCallIp6tables: true };

/** Whether a bridge does, in both families. */
export const isFiltered = ({ nfCallIptables, nfCallIp6tables }: NonNullable<Link['bridge']>): boolean =>
  nfCallIptables === true && nfCallIp6tables === true;

const PORTS = identifier('ports');
const SOURCES = { 4: identifier('sources4'), 6: identifier('sources6') };
const TARGETS = identifier('targets6');
const ADDRESSES = { 4: identifier('addresses4'), 6: identifier('addresses6') };

/** The table in which these are guarded. */
export function sourceTable(family: GuardFamily, sources: readonly GuardedSource[]): Table {
  const own = sources.filter((source) => source.family === family);
  return {
    family,
    name: GUARD_TABLE,
    chains: CHAINS[family],
    sets: [portSet(own), targetSet(own), ...FAMILIES.flatMap((each) => addressSets(each, own))],
  };
}

const SETS: ReadonlySet<string> = new Set([
  PORTS,
  TARGETS,
  ...FAMILIES.flatMap((each) => [SOURCES[each], ADDRESSES[each]]),
]);

/** Whether a part of the table by this name holds elements of attachments, as opposed to rules. */
export const isGuardSet = (name: string | undefined): boolean => name !== undefined && SETS.has(name);

const portSet = (sources: readonly GuardedSource[]): NftSet => ({
  name: PORTS,
  type: 'ifname',
  elements: sources.map(({ port }) => deviceName(port)),
});

/** nft has no name for the address that neighbour discovery speaks of: it follows 8 bytes of ICMPv6 (RFC 4861, 4.3). */
const targetSet = (sources: readonly GuardedSource[]): NftSet => ({
  name: TARGETS,
  type: 'typeof iifname . ether saddr . @th,64,128',
  elements: sources.flatMap((source) =>
    addressesOf(source, 6).map((address) => `${placeOf(source)} . 0x${toNumber(address).toString(16)}`),
  ),
});

function addressSets(family: Family, sources: readonly GuardedSource[]): NftSet[] {
  const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  return [
    {
      name: SOURCES[family],
      type: `ifname . ether_addr . ${type}`,
      elements: sources.flatMap((source) =>
        addressesOf(source, family).map((address) => `${placeOf(source)} . ${address}`),
      ),
    },
    {
      name: ADDRESSES[family],
      type,
      elements: sources.flatMap(({ addresses }) => addresses.filter((each) => familyOf(each) === family)),
    },
  ];
}

const placeOf = ({ port, mac }: GuardedSource): string => `${deviceName(port)} . ${mac}`;

/** With the address that the kernel gives itself for neighbour discovery. */
function addressesOf({ mac, addresses }: GuardedSource, family: Family): Ip[] {
  const own = addresses.filter((each) => familyOf(each) === family);
  return family === 6 && own.length > 0 ? [linkLocal(mac), ...own] : own;
}

const ELSEWHERE = identifier('elsewhere');
const FROM = { arp: identifier('from-arp'), 4: identifier('from-ip4'), 6: identifier('from-ip6') };

const TO = { 4: identifier('to-ip4'), 6: identifier('to-ip6') };

const elsewhere = (family: GuardFamily): Chain => ({
  name: ELSEWHERE,
  rules: [
    ...FAMILIES.map((each) => rule`${keyword(each)} saddr @${ADDRESSES[each]} drop`),
    ...(family === 'bridge' ? [rule`arp saddr ip @${ADDRESSES[4]} drop`] : []),
  ],
});

const keyword = (family: Family): Identifier => identifier(family === 4 ? 'ip' : 'ip6');

/** Both of what the frame says and of what ARP says in it. */
const FROM_ARP: Chain = {
  name: FROM.arp,
  rules: [
    rule`iifname . ether saddr . arp saddr ip != @${SOURCES[4]} drop`,
    rule`iifname . arp saddr ether . arp saddr ip != @${SOURCES[4]} drop`,
  ],
};

const FROM_IP4: Chain = {
  name: FROM[4],
  rules: [
    rule`iifname . ether saddr . ip saddr != @${SOURCES[4]} drop`,
    // To all, and to several (linux/if_packet.h).
    rule`meta pkttype { 1, 2 } drop`,
    rule`ip daddr { 224.0.0.0/4, 255.255.255.255 } drop`,
    // Redirect (RFC 792).
    rule`icmp type 5 drop`,
  ],
};

/** Types of ICMPv6 (RFC 2710, 3810, 4861), as nft lists them where names depend on nothing: as numbers, in order. */
const [QUERY, REPORT, DONE, ROUTER_SOLICIT, ROUTER_ADVERT, SOLICIT, ADVERT, REDIRECT, REPORT2] = [
  130, 131, 132, 133, 134, 135, 136, 137, 143,
];

/** Who looks for duplicates of an address asks for it without having one. */
const DUPLICATES: Rule = rule`ip6 saddr :: icmpv6 type ${SOLICIT} iifname . ether saddr . @th,64,128 @${TARGETS} accept`;

const FROM_IP6: Chain = {
  name: FROM[6],
  rules: [
    DUPLICATES,
    rule`iifname . ether saddr . ip6 saddr != @${SOURCES[6]} drop`,
    // One that is cut off before its target is not let in.
    rule`icmpv6 type ${ADVERT} iifname . ether saddr . @th,64,128 @${TARGETS} accept`,
    rule`icmpv6 type { ${REPORT}, ${DONE}, ${ROUTER_SOLICIT}, ${SOLICIT}, ${REPORT2} } accept`,
    rule`icmpv6 type { ${ROUTER_ADVERT}, ${ADVERT}, ${REDIRECT} } drop`,
    rule`ip6 saddr fe80::/10 drop`,
    rule`ip6 daddr { fe80::/10, ff00::/8 } drop`,
  ],
};

/** What a bridge hands on from another port; what the host itself sends doesn't come by. */
const BETWEEN_PORTS: readonly Chain[] = [
  { name: TO[4], rules: [rule`oifname . ether daddr . ip daddr @${SOURCES[4]} accept`, rule`drop`] },
  {
    name: TO[6],
    rules: [
      rule`icmpv6 type { ${QUERY}, ${REPORT}, ${DONE}, ${ROUTER_SOLICIT}, ${ROUTER_ADVERT}, ${SOLICIT}, ${ADVERT}, ${REDIRECT}, ${REPORT2} } accept`,
      rule`ip6 daddr fe80::/10 drop`,
      rule`oifname . ether daddr . ip6 daddr @${SOURCES[6]} accept`,
      rule`drop`,
    ],
  },
  {
    name: 'forward',
    base: { type: 'filter', hook: 'forward', priority: 'filter', policy: 'accept' },
    rules: [
      rule`oifname != @${PORTS} accept`,
      rule`ether type 0x0806 accept`,
      rule`ether type 0x0800 goto ${TO[4]}`,
      rule`ether type 0x86dd goto ${TO[6]}`,
      rule`drop`,
    ],
  },
];

const BASE: Readonly<Record<GuardFamily, BaseChain>> = {
  bridge: { type: 'filter', hook: 'prerouting', priority: 'filter', policy: 'accept' },
  inet: { type: 'filter', hook: 'prerouting', priority: 'raw', policy: 'accept' },
};

/**
 * What the frame itself says: where the kernel has taken a VLAN's tag off already, only that tells of it. In numbers: ARP, IPv4,
 * IPv6 (linux/if_ether.h), and NFPROTO_IPV4 (linux/netfilter.h).
 */
const BY_PROTOCOL: Readonly<Record<GuardFamily, readonly Rule[]>> = {
  bridge: [
    rule`ether type 0x0806 goto ${FROM.arp}`,
    rule`ether type 0x0800 goto ${FROM[4]}`,
    rule`ether type 0x86dd goto ${FROM[6]}`,
    rule`drop`,
  ],
  inet: [rule`meta nfproto 2 goto ${FROM[4]}`, rule`goto ${FROM[6]}`],
};

const chainsOf = (family: GuardFamily): Chain[] => [
  elsewhere(family),
  ...(family === 'bridge' ? [FROM_ARP] : []),
  FROM_IP4,
  FROM_IP6,
  {
    name: 'prerouting',
    base: BASE[family],
    rules: [rule`iifname != @${PORTS} goto ${ELSEWHERE}`, ...BY_PROTOCOL[family]],
  },
  ...(family === 'bridge' ? BETWEEN_PORTS : []),
];

const CHAINS: Readonly<Record<GuardFamily, readonly Chain[]>> = { bridge: chainsOf('bridge'), inet: chainsOf('inet') };
