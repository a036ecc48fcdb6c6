// A profile: one group of sets, and the chains that look them up, for one distinct set of policies in one direction. Pods to
// which the same policies apply share it, so that sets grow with profiles, never with policies or pods. Pure.
//
// A chain sees packets of a flow in the direction in which it began; its sibling "…-reply" sees those that answer, in which
// source and destination have changed places. Answers are judged only when a flow that is known has to be judged anew.

import { createHash } from 'node:crypto';
import { FAMILIES, type Family } from '../../model/ip.ts';
import { type Chain, type Identifier, identifier, type NftSet, type Rule, rule } from '../../model/ruleset.ts';
import type { Allowed, AllowedQuestion } from './allowed.ts';
import { type Direction, keyOf } from './objects.ts';
import { disjointBoxes, disjointPorts, rangeText, spanText } from './spans.ts';

export interface Profile {
  /** Of its chain, and the beginning of all its names. */
  readonly name: Identifier;
  /** It allows everything: it has no chain, and those who have it need no rule. */
  readonly open: boolean;
  readonly sets: readonly NftSet[];
  readonly chains: readonly Chain[];
}

/** The chain in which what no rule has allowed ends, when it is the policies for that direction that don't. */
export const deniedChain = (direction: Direction): Identifier => identifier(`denied-${direction}`);

/** The chain for packets that answer. */
export const replyChain = (chain: Identifier): Identifier => identifier(`${chain}-reply`);

/** Of the policies' identities, not of what they say: a policy that is edited changes elements, not names. */
export function profileName({ direction, policies, ownPorts }: AllowedQuestion): Identifier {
  const ports = ownPorts.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`);
  const text = JSON.stringify([direction, policies.map(keyOf).sort(), ports.sort()]);
  return identifier(`${direction}-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`);
}

/** The chains for packets and for answers, and the sets that they look up, of what is allowed in a direction. */
export function profileOf(name: Identifier, direction: Direction, allowed: Allowed): Profile {
  if (allowed.open) return { name, open: true, sets: [], chains: [] };
  const lookups = [...FAMILIES.flatMap((family) => peerSets(name, family, allowed)), portSet(name, allowed)].filter(
    ({ set }) => set.elements.length > 0,
  );
  const denied = deniedChain(direction);
  const chain = (own: Identifier, isReply: boolean): Chain => ({
    name: own,
    rules: [
      ...lookups.map(({ look }) => look(sidesOf(direction, isReply))),
      rule`goto ${isReply ? replyChain(denied) : denied}`,
    ],
  });
  return {
    name,
    open: false,
    sets: lookups.map(({ set }) => set),
    chains: [chain(name, false), chain(replyChain(name), true)],
  };
}

/** Where a packet has the peer's address, and where the port that the flow goes to. */
interface Sides {
  readonly peer: Identifier;
  readonly port: Identifier;
}

const sidesOf = (direction: Direction, isReply: boolean): Sides => ({
  peer: identifier((direction === 'ingress') !== isReply ? 'saddr' : 'daddr'),
  port: identifier(isReply ? 'sport' : 'dport'),
});

interface Lookup {
  readonly set: NftSet;
  readonly look: (sides: Sides) => Rule;
}

const INTERVAL = ['interval'] as const;

function peerSets(profile: Identifier, family: Family, { families }: Allowed): Lookup[] {
  const { peers, exact, boxes } = families[family];
  const [ip, address] = family === 4 ? [identifier('ip'), 'ipv4_addr'] : [identifier('ip6'), 'ipv6_addr'];
  const named = (what: string) => identifier(`${profile}-${what}${family}`);
  const [peersName, exactName, blocksName] = [named('peers'), named('exact'), named('blocks')];
  const type = `${address} . inet_proto . inet_service`;
  const withPort =
    (set: Identifier) =>
    ({ peer, port }: Sides) =>
      rule`${ip} ${peer} . meta l4proto . th ${port} @${set} return`;
  return [
    {
      set: { name: peersName, type: address, elements: [...peers] },
      look: ({ peer }) => rule`${ip} ${peer} @${peersName} return`,
    },
    { set: { name: exactName, type, elements: [...exact] }, look: withPort(exactName) },
    {
      set: { name: blocksName, type, flags: INTERVAL, elements: blockElements(family, boxes) },
      look: withPort(blocksName),
    },
  ];
}

const blockElements = (family: Family, boxes: Allowed['families'][Family]['boxes']): string[] =>
  disjointBoxes(boxes).flatMap(({ from, to, ports }) =>
    ports.map((span) => `${rangeText(family, from, to)} . ${spanText(span)}`),
  );

function portSet(profile: Identifier, { ports }: Allowed): Lookup {
  const name = identifier(`${profile}-ports`);
  return {
    set: { name, type: 'inet_proto . inet_service', flags: INTERVAL, elements: disjointPorts(ports).map(spanText) },
    look: ({ port }) => rule`meta l4proto . th ${port} @${name} return`,
  };
}
