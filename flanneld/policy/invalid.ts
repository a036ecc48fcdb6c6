// Policies that can't be understood: the log names each of them once, and their authors are told, by nodes that have a pod
// of theirs: one voice of each node of a cluster would be a flood.

import type { Log } from '../log.ts';
import { keyOf, type Policy } from './objects.ts';
import { selects } from './select.ts';
import type { PolicySource } from './source.ts';
import type { World } from './world.ts';

export interface InvalidPolicies {
  /** Takes all that the source has: those that weren't there before are logged. */
  see(policies: readonly Policy[]): void;
  /** Tells the authors, once, of those that select pods of this node. */
  tell(policies: readonly Policy[], world: World, node: string | undefined): void;
  /** "NetworkPolicy namespace/name: reason" of those that were seen last. */
  all(): string[];
}

export function invalidPolicies(source: PolicySource, log: Log): InvalidPolicies {
  let seen = new Set<string>();
  /** Whose authors have been told. */
  const told = new WeakSet<Policy>();
  return {
    see(policies) {
      const now = new Set(
        policies
          .filter(({ invalid }) => invalid !== undefined)
          .map((policy) => `NetworkPolicy ${keyOf(policy)}: ${policy.invalid}`),
      );
      for (const text of now) {
        if (!seen.has(text))
          log.warn({}, `${text}; it isolates the pods it selects, and what isn't understood allows nothing`);
      }
      seen = now;
    },
    tell(policies, world, node) {
      for (const policy of policies) {
        if (policy.invalid === undefined || told.has(policy) || !selectsHere(policy, world)) continue;
        told.add(policy);
        source.tellInvalid?.(policy, node);
      }
    },
    all: () => [...seen],
  };
}

const selectsHere = ({ namespace, pods }: Policy, { endpoints }: World): boolean =>
  endpoints.some((each) => each.namespace === namespace && each.pod !== undefined && selects(pods, each.pod.labels));
