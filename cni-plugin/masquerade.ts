// Masquerading for `ipMasq`, pure: one static chain, and in its sets one element for each masqueraded subnet. The table
// is the agent's `inet flannel`; the names here begin with "cni-", which no owner key of the agent does. Elements belong
// to subnets, not to pods, so DEL leaves them and nothing can leak.

import {
  bitsOf,
  contains,
  FAMILIES,
  type Family,
  familyOf,
  lengthOf,
  addressOf,
  multicast,
  networkOf,
  overlaps,
  type Prefix,
  tryIp,
  tryPrefix,
  hostPrefix,
} from '../model/ip.ts';
import { type Chain, identifier, type NftSet, rule, type Table, type Transaction } from '../model/ruleset.ts';
import { declaration, elements, TABLE, transaction } from './table.ts';

const PROTOCOL = { 4: identifier('ip'), 6: identifier('ip6') };
const TYPE = { 4: 'ipv4_addr', 6: 'ipv6_addr' };

/** Subnets whose traffic is masqueraded. */
const subnets = (family: Family) => identifier(`cni-masquerade-v${family}`);
/** Pairs of subnet and destination that are exempt. */
const direct = (family: Family) => identifier(`cni-direct-v${family}`);

const CHAIN: Chain = {
  name: 'cni-masquerade',
  base: { type: 'nat', hook: 'postrouting', priority: 'srcnat', policy: 'accept' },
  rules: FAMILIES.flatMap((family) => {
    const ip = PROTOCOL[family];
    return [
      rule`${ip} saddr . ${ip} daddr @${direct(family)} return`,
      rule`${ip} saddr @${subnets(family)} ${ip} daddr != ${multicast(family)} masquerade`,
    ];
  }),
};

/** As nft lists it: a host prefix has no length. */
const listed = (prefix: Prefix): string => (lengthOf(prefix) === bitsOf(familyOf(prefix)) ? addressOf(prefix) : prefix);

/**
 * The table in which traffic from these subnets is masqueraded unless it goes to the same subnet, to one of the
 * networks, or to multicast.
 */
export function masqueradeTable(addresses: readonly Prefix[], networks: readonly Prefix[]): Table {
  const wanted = [...new Set(addresses.map(networkOf))];
  return {
    ...TABLE,
    chains: [CHAIN],
    sets: FAMILIES.flatMap((family) => setsOf(family, wanted, networks)),
  };
}

function setsOf(family: Family, wanted: readonly Prefix[], networks: readonly Prefix[]): NftSet[] {
  const own = wanted.filter((subnet) => familyOf(subnet) === family);
  const pairs = own.flatMap((subnet) =>
    destinations(subnet, networks).map((to) => `${listed(subnet)} . ${listed(to)}`),
  );
  return [
    { name: subnets(family), type: TYPE[family], flags: ['interval'], elements: own.map(listed) },
    { name: direct(family), type: `${TYPE[family]} . ${TYPE[family]}`, flags: ['interval'], elements: pairs },
  ];
}

/** Without what lies inside another: nft refuses elements that overlap. */
function destinations(subnet: Prefix, networks: readonly Prefix[]): Prefix[] {
  const all = [...new Set([subnet, ...networks.filter((network) => familyOf(network) === familyOf(subnet))])];
  return all.filter((one) => !all.some((other) => other !== one && contains(other, one)));
}

/** Chain, sets and elements from whatever there is; elements of ours that overlap what is wanted give way. */
export const establish = (have: Table | undefined, want: Table): Transaction =>
  transaction([
    ...declaration(want),
    ...want.sets.flatMap((set) => elements('delete', set, inTheWay(have, set))),
    ...want.sets.flatMap((set) => elements('add', set, set.elements)),
  ]);

function inTheWay(have: Table | undefined, want: NftSet): string[] {
  const present = have?.sets.find(({ name }) => name === want.name)?.elements ?? [];
  return present.filter(
    (element) => !want.elements.includes(element) && want.elements.some((other) => sourcesOverlap(element, other)),
  );
}

/** Whether two elements speak of overlapping subnets: of their first parts. */
function sourcesOverlap(a: string, b: string): boolean {
  const [first, second] = [a, b].map((element) => sourceOf(element.split(' . ')[0] ?? ''));
  return first !== undefined && second !== undefined && overlaps(first, second);
}

function sourceOf(text: string): Prefix | undefined {
  const ip = tryIp(text);
  return ip === undefined ? tryPrefix(text) : hostPrefix(ip);
}
