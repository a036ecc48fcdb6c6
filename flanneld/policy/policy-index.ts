// Which policies of a namespace select a pod. Most policies want a label, and most pods have few of them: so policies
// are looked up by the first label that they want, and a pod for which those haven't changed is not looked at again. An
// edit of one of a thousand costs what it touches. Pure.

import type { Pod, Policy } from './objects.ts';
import { selects } from './select.ts';
import type { World } from './world.ts';

export interface PolicyIndex {
  /** Goes over to another world, keeping what still holds. */
  use(world: World): void;
  /** Those of the pod's namespace that select it. The same list for as long as they are the same. */
  selecting(pod: Pod): readonly Policy[];
}

/** Policies of a namespace by the first label that they want, "key\0value"; "" for those that want none. */
type ByLabel = ReadonlyMap<string, readonly Policy[]>;

interface Indexed {
  readonly policies: readonly Policy[];
  readonly byLabel: ByLabel;
}

interface Selecting {
  readonly candidates: readonly (readonly Policy[])[];
  readonly policies: readonly Policy[];
}

const NONE: Indexed = { policies: [], byLabel: new Map() };

export function createPolicyIndex(): PolicyIndex {
  let indexed: ReadonlyMap<string, Indexed> = new Map();
  const last = new WeakMap<Pod, Selecting>();

  return {
    use({ namespaces }) {
      indexed = new Map(
        [...namespaces].map(([name, { policies }]) => {
          const before = indexed.get(name) ?? NONE;
          return [name, before.policies === policies ? before : { policies, byLabel: group(policies, before.byLabel) }];
        }),
      );
    },
    selecting(pod) {
      const { byLabel } = indexed.get(pod.namespace) ?? NONE;
      const keys = ['', ...[...pod.labels].map((label) => label.join('\0'))];
      const candidates = keys.flatMap((key) => [byLabel.get(key) ?? NONE.policies]);
      const before = last.get(pod);
      if (before !== undefined && sameItems(before.candidates, candidates)) return before.policies;
      const selected = candidates.flat().filter((policy) => selects(policy.pods, pod.labels));
      const policies = before !== undefined && sameItems(before.policies, selected) ? before.policies : selected;
      last.set(pod, { candidates, policies });
      return policies;
    },
  };
}

/** Lists with the same policies as before are the same lists. */
function group(policies: readonly Policy[], before: ByLabel): ByLabel {
  const groups = Map.groupBy(policies, wantedLabel);
  return new Map(
    [...groups].map(([key, group]) => {
      const old = before.get(key);
      return [key, old !== undefined && sameItems(old, group) ? old : group];
    }),
  );
}

const wanted = new WeakMap<Policy, string>();

function wantedLabel(policy: Policy): string {
  const known = wanted.get(policy);
  if (known !== undefined) return known;
  const label = policy.pods.labels[0]?.join('\0') ?? '';
  wanted.set(policy, label);
  return label;
}

const sameItems = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((item, at) => item === b[at]);
