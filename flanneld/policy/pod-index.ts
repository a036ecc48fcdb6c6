// Which pods a policy's peers are. A selection that was made once is the same list for as long as it has the same pods: by
// that the compiler knows what a change of pods or namespaces is about. Pure.

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
  /** Another number when any of that may be different. */
  version(): number;
}

/** What a peer meant the last time. */
interface Meant {
  /** The world that it is right for. */
  version: number;
  /** Namespaces, and the pods meant in each. */
  readonly names: readonly string[];
  lists: Selection;
  selection: Selection;
}

export function createPodIndex(): PodIndex {
  const meant = new WeakMap<PodPeer, Meant>();
  const changedAt = new Map<string, number>();
  /** Namespaces whose pods the newest world has changed. */
  let changedNow: string[] = [];
  let version = 0;
  /** The version that changed anything last. */
  let current = 0;
  let views: World['namespaces'] = new Map();
  let labels: readonly Labels[] = [];
  let names = new Map<string, readonly string[]>();
  let everybody: Selection | undefined;

  function namespacesOf(selector: Selector | undefined, own: string): readonly string[] {
    const key = selector === undefined ? `=${own}` : selector.key;
    const known = names.get(key);
    if (known !== undefined) return known;
    const selected = () => [...views.values()].filter((view) => selects(selector as Selector, view.labels));
    const found = selector === undefined ? [own] : selected().map(({ name }) => name);
    names.set(key, found);
    return found;
  }

  const podsOf = (name: string): readonly Pod[] => (views.get(name) as NamespaceView | undefined)?.pods ?? [];

  const isNewer = (name: string, last: Meant | undefined): boolean =>
    (changedAt.get(name) ?? 0) > (last?.version ?? -1);

  /** Those of the namespaces whose pods have changed since. Most often only the newest world is to be looked at. */
  function staleOf(known: readonly string[], last: Meant): readonly string[] {
    if (last.version === version) return [];
    if (last.version === version - 1) return changedNow.filter((name) => known.includes(name));
    return known.filter((name) => isNewer(name, last));
  }

  /** Looks again where pods have changed. A selection that is still right stays the same list. */
  function renew({ pods = EVERYTHING }: PodPeer, last: Meant): void {
    let lists = last.lists;
    for (const name of staleOf(last.names, last)) {
      const at = last.names.indexOf(name);
      const list = kept(lists[at], choose(podsOf(name), pods));
      if (list !== lists[at]) lists = lists.with(at, list);
    }
    last.version = version;
    if (lists === last.lists) return;
    last.lists = lists;
    last.selection = lists.filter((list) => list.length > 0);
  }

  function look({ pods = EVERYTHING }: PodPeer, known: readonly string[], last: Meant | undefined): Meant {
    const before = new Map(last?.names.map((name, at) => [name, last.lists[at]]));
    const lists = known.map((name) => {
      const list = before.get(name);
      return list !== undefined && !isNewer(name, last) ? list : kept(list, choose(podsOf(name), pods));
    });
    const found = lists.filter((list) => list.length > 0);
    return { version, names: known, lists, selection: kept(last?.selection, found) };
  }

  return {
    use({ namespaces }) {
      version++;
      changedNow = [];
      for (const [name, { pods }] of namespaces) {
        if (pods === views.get(name)?.pods) continue;
        changedAt.set(name, version);
        changedNow.push(name);
        everybody = undefined;
      }
      const now = [...namespaces.values()].map((view) => view.labels);
      if (now.length !== labels.length || now.some((each, at) => each !== labels[at])) {
        names = new Map();
        everybody = undefined;
        current = version;
      }
      for (const name of changedAt.keys()) {
        if (namespaces.has(name)) continue;
        changedAt.set(name, version);
        changedNow.push(name);
      }
      if (changedNow.length > 0) current = version;
      labels = now;
      views = namespaces;
    },
    version: () => current,
    peers(peer, own) {
      const last = meant.get(peer);
      const known = namespacesOf(peer.namespaces, own);
      if (last?.names === known) {
        renew(peer, last);
        return last.selection;
      }
      const found = look(peer, known, last);
      meant.set(peer, found);
      return found.selection;
    },
    all() {
      everybody ??= [...views.values()].map(({ pods }) => pods).filter((pods) => pods.length > 0);
      return everybody;
    },
  };
}

/** The old list where the new one has the same items. */
const kept = <T>(old: readonly T[] | undefined, now: readonly T[]): readonly T[] =>
  old?.length === now.length && now.every((item, at) => item === old[at]) ? old : now;

/** Pods of one list by label, "key\0value". */
const byLabel = new WeakMap<readonly Pod[], Map<string, Pod[]>>();

/** The pods of a list that are selected, looked up by the first label that the selector wants. */
function choose(pods: readonly Pod[], selector: Selector): readonly Pod[] {
  const [first] = selector.labels;
  if (selector === EVERYTHING || pods.length === 0) return pods;
  const candidates = first === undefined ? pods : (labelled(pods).get(first.join('\0')) ?? []);
  return candidates.filter((pod) => selects(selector, pod.labels));
}

function labelled(pods: readonly Pod[]): Map<string, Pod[]> {
  const known = byLabel.get(pods);
  if (known !== undefined) return known;
  const found = new Map<string, Pod[]>();
  for (const pod of pods) {
    for (const label of pod.labels) {
      const key = label.join('\0');
      const group = found.get(key);
      if (group === undefined) found.set(key, [pod]);
      else group.push(pod);
    }
  }
  byLabel.set(pods, found);
  return found;
}
