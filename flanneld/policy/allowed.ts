// What a set of policies allows in one direction: the union of their rules, sorted by how it is looked up. Peers that are
// pods become addresses, names of ports become numbers; what any rule allows is allowed. Pure.

import {
  addressOf,
  contains,
  FAMILIES,
  type Family,
  familyOf,
  type Ip,
  lengthOf,
  bitsOf,
  type Prefix,
} from '../../model/ip.ts';
import {
  type BlockPeer,
  type Direction,
  isBlock,
  type NamedPort,
  type Pod,
  type Policy,
  type PolicyRule,
  type PortMatch,
  PROTOCOLS,
} from './objects.ts';
import type { PodIndex, Selection } from './pod-index.ts';
import { type Box, EVERY_PORT, type PortSpan, spanText, without } from './spans.ts';

/** The parts of one family. */
export interface AllowedPeers {
  /** Any port of any protocol. */
  readonly peers: Set<Ip>;
  /** "address . protocol . port" */
  readonly exact: Set<string>;
  /** Blocks, and ranges of ports of addresses; they may overlap. */
  readonly boxes: Box[];
}

export interface Allowed {
  /** Everything: as good as no policy at all. */
  open: boolean;
  /** For anybody; they may overlap. */
  readonly ports: PortSpan[];
  readonly families: Readonly<Record<Family, AllowedPeers>>;
}

export interface AllowedQuestion {
  readonly direction: Direction;
  /** Those that isolate in this direction. */
  readonly policies: readonly Policy[];
  /** Named ports of the selected pod, which is the destination of ingress. */
  readonly ownPorts: readonly NamedPort[];
}

/** All that the policies allow together. `parts`: what each of them was found to allow before. */
export function allowedBy(question: AllowedQuestion, index: PodIndex, parts: AllowedParts = new WeakMap()): Allowed {
  const allowed = nothing();
  const keeps = question.policies.length > FEW;
  for (const policy of question.policies) {
    const own = { ...question, policies: [policy] };
    const part = keeps ? partOf(own, policy, index, parts) : allowedByOne(own, policy, index);
    allowed.open ||= part.open;
    allowed.ports.push(...part.ports);
    for (const family of FAMILIES) {
      const [all, more] = [allowed.families[family], part.families[family]];
      for (const peer of more.peers) all.peers.add(peer);
      for (const exact of more.exact) all.exact.add(exact);
      for (const box of more.boxes) all.boxes.push(box);
    }
  }
  return allowed;
}

/** What so many policies allow is found out again in no time, and takes no memory meanwhile. */
const FEW = 32;

/** What single policies allow, from the last time that each was asked. */
export type AllowedParts = WeakMap<Policy, Partial<Record<Direction, Part>>>;

interface Part {
  readonly inputs: readonly unknown[];
  readonly allowed: Allowed;
}

function nothing(): Allowed {
  const none = (): AllowedPeers => ({ peers: new Set(), exact: new Set(), boxes: [] });
  return { open: false, ports: [], families: { 4: none(), 6: none() } };
}

/** Of one policy. */
function partOf(question: AllowedQuestion, policy: Policy, index: PodIndex, parts: AllowedParts): Allowed {
  const inputs = inputsOf(question, index);
  const known = parts.get(policy) ?? {};
  const last = known[question.direction];
  if (last?.inputs.length === inputs.length && inputs.every((input, at) => input === last.inputs[at]))
    return last.allowed;
  const allowed = allowedByOne(question, policy, index);
  parts.set(policy, { ...known, [question.direction]: { inputs, allowed } });
  return allowed;
}

function allowedByOne({ direction, ownPorts }: AllowedQuestion, policy: Policy, index: PodIndex): Allowed {
  const allowed = nothing();
  for (const rule of policy[direction] ?? []) {
    const portsOf = (pod: Pod | undefined) =>
      spansOf(rule.ports, direction === 'ingress' ? ownPorts : (pod?.ports ?? []));
    addRule(allowed, rule, policy.namespace, portsOf, index);
    if (direction === 'egress') addNamedElsewhere(allowed, rule, portsOf, index);
  }
  return allowed;
}

/** The ports of a rule when a pod, undefined for none that is known, is the peer. */
type PortsOf = (pod: Pod | undefined) => readonly PortSpan[];

function addRule(allowed: Allowed, rule: PolicyRule, namespace: string, portsOf: PortsOf, index: PodIndex): void {
  const plain = portsOf(undefined);
  if (rule.peers === undefined) {
    if (plain.includes(EVERY_PORT)) allowed.open = true;
    else allowed.ports.push(...plain);
  }
  for (const peer of rule.peers ?? []) {
    if (isBlock(peer)) addBlock(allowed, peer, plain);
    else addPods(allowed, index.peers(peer, namespace), portsOf);
  }
}

/** A port's name means something only in a pod: where peers are anybody or a block, it is looked up in every pod there. */
function addNamedElsewhere(allowed: Allowed, rule: PolicyRule, portsOf: PortsOf, index: PodIndex): void {
  const blocks = rule.peers?.filter(isBlock);
  if (!namesPorts(rule) || blocks?.length === 0) return;
  addPods(allowed, index.all(), portsOf, (address) => blocks?.some(holds(address)) ?? true);
}

const namesPorts = ({ ports }: PolicyRule): boolean => ports?.some(({ port }) => typeof port === 'string') ?? false;

const holds =
  (address: Ip) =>
  ({ block, except }: BlockPeer): boolean =>
    contains(block, address) && !except.some((hole) => contains(hole, address));

function addBlock({ families }: Allowed, { block, except }: BlockPeer, ports: readonly PortSpan[]): void {
  if (ports.length === 0) return;
  const family = familyOf(block);
  if (lengthOf(block) === bitsOf(family) && except.length === 0) {
    addAddress(families[family], addressOf(block), ports);
    return;
  }
  for (const range of without(block, except)) families[family].boxes.push({ ...range, ports });
}

function addPods(allowed: Allowed, groups: Selection, portsOf: PortsOf, wanted = (_: Ip) => true): void {
  for (const pods of groups) for (const pod of pods) addPod(allowed, pod, portsOf(pod), wanted);
}

function addPod({ families }: Allowed, pod: Pod, ports: readonly PortSpan[], wanted: (address: Ip) => boolean): void {
  for (const address of pod.addresses) if (wanted(address)) addAddress(families[familyOf(address)], address, ports);
}

function addAddress({ peers, exact, boxes }: AllowedPeers, address: Ip, ports: readonly PortSpan[]): void {
  for (const span of ports) {
    if (span === EVERY_PORT) peers.add(address);
    else if (span.from === span.to) exact.add(`${address} . ${spanText(span)}`);
    else
      boxes.push(
        ...without(`${address}/${bitsOf(familyOf(address))}` as Prefix, []).map((range) => ({
          ...range,
          ports: [span],
        })),
      );
  }
}

/** A name that the pod doesn't have for that protocol matches nothing. */
function spansOf(ports: readonly PortMatch[] | undefined, names: readonly NamedPort[]): readonly PortSpan[] {
  if (ports === undefined) return [EVERY_PORT];
  return ports.flatMap(({ protocol, port, endPort }): PortSpan[] => {
    const number = PROTOCOLS[protocol];
    if (port === undefined) return [{ protocol: number, from: 0, to: 65_535 }];
    if (typeof port === 'number') return [{ protocol: number, from: port, to: endPort ?? port }];
    return names
      .filter((each) => each.name === port && each.protocol === protocol)
      .map((each) => ({ protocol: number, from: each.port, to: each.port }));
  });
}

/** What the answer depends on, item by item: the same items give the same answer. */
export function inputsOf({ direction, policies, ownPorts }: AllowedQuestion, index: PodIndex): readonly unknown[] {
  const inputs: unknown[] = [...policies, ...ownPorts];
  const addRuleOf = (namespace: string, rule: PolicyRule) => {
    const { peers } = rule;
    const anybody = direction === 'egress' && namesPorts(rule) && (peers === undefined || peers.some(isBlock));
    if (anybody) inputs.push(index.all());
    for (const peer of peers ?? []) if (!isBlock(peer)) inputs.push(index.peers(peer, namespace));
  };
  for (const policy of policies) for (const rule of policy[direction] ?? []) addRuleOf(policy.namespace, rule);
  return inputs;
}
