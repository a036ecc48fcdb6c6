// "Which policy dropped this?": what policies say of a flow, one by one, and what the kernel's table says of it. Pure.

import { FAMILIES, familyOf, type Ip, toNumber } from '../../model/ip.ts';
import type { Table } from '../../model/ruleset.ts';
import { allowedBy } from './allowed.ts';
import { questionFor, type UnknownPod } from './compile.ts';
import { judge } from './judge.ts';
import { type Direction, keyOf, type Pod, type Policy, PROTOCOLS, type Protocol } from './objects.ts';
import { createPodIndex, type PodIndex } from './pod-index.ts';
import type { Endpoint } from './placed.ts';
import type { World } from './world.ts';

/** A pod, by "namespace/name", or an address. */
export interface WhyQuestion {
  readonly from: string;
  readonly to: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** What the policies of one end say. */
export interface SideAnswer {
  readonly direction: Direction;
  /** Undefined: no pod that is known. */
  readonly pod: string | undefined;
  readonly verdict: 'allowed' | 'denied';
  /** Why, in words: "no policy isolates it". */
  readonly reason: string;
  /** "namespace/name" of all that isolate the pod in this direction, and of those that allow the flow. */
  readonly policies: readonly string[];
  readonly allowing: readonly string[];
}

export interface FlowAnswer {
  readonly from: Ip;
  readonly to: Ip;
  readonly verdict: 'allowed' | 'denied';
  readonly sides: readonly SideAnswer[];
  /** What the kernel's table does with the first packet; `chain` or `rule` says where. */
  readonly kernel: { readonly verdict: 'allowed' | 'denied' | 'unknown'; readonly where?: string | undefined };
  readonly differs: boolean;
}

/** `problem`: why there is no flow to speak of. */
export interface WhyAnswer {
  readonly flows: readonly FlowAnswer[];
  readonly problem?: string | undefined;
}

export interface WhyState {
  readonly world: World;
  readonly unknownPod: UnknownPod;
  /** The kernel's; undefined where there is none. */
  readonly table: Table | undefined;
}

/** The answer for each family that both ends have. */
export function why(question: WhyQuestion, state: WhyState): WhyAnswer {
  const [from, to] = [endOf(question.from, state.world), endOf(question.to, state.world)];
  for (const [end, text] of [
    [from, question.from],
    [to, question.to],
  ] as const) {
    if (end === undefined) return { flows: [], problem: `${text} is no pod that the policy source or this node knows` };
    if (end.addresses.length === 0) return { flows: [], problem: `${text} has no address` };
  }
  const index = createPodIndex();
  index.use(state.world);
  const pairs = FAMILIES.flatMap((family) => {
    const [source, destination] = [from, to].map((end) => end?.addresses.find((each) => familyOf(each) === family));
    return source === undefined || destination === undefined ? [] : [{ source, destination }];
  });
  if (pairs.length === 0) return { flows: [], problem: `${question.from} and ${question.to} have no family in common` };
  return {
    flows: pairs.map(({ source, destination }) =>
      answerFlow({ from: source, to: destination, question, index, state, ends: [from as End, to as End] }),
    ),
  };
}

/** `endpoint`: of this node, whose traffic is judged here. */
interface End {
  readonly name: string | undefined;
  readonly addresses: readonly Ip[];
  readonly pod: Pod | undefined;
  readonly endpoint: Endpoint | undefined;
}

function endOf(text: string, { endpoints, namespaces }: World): End | undefined {
  const fits = ({ addresses, ...name }: Pick<Pod, 'addresses' | 'namespace' | 'name'>): boolean =>
    text.includes('/') ? keyOf(name) === text : addresses.includes(text as Ip);
  const endpoint = endpoints.find(fits);
  const pod = endpoint?.pod ?? [...namespaces.values()].flatMap(({ pods }) => pods).find(fits);
  const known = endpoint ?? pod;
  if (known === undefined && text.includes('/')) return undefined;
  const addresses = text.includes('/') ? (known?.addresses ?? []) : [text as Ip];
  return { name: known && keyOf(known), addresses, pod, endpoint };
}

interface Asked {
  readonly from: Ip;
  readonly to: Ip;
  readonly question: WhyQuestion;
  readonly index: PodIndex;
  readonly state: WhyState;
  readonly ends: readonly [End, End];
}

function answerFlow(asked: Asked): FlowAnswer {
  const { from, to, question, state, ends } = asked;
  const sides = [answerSide(asked, 'egress'), answerSide(asked, 'ingress')];
  const isOwn = ends[0].name !== undefined && ends[0].name === ends[1].name;
  const verdict = !isOwn && sides.some((side) => side.verdict === 'denied') ? 'denied' : 'allowed';
  const packet = { from, to, protocol: PROTOCOLS[question.protocol], port: question.port };
  const found = state.table === undefined ? ({ verdict: 'allowed' } as const) : judge(state.table, packet);
  const where = state.table === undefined ? 'there is no table' : whereOf(found);
  return { from, to, verdict, sides, kernel: { verdict: found.verdict, where }, differs: found.verdict !== verdict };
}

function whereOf(found: ReturnType<typeof judge>): string | undefined {
  if (found.verdict === 'denied') return `chain ${found.chain}`;
  return found.verdict === 'unknown' ? `not a rule of ours: ${found.rule}` : undefined;
}

function answerSide(asked: Asked, direction: Direction): SideAnswer {
  const { from, to, state, ends, index } = asked;
  const [own, other] = direction === 'egress' ? [ends[0], to] : [ends[1], from];
  const say = (
    verdict: SideAnswer['verdict'],
    reason: string,
    policies: readonly Policy[] = [],
    allowing = policies,
  ) => ({
    direction,
    pod: own.name,
    verdict,
    reason,
    policies: policies.map(keyOf),
    allowing: allowing.map(keyOf),
  });
  if (own.name === undefined) return say('allowed', 'no pod');
  if (ends[0].name === ends[1].name) return say('allowed', 'a pod reaches itself');
  if (own.endpoint === undefined) return say('allowed', 'not on this node: its own node judges');
  const { namespace, pod } = own.endpoint;
  const policies = state.world.namespaces.get(namespace)?.policies ?? [];
  if (pod === undefined) {
    const closed = state.unknownPod === 'closed' && policies.some((policy) => policy[direction] !== undefined);
    return closed ? say('denied', 'the policy source does not know the pod') : say('allowed', 'no policy isolates it');
  }
  const { policies: applying, ownPorts } = questionFor(pod, policies, direction);
  if (applying.length === 0) return say('allowed', 'no policy isolates it');
  const allowing = applying.filter((policy) =>
    isAllowed(allowedBy({ direction, policies: [policy], ownPorts }, index), other, asked.question),
  );
  return allowing.length > 0
    ? say('allowed', 'a policy allows it', applying, allowing)
    : say('denied', 'it is isolated, and no policy allows it', applying, []);
}

function isAllowed(allowed: ReturnType<typeof allowedBy>, peer: Ip, { protocol, port }: WhyQuestion): boolean {
  const number = PROTOCOLS[protocol];
  const fits = (spans: typeof allowed.ports): boolean =>
    spans.some((span) => (span.protocol === 'any' || span.protocol === number) && span.from <= port && port <= span.to);
  if (allowed.open || fits(allowed.ports)) return true;
  const { peers, exact, boxes } = allowed.families[familyOf(peer)];
  if (peers.has(peer) || exact.has(`${peer} . ${number} . ${port}`)) return true;
  const value = toNumber(peer);
  return boxes.some((box) => box.from <= value && value <= box.to && fits([...box.ports]));
}
