// The table `inet flannel-policy`. Pure.
//
// Its one base chain hangs on the forward hook: what this node sends to its own pods, or they to it, never comes by,
// services are translated already and masquerading has not happened. At -5 it comes after kube-proxy's nftables mode
// (-110, -100), whose answers for services without endpoints pods still get, and before iptables and Docker (0) and
// firewalld (+10), whose logs and counters should not see what is dropped. A drop anywhere is final, and so is no
// accept: the order decides nothing else.
//
// A flow that has been allowed carries a stamp in its conntrack mark: the generation of the ruleset that allowed it. While
// that is in force its packets pass with one comparison. A ruleset that allows less has the next generation, in the same
// transaction: then the next packet of every flow, whichever end sends it, is judged anew, and what isn't allowed any more is
// dropped above everything that would let it pass as established. When it is allowed again, it is stamped again.

import { FAMILIES, familyOf, type Family, type Ip } from '../../model/ip.ts';
import {
  type BaseChain,
  type Chain,
  comment,
  type Identifier,
  identifier,
  type NftSet,
  type Rule,
  rule,
  type Table,
} from '../../model/ruleset.ts';
import type { Compiled } from './compile.ts';
import { DIRECTIONS, type Direction } from './objects.ts';
import { deniedChain, replyChain } from './profile.ts';

export const POLICY_TABLE = { family: 'inet', name: 'flannel-policy' } as const;

/** The bits of the conntrack mark that hold the stamp; the others are other people's. */
export const STAMP_MASK = 0xff000000;
/** Stamps go from 1 to this. */
export const LAST_STAMP = 255;

/**
 * What becomes of flows that a stricter policy no longer allows. `keep`: they go on. `cut`: they end; `stamp` undefined
 * while the stamps of an earlier time have not been taken off yet: then every packet is judged.
 */
export type Established = { readonly mode: 'keep' } | { readonly mode: 'cut'; readonly stamp: number | undefined };

const BASE: BaseChain = { type: 'filter', hook: 'forward', priority: 'filter - 5', policy: 'accept' };
const REPLIES = identifier('replies');

/** The whole table that is to be in force. */
export function policyTable(compiled: Compiled, established: Established): Table {
  return {
    ...POLICY_TABLE,
    chains: [
      ...DIRECTIONS.flatMap((direction) => deniedChains(direction, compiled.logged)),
      ...compiled.profiles.flatMap(({ chains }) => chains),
      ...flowChains(established),
    ],
    sets: [
      ...FAMILIES.flatMap((family) => addressSets(family, compiled, established)),
      ...compiled.profiles.flatMap(({ sets }) => sets),
    ],
  };
}

/** The same table with another stamp; what has nothing to do with stamps are the same objects. */
export function restamped(table: Table, established: Established): Table {
  const chains = new Map(flowChains(established).map((chain) => [chain.name, chain]));
  return { ...table, chains: table.chains.map((chain) => chains.get(chain.name) ?? chain) };
}

/** The chains that a stamp stands in. */
const flowChains = (established: Established): Chain[] => [
  ...(established.mode === 'cut' ? [{ name: REPLIES, rules: judge(true, established) }] : []),
  forwardChain(established),
];

const keyword = (family: Family): Identifier => identifier(family === 4 ? 'ip' : 'ip6');
const isolatedSet = (family: Family): Identifier => identifier(`isolated${family}`);
const selfSet = (family: Family): Identifier => identifier(`self${family}`);
const mapName = (direction: Direction, isReply: boolean, family: Family): Identifier =>
  identifier(`${direction}${isReply ? '-reply' : ''}${family}`);

/** The set whose elements, the addresses of isolated pods, count what is dropped because of their policies. */
export const deniedSet = (direction: Direction, family: Family): Identifier =>
  identifier(`denied-${direction}${family}`);

/** The number of the netlink group that samples of what is dropped go to. */
export const LOG_GROUP = 4074;
/** So many a second, and at first, whatever is dropped: logging must not become the load. */
const [LOG_RATE, LOG_BURST] = [20, 40];
/** Bytes of a packet that are logged: both headers. */
export const LOG_BYTES = 128;

/** Nobody can forbid a pod to talk to itself. All else that comes here is dropped, counted at the pod whose policies say so. */
function deniedChains(direction: Direction, logged: boolean): Chain[] {
  const own = FAMILIES.map(
    (family) => rule`${keyword(family)} saddr . ${keyword(family)} daddr @${selfSet(family)} return`,
  );
  return [false, true].map((isReply) => {
    const name = isReply ? replyChain(deniedChain(direction)) : deniedChain(direction);
    const side = identifier((direction === 'egress') !== isReply ? 'saddr' : 'daddr');
    const log = rule`limit rate ${LOG_RATE}/second burst ${LOG_BURST} packets log prefix ${comment(name)} group ${LOG_GROUP} snaplen ${LOG_BYTES}`;
    const counts = FAMILIES.map((family) => rule`${keyword(family)} ${side} @${deniedSet(direction, family)}`);
    return { name, rules: [...own, ...(logged ? [log] : []), ...counts, rule`drop`] };
  });
}

function forwardChain(established: Established): Chain {
  const strangers = FAMILIES.map((family) => {
    const [ip, isolated] = [keyword(family), isolatedSet(family)];
    return rule`${ip} saddr != @${isolated} ${ip} daddr != @${isolated} return`;
  });
  // Neighbour discovery of pods on one bridge; conntrack doesn't know it. What comes over a router has fewer hops left, and is
  // none (RFC 4861, 6.1 and 7.1).
  const neighbours = rule`icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } ip6 hoplimit 255 return`;
  return {
    name: 'forward',
    base: BASE,
    rules: [
      ...allowedFlows(established),
      ...strangers,
      neighbours,
      ...knownFlows(established),
      ...judge(false, established),
    ],
  };
}

/** First of all, since most packets are of such a flow. */
function allowedFlows(established: Established): Rule[] {
  if (established.mode === 'keep') return [rule`ct state established,related return`];
  const { stamp } = established;
  return stamp === undefined ? [] : [rule`ct mark & ${STAMP_MASK} == ${markOf(stamp)} return`];
}

function knownFlows({ mode }: Established): Rule[] {
  return mode === 'keep' ? [] : [rule`ct state related return`, rule`ct direction reply goto ${REPLIES}`];
}

const markOf = (stamp: number): number => stamp * 2 ** 24;

/** A packet passes when neither end's policies drop it. What conntrack doesn't know is judged as a flow that begins. */
function judge(isReply: boolean, established: Established): Rule[] {
  const stamp = established.mode === 'cut' ? established.stamp : undefined;
  const lookups = (['egress', 'ingress'] as const).flatMap((direction) => {
    const side = identifier((direction === 'egress') !== isReply ? 'saddr' : 'daddr');
    return FAMILIES.map((family) => rule`${keyword(family)} ${side} vmap @${mapName(direction, isReply, family)}`);
  });
  if (stamp === undefined) return lookups;
  return [...lookups, rule`ct mark set ct mark & ${2 ** 24 - 1} | ${markOf(stamp)}`];
}

function addressSets(family: Family, { chains, pods }: Compiled, { mode }: Established): NftSet[] {
  const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const ofFamily = (address: Ip) => familyOf(address) === family;
  const isolated = new Set(DIRECTIONS.flatMap((direction) => [...chains[direction].keys()]).filter(ofFamily));
  const own = pods.map((addresses) => addresses.filter((address) => isolated.has(address)));
  const self = own.flatMap((addresses) => addresses.flatMap((from) => addresses.map((to) => `${from} . ${to}`)));
  const map = (direction: Direction, isReply: boolean): NftSet => ({
    name: mapName(direction, isReply, family),
    type,
    gives: 'verdict',
    elements: [...chains[direction]]
      .filter(([address]) => ofFamily(address))
      .map(([address, chain]) => `${address} : jump ${isReply ? replyChain(chain) : chain}`),
  });
  return [
    { name: isolatedSet(family), type, elements: [...isolated] },
    ...DIRECTIONS.map((direction) => ({
      name: deniedSet(direction, family),
      type,
      counted: true,
      elements: [...chains[direction].keys()].filter(ofFamily),
    })),
    { name: selfSet(family), type: `${type} . ${type}`, elements: self },
    ...DIRECTIONS.flatMap((direction) => [map(direction, false), ...(mode === 'cut' ? [map(direction, true)] : [])]),
  ];
}
