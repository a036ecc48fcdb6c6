// Which pods a policy's peers are. A selection that was made once is the same list for as long as neither the pods of its
// namespace nor the labels of the namespaces have changed. Pure.

import type { Labels, Pod, PodPeer, Selector } from './objects.ts';
import { EVERYTHING, selects } from './select.ts';
import type { NamespaceView, World } from './world.ts';

/** Lists of pods, one for each namespace that has any. */
export type Selection = readonly (readonly Pod[])[];

export interface PodIndex {
  /** Goes over to another world, keeping what still holds. */
  use(world: World): void;
  /** The pods that a peer means in a policy of the namespace. */
  peers(peer: PodPeer, namespace: string): Selection;
  all(): Selection;
}

export function createPodIndex(): PodIndex {
  const chosen = new WeakMap<readonly Pod[], Map<string, readonly Pod[]>>();
  let views: World['namespaces'] = new Map();
  let labels: readonly Labels[] = [];
  let names = new Map<string, readonly string[]>();

  function choose(pods: readonly Pod[], selector: Selector): readonly Pod[] {
    if (selector === EVERYTHING) return pods;
    const known = chosen.get(pods) ?? new Map<string, readonly Pod[]>();
    chosen.set(pods, known);
    const found = known.get(selector.key) ?? pods.filter((pod) => selects(selector, pod.labels));
    known.set(selector.key, found);
    return found;
  }

  function namespacesOf(selector: Selector | undefined, own: string): readonly string[] {
    if (selector === undefined) return [own];
    const known = names.get(selector.key);
    if (known !== undefined) return known;
    const found = [...views.values()].filter((view) => selects(selector, view.labels)).map(({ name }) => name);
    names.set(selector.key, found);
    return found;
  }

  const podsOf = (name: string): readonly Pod[] => (views.get(name) as NamespaceView | undefined)?.pods ?? [];

  return {
    use({ namespaces }) {
      const now = [...namespaces.values()].map((view) => view.labels);
      const same = now.length === labels.length && now.every((each, at) => each === labels[at]);
      if (!same) names = new Map();
      labels = now;
      views = namespaces;
    },
    peers: ({ pods = EVERYTHING, namespaces }, own) =>
      namespacesOf(namespaces, own)
        .map((name) => choose(podsOf(name), pods))
        .filter((found) => found.length > 0),
    all: () => [...views.values()].map(({ pods }) => pods).filter((pods) => pods.length > 0),
  };
}
