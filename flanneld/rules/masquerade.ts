// Source translation of pod traffic, as flannel's FLANNEL-POSTRTG chain does it, in one base chain per Network.
//
// Kept from flannel: what kube-proxy has marked for its own masquerading is left to it; local pods see who really talks to
// them; pods are hidden behind the node towards the world; what comes to a remote pod from outside the network (this host,
// a NodePort) gets this node's address, because the answer must come back here. flannel's own nftables mode swallows that
// last case with a rule before it, and compares the mark without a mask.
// Destinations that see the addresses of pods by configuration are returned before the masquerading.
// A subnet that pods kept when the Network became another is masqueraded like the Network.
// Different: pod traffic that merely passes between two other nodes keeps its source too.

import { addressOf, bitsOf, contains, familyOf, type Ip, lengthOf, multicast, type Prefix } from '../../model/ip.ts';
import { type Chain, identifier, ownerKey, type Rule, rule } from '../../model/ruleset.ts';

/** The chain's name for a Network: "masquerade-10.5.0.0-16". */
export const masqueradeChainName = (network: Prefix): string => `masquerade-${ownerKey(network)}`;

export interface MasqueradeSettings {
  readonly masqueradeFullyRandom: boolean;
  /** Destinations that see the addresses of pods. */
  readonly unmasqueraded?: readonly Prefix[] | undefined;
}

/**
 * The chain that masquerades a Network's traffic on the node that holds `subnet`. With `masqueradeFullyRandom` the
 * kernel chooses source ports at random, so that two flows never race for one (net/netfilter/nf_nat_core.c).
 */
export function masqueradeChain(network: Prefix, subnet: Prefix, settings: MasqueradeSettings): Chain {
  return {
    name: masqueradeChainName(network),
    base: { type: 'nat', hook: 'postrouting', priority: 'srcnat', policy: 'accept' },
    rules: masqueradeRules(network, subnet, settings),
  };
}

/** As nft lists it: a host prefix has no length. */
const listed = (prefix: Prefix): Ip | Prefix =>
  lengthOf(prefix) === bitsOf(familyOf(prefix)) ? addressOf(prefix) : prefix;

/** In nft's own words, since rules are compared as text: test/root/rules.test.ts lists each as nft prints it. */
function masqueradeRules(
  network: Prefix,
  subnet: Prefix,
  { masqueradeFullyRandom, unmasqueraded = [] }: MasqueradeSettings,
): Rule[] {
  const family = familyOf(network);
  const ip = identifier(family === 4 ? 'ip' : 'ip6');
  const ours = contains(network, subnet) ? [network] : [network, subnet];
  const exempt = unmasqueraded.filter((destination) => familyOf(destination) === family);
  const masqueraded = [
    ...ours.map((source) => rule`${ip} saddr ${source} ${ip} daddr != ${multicast(family)} masquerade`),
    // To pods of other nodes.
    rule`${ip} saddr != ${network} ${ip} daddr ${network} masquerade`,
  ];
  return [
    // KUBE-MARK-MASQ: one bit, beside which others may be set.
    rule`meta mark & 0x00004000 == 0x00004000 return`,
    ...ours.map((source) => rule`${ip} saddr ${source} ${ip} daddr ${network} return`),
    rule`${ip} daddr ${subnet} return`,
    ...exempt.flatMap((destination) =>
      ours.map((source) => rule`${ip} saddr ${source} ${ip} daddr ${listed(destination)} return`),
    ),
    ...masqueraded.map((line) => (masqueradeFullyRandom ? (`${line} fully-random` as Rule) : line)),
  ];
}
