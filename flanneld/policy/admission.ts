// An ADD waits until it can be said what holds for its pod, and that is in force.

import type { PodName } from '../../cni-plugin/names.ts';
import { NetError } from '../../model/errors.ts';
import { keyOf } from './objects.ts';

/** What is known about pods, as it changes. */
export interface Knowledge {
  /** Whether the source has told anything, so that it can be asked for a pod. */
  isThere(): boolean;
  /** Why it can't be said yet what holds for a pod; undefined when it can. */
  undecided(pod: PodName): string | undefined;
  /** Asks the source for a pod, until the signal aborts. Never throws. */
  ask(pod: PodName, signal: AbortSignal): Promise<void>;
  /** Resolves when more is known. */
  news(): Promise<void>;
  /** Puts in force what is known: whether it is. Undefined: nothing is known. */
  enforce(): Promise<boolean> | undefined;
  /** What keeps it from being put in force. */
  trouble(): string | undefined;
}

/**
 * Resolves when what holds for the pod is in force.
 * @throws NetError try-later naming what is missing when the signal aborts
 */
export async function admission(pod: PodName, knowledge: Knowledge, signal: AbortSignal): Promise<void> {
  let isAsked = false;
  const late = new Promise<false>((resolve) => signal.addEventListener('abort', () => resolve(false)));
  for (;;) {
    const news = knowledge.news();
    if (!isAsked && knowledge.isThere() && knowledge.undecided(pod) !== undefined) {
      isAsked = true;
      void knowledge.ask(pod, signal);
    }
    const done = await Promise.race([knowledge.enforce() ?? false, late]);
    const why = knowledge.undecided(pod);
    if (done && why === undefined) return;
    if (signal.aborted) throw refusal(pod, why ?? knowledge.trouble() ?? 'its policies are not in force yet');
    if (why !== undefined) await Promise.race([news, late]);
  }
}

const refusal = (pod: PodName, why: string): NetError =>
  new NetError('try-later', `network policy of pod ${keyOf(pod)} can't be enforced: ${why}`, { subject: keyOf(pod) });
