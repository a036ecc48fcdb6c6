// The rules with which a Network's traffic passes the FORWARD chain of iptables where that drops: an accept in a table of
// ours can't override the drop of another. Two rules, one for each direction, since a rule can't say "from or to"; before
// all others of the chain, and marked by a comment that names the Network. Pure.

import { familyOf, type Prefix } from '../../model/ip.ts';
import { comment, identifier, rule, type Rule } from '../../model/ruleset.ts';
import { type Chains, fateOf, type FilterChain, type FilterRule } from './filter.ts';
import { parseNftRule } from './nft-rule.ts';
import { forwarded, type Site } from './traffic.ts';

export const FORWARD = 'FORWARD';
/** Docker's chain for other people's rules, which FORWARD jumps to before Docker's own, however often Docker starts. */
const DOCKER_USER = 'DOCKER-USER';

/** The comment that says whose a rule is. flannel's is "flanneld forward", without the Network. */
export const markOf = (network: Prefix): string => `flanneld forward ${network}`;

/** The rules in nft's words; `iptables -S` reads them as -s NETWORK and -d NETWORK. */
export const acceptRules = (network: Prefix): Rule[] => {
  const ip = identifier(familyOf(network) === 4 ? 'ip' : 'ip6');
  const mark = comment(markOf(network));
  return [
    rule`${ip} saddr ${network} counter accept comment ${mark}`,
    rule`${ip} daddr ${network} counter accept comment ${mark}`,
  ];
};

/** The same in the words of iptables, after the chain's name. */
export const acceptOptions = (network: Prefix): string[][] =>
  ['-s', '-d'].map((side) => [side, network, '-m', 'comment', '--comment', markOf(network), '-j', 'ACCEPT']);

/** What is to be done to a table: first the deletions, of rules that carry our marks. */
export interface Change {
  readonly remove: readonly Marked[];
  /** Where the Network's rules are put, before all others. */
  readonly insert?: { readonly chain: string; readonly network: Prefix } | undefined;
}

/** A rule with a mark of ours, and where it stands. */
export interface Marked {
  readonly chain: string;
  readonly rule: FilterRule;
}

/** The chains that rules of ours may stand in. */
const placesOf = (chains: Chains): FilterChain[] => [FORWARD, DOCKER_USER].flatMap((name) => chains.get(name) ?? []);

/** Rules with the mark of one of the Networks. */
export function marked(chains: Chains, networks: readonly Prefix[]): Marked[] {
  const marks = new Set(networks.map(markOf));
  return placesOf(chains).flatMap(({ name, rules }) =>
    rules
      .filter((each) => each.comment !== undefined && marks.has(each.comment))
      .map((each) => ({ chain: name, rule: each })),
  );
}

/**
 * What the filter table of a family needs. `site`: undefined where the family has no Network, or its rules are not wanted.
 * `networks`: all whose marks are ours. Undefined: nothing.
 */
export function acceptChange(chains: Chains, site: Site | undefined, networks: readonly Prefix[]): Change | undefined {
  const ours = marked(chains, networks);
  const place = site && placeFor(without(chains, ours), site);
  if (place === undefined || site === undefined) return ours.length === 0 ? undefined : { remove: ours };
  if (stands(chains, ours, place, site)) return undefined;
  return { remove: ours, insert: { chain: place, network: site.network } };
}

/** The chain that needs the rules; undefined when traffic passes without them. */
function placeFor(chains: Chains, site: Site): string | undefined {
  if (chains.get(FORWARD) === undefined || passes(chains, site)) return undefined;
  return chains.get(DOCKER_USER) !== undefined && passes(withAccepts(chains, DOCKER_USER, site.network), site)
    ? DOCKER_USER
    : FORWARD;
}

/** Whether our rules are there as they should be, once each, and traffic passes: others may stand before them. */
function stands(chains: Chains, ours: readonly Marked[], place: string, site: Site): boolean {
  if (ours.length !== 2 || ours.some(({ chain }) => chain !== place)) return false;
  const wanted = sensesOf(site.network);
  const found = ours.map(({ rule: { senses } }) => JSON.stringify(senses));
  if (!wanted.every((senses) => found.includes(senses))) return false;
  const first = chains.get(place)?.rules.slice(0, 2) ?? [];
  return passes(chains, site) || ours.every((each) => first.includes(each.rule));
}

const sensesOf = (network: Prefix): string[] =>
  acceptRules(network).map((text) => JSON.stringify(parseNftRule({ handle: 0, text }).senses));

const passes = (chains: Chains, site: Site): boolean =>
  forwarded(site).every(
    (traffic) => fateOf(chains, chains.get(FORWARD) as FilterChain, traffic, 'wary').verdict === 'accept',
  );

function replaced(chains: Chains, others: readonly FilterChain[]): Chains {
  const instead = new Map(others.map((chain) => [chain.name, chain]));
  return { get: (name) => instead.get(name) ?? chains.get(name) };
}

function without(chains: Chains, ours: readonly Marked[]): Chains {
  const gone = new Set(ours.map((each) => each.rule));
  return replaced(
    chains,
    placesOf(chains).map((chain) => ({ ...chain, rules: chain.rules.filter((each) => !gone.has(each)) })),
  );
}

function withAccepts(chains: Chains, place: string, network: Prefix): Chains {
  const chain = chains.get(place) as FilterChain;
  const accepts = acceptRules(network).map((text) => parseNftRule({ handle: 0, text }));
  return replaced(chains, [{ ...chain, rules: [...accepts, ...chain.rules] }]);
}
