// From a world to what nftables has to hold for it: the profiles of this node's pods, and which pod has which. Compiling
// again does only what a change calls for: a selection, a profile whose inputs are the same objects is taken as it was. Pure.

import type { Ip } from '../../model/ip.ts';
import type { Identifier } from '../../model/ruleset.ts';
import { type AllowedQuestion, allowedBy, inputsOf } from './allowed.ts';
import { DIRECTIONS, type Direction, type NamedPort, type Pod, type Policy } from './objects.ts';
import { createPodIndex } from './pod-index.ts';
import { deniedChain, type Profile, profileName, profileOf } from './profile.ts';
import { selects } from './select.ts';
import type { Endpoint, World } from './world.ts';

/** What happens to a pod that the source doesn't know, in a namespace with policies. */
export type UnknownPod = 'closed' | 'open';

/** What nftables has to hold, but for how it treats flows that are known already. */
export interface Compiled {
  /** No policy exists in the cluster: then no table does on this node. */
  readonly empty: boolean;
  /** In the order of their names. */
  readonly profiles: readonly Profile[];
  /** The chain that judges what is sent to an address of this node, or by it. An address that is missing is free. */
  readonly chains: Readonly<Record<Direction, ReadonlyMap<Ip, Identifier>>>;
  /** Addresses of one pod, which may always talk to itself. */
  readonly pods: readonly (readonly Ip[])[];
  /** Whether samples of what is dropped are logged. */
  readonly logged: boolean;
}

export type Compiler = (world: World) => Compiled;

interface Known {
  readonly inputs: readonly unknown[];
  readonly profile: Profile;
}

export function createCompiler(unknownPod: UnknownPod, logged = false): Compiler {
  const index = createPodIndex();
  let known = new Map<Identifier, Known>();
  const questions = new WeakMap<Pod, Asked>();

  return (world) => {
    index.use(world);
    const used = new Map<Identifier, Known>();
    const chains = { ingress: new Map<Ip, Identifier>(), egress: new Map<Ip, Identifier>() };
    for (const endpoint of world.endpoints) {
      const policies = world.namespaces.get(endpoint.namespace)?.policies ?? [];
      for (const direction of DIRECTIONS) {
        const chain = chainOf(endpoint, policies, direction, used);
        if (chain !== undefined) for (const address of endpoint.addresses) chains[direction].set(address, chain);
      }
    }
    known = used;
    const profiles = [...used.values()].map(({ profile }) => profile).filter(({ open }) => !open);
    const empty = ![...world.namespaces.values()].some(({ policies }) => policies.length > 0);
    return {
      empty,
      profiles: profiles.sort((a, b) => (a.name < b.name ? -1 : 1)),
      chains,
      pods: world.endpoints.map(({ addresses }) => addresses),
      logged,
    };
  };

  function chainOf(
    { pod }: Endpoint,
    policies: readonly Policy[],
    direction: Direction,
    used: Map<Identifier, Known>,
  ): Identifier | undefined {
    if (pod === undefined) {
      const closed = unknownPod === 'closed' && policies.some((policy) => policy[direction] !== undefined);
      return closed ? deniedChain(direction) : undefined;
    }
    const asked = questionOf(pod, policies)[direction];
    if (asked === undefined) return undefined;
    const { profile } = used.get(asked.name) ?? remember(asked, used);
    return profile.open ? undefined : profile.name;
  }

  function remember({ name, question }: Question, used: Map<Identifier, Known>): Known {
    const inputs = inputsOf(question, index);
    const before = known.get(name);
    const same = before?.inputs.length === inputs.length && inputs.every((input, at) => input === before.inputs[at]);
    const entry = same ? before : { inputs, profile: profileOf(name, question.direction, allowedBy(question, index)) };
    used.set(name, entry);
    return entry;
  }

  function questionOf(pod: Pod, policies: readonly Policy[]): Asked {
    const last = questions.get(pod);
    if (last?.policies === policies) return last;
    const asked = { policies, ingress: ask(pod, policies, 'ingress'), egress: ask(pod, policies, 'egress') };
    questions.set(pod, asked);
    return asked;
  }
}

interface Question {
  readonly name: Identifier;
  readonly question: AllowedQuestion;
}

/** Which profile a pod has; undefined where no policy isolates it. */
interface Asked extends Readonly<Record<Direction, Question | undefined>> {
  readonly policies: readonly Policy[];
}

function ask(pod: Pod, policies: readonly Policy[], direction: Direction): Question | undefined {
  const question = questionFor(pod, policies, direction);
  return question.policies.length === 0 ? undefined : { name: profileName(question), question };
}

/** What to ask for a pod, when these are the policies of its namespace. */
export function questionFor(pod: Pod, policies: readonly Policy[], direction: Direction): AllowedQuestion {
  const applying = policies.filter((policy) => policy[direction] !== undefined && selects(policy.pods, pod.labels));
  return { direction, policies: applying, ownPorts: direction === 'ingress' ? portsNamed(applying, pod) : [] };
}

/** Those of the pod's named ports that a rule of the policies for ingress names. */
function portsNamed(policies: readonly Policy[], pod: Pod): readonly NamedPort[] {
  const names = new Set(
    policies.flatMap(({ ingress = [] }) => ingress.flatMap(({ ports = [] }) => ports.map(({ port }) => port))),
  );
  return pod.ports.filter(({ name }) => names.has(name));
}
