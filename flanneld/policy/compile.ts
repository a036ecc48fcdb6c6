// From a world to what nftables has to hold for it: the profiles of this node's pods, and which pod has which. Compiling
// again does only what a change calls for: a selection, a profile whose inputs are the same objects is taken as it was. Pure.

import type { Ip } from '../../model/ip.ts';
import type { Identifier } from '../../model/ruleset.ts';
import { type AllowedParts, type AllowedQuestion, allowedBy, inputsOf } from './allowed.ts';
import type { Direction, NamedPort, Pod, Policy } from './objects.ts';
import { createPodIndex } from './pod-index.ts';
import { createPolicyIndex } from './policy-index.ts';
import { deniedChain, type Profile, profileName, profileOf } from './profile.ts';
import { selects } from './select.ts';
import type { Endpoint } from './placed.ts';
import type { World } from './world.ts';

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
  readonly question: AllowedQuestion;
  /** Of the pods that it was answered from. */
  readonly version: number;
  readonly inputs: readonly unknown[];
  readonly profile: Profile;
}

/** A compiler that remembers what it was last given: what hasn't changed is the same object. */
export function createCompiler(unknownPod: UnknownPod, logged = false): Compiler {
  const pods = createPodIndex();
  const policies = createPolicyIndex();
  let known = new Map<Identifier, Known>();
  const questions = new WeakMap<Pod, Asked>();
  const parts: AllowedParts = new WeakMap();

  return (world) => {
    pods.use(world);
    policies.use(world);
    const used = new Map<Identifier, Known>();
    const chains = { ingress: chainsOf(world, 'ingress', used), egress: chainsOf(world, 'egress', used) };
    known = used;
    const profiles = [...used.values()].map(({ profile }) => profile).filter(({ open }) => !open);
    const empty = ![...world.namespaces.values()].some((namespace) => namespace.policies.length > 0);
    return {
      empty,
      profiles: profiles.sort((a, b) => (a.name < b.name ? -1 : 1)),
      chains,
      pods: world.endpoints.map(({ addresses }) => addresses),
      logged,
    };
  };

  function chainsOf(world: World, direction: Direction, used: Map<Identifier, Known>): Map<Ip, Identifier> {
    const chains = new Map<Ip, Identifier>();
    for (const endpoint of world.endpoints) {
      const all = world.namespaces.get(endpoint.namespace)?.policies ?? [];
      const chain = chainOf(endpoint, all, direction, used);
      if (chain !== undefined) for (const address of endpoint.addresses) chains.set(address, chain);
    }
    return chains;
  }

  function chainOf(
    { pod }: Endpoint,
    all: readonly Policy[],
    direction: Direction,
    used: Map<Identifier, Known>,
  ): Identifier | undefined {
    if (pod === undefined) {
      const closed = unknownPod === 'closed' && all.some((policy) => policy[direction] !== undefined);
      return closed ? deniedChain(direction) : undefined;
    }
    const asked = questionsOf(pod)[direction];
    if (asked === undefined) return undefined;
    const { profile } = used.get(asked.name) ?? remember(asked, used);
    return profile.open ? undefined : profile.name;
  }

  function remember({ name, question }: Question, used: Map<Identifier, Known>): Known {
    const before = known.get(name);
    // The very question, and no pod has changed that could be meant by it.
    const holds = before?.question === question && before.version === pods.version();
    const entry = holds ? before : answer(name, question, before);
    used.set(name, entry);
    return entry;
  }

  function answer(name: Identifier, question: AllowedQuestion, before: Known | undefined): Known {
    const inputs = inputsOf(question, pods);
    const same = before?.inputs.length === inputs.length && inputs.every((input, at) => input === before.inputs[at]);
    const profile = same ? before.profile : profileOf(name, question.direction, allowedBy(question, pods, parts));
    return { question, version: pods.version(), inputs, profile };
  }

  function questionsOf(pod: Pod): Asked {
    const selecting = policies.selecting(pod);
    const last = questions.get(pod);
    if (last?.selecting === selecting) return last;
    const asked = { selecting, ingress: ask(pod, selecting, 'ingress'), egress: ask(pod, selecting, 'egress') };
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
  readonly selecting: readonly Policy[];
}

function ask(pod: Pod, selecting: readonly Policy[], direction: Direction): Question | undefined {
  const question = questionAbout(pod, selecting, direction);
  return question.policies.length === 0 ? undefined : { name: profileName(question), question };
}

/** What to ask for a pod, when these are the policies of its namespace. */
export const questionFor = (pod: Pod, policies: readonly Policy[], direction: Direction): AllowedQuestion =>
  questionAbout(
    pod,
    policies.filter((policy) => selects(policy.pods, pod.labels)),
    direction,
  );

function questionAbout(pod: Pod, selecting: readonly Policy[], direction: Direction): AllowedQuestion {
  const policies = selecting.filter((policy) => policy[direction] !== undefined);
  return { direction, policies, ownPorts: direction === 'ingress' ? portsNamed(policies, pod) : [] };
}

/** Those of the pod's named ports that a rule of the policies for ingress names. */
function portsNamed(policies: readonly Policy[], pod: Pod): readonly NamedPort[] {
  const names = new Set(
    policies.flatMap(({ ingress = [] }) => ingress.flatMap(({ ports = [] }) => ports.map(({ port }) => port))),
  );
  return pod.ports.filter(({ name }) => names.has(name));
}
