// Forwarded traffic of a Network is accepted: flannel's FLANNEL-FWD chain. An accept here ends this table's say only; where
// another table drops, nothing in ours can help.

import { familyOf, type Prefix } from '../../model/ip.ts';
import { type Chain, identifier, ownerKey, rule } from '../../model/ruleset.ts';

/** The chain's name for a Network: "forward-10.5.0.0-16". */
export const forwardChainName = (network: Prefix): string => `forward-${ownerKey(network)}`;

/** The chain that accepts what a Network's pods send and receive. */
export function forwardChain(network: Prefix): Chain {
  const ip = identifier(familyOf(network) === 4 ? 'ip' : 'ip6');
  return {
    name: forwardChainName(network),
    base: { type: 'filter', hook: 'forward', priority: 'filter', policy: 'accept' },
    rules: [rule`${ip} saddr ${network} accept`, rule`${ip} daddr ${network} accept`],
  };
}
