// Where pods, namespaces and policies come from. A source tells whole states only: one that is told has been read from
// beginning to end, and holds until the next one.

import type { PodName } from '../../cni-plugin/names.ts';
import type { Objects, Pod, Policy } from './objects.ts';

export interface PolicyListener {
  /** Objects that haven't changed are the same objects as before. */
  onObjects(objects: Objects): void;
  /** Why the source can't be read, in part or whole; undefined when it can again. What was told last holds. */
  onTrouble(trouble: unknown): void;
}

export interface PolicySource {
  /** What it is, for people: "directory /etc/policy". */
  readonly title: string;
  /** Tells until the signal aborts. Never throws. */
  watch(listener: PolicyListener, signal: AbortSignal): Promise<void>;
  /**
   * Asks for one pod, without waiting for its turn in the states; undefined when there is no such pod.
   * @throws NetError when nobody can be asked
   */
  find?(pod: PodName, signal: AbortSignal): Promise<Pod | undefined>;
  /**
   * Says what is wrong with a policy (its `invalid`) where those look who wrote it. Returns at once. `node`: name of this one,
   * where it is known.
   */
  tellInvalid?(policy: Policy, node: string | undefined): void;
}
