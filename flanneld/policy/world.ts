// What a source knows, put in order for the compiler: by namespace, with the addresses that hold, and the pods of this node
// that traffic is judged for. What hasn't changed since the last time is the same object, by which the compiler knows what it
// need not do again. Pure.

import type { Labels, Objects, Pod, Policy } from './objects.ts';
import { impliedNamespace } from './parse-pod.ts';
import { type Attached, type Endpoint, type Placed, place, sameItems } from './placed.ts';

export interface NamespaceView {
  readonly name: string;
  readonly labels: Labels;
  /** Those that policies select and peers: neither on the host's network nor finished. */
  readonly pods: readonly Pod[];
  readonly policies: readonly Policy[];
}

export interface World {
  readonly namespaces: ReadonlyMap<string, NamespaceView>;
  readonly endpoints: readonly Endpoint[];
  /** What it was made from, for the next one. */
  readonly placed?: Placed | undefined;
}

export const EMPTY_WORLD: World = { namespaces: new Map(), endpoints: [] };

/** The world of a node. */
export function worldOf(
  { namespaces, pods, policies }: Objects,
  attached: readonly Attached[],
  node: string | undefined,
  before: World,
): World {
  const placed = place(pods, attached, node, before.placed);
  return { namespaces: views(namespaces, placed.places, policies, before), endpoints: placed.endpoints, placed };
}

function views(
  namespaces: Objects['namespaces'],
  podsIn: Placed['places'],
  policies: readonly Policy[],
  before: World,
): ReadonlyMap<string, NamespaceView> {
  const objects = new Map(namespaces.map((namespace) => [namespace.name, namespace]));
  const policiesIn = Map.groupBy(policies, ({ namespace }) => namespace);
  const names = new Set([...objects.keys(), ...podsIn.keys(), ...policiesIn.keys()]);
  return new Map(
    [...names].map((name) => {
      const old = before.namespaces.get(name);
      const view = {
        name,
        labels: objects.get(name)?.labels ?? impliedLabels(name, old),
        pods: shared(old?.pods, podsIn.get(name)?.pods ?? []),
        policies: shared(old?.policies, policiesIn.get(name) ?? []),
      };
      const same = old?.labels === view.labels && old.pods === view.pods && old.policies === view.policies;
      return [name, same ? old : view];
    }),
  );
}

/** The labels of a namespace without an object of its own. */
function impliedLabels(name: string, old: NamespaceView | undefined): Labels {
  const { labels } = impliedNamespace(name);
  const isSame = old?.labels.size === labels.size && [...labels].every(([key, value]) => old.labels.get(key) === value);
  return isSame ? old.labels : labels;
}

/** The old list where the new one has the same items. */
const shared = <T>(old: readonly T[] | undefined, now: readonly T[]): readonly T[] =>
  old !== undefined && sameItems(old, now) ? old : now;
