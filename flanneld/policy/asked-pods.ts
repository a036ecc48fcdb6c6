// Pods that the source was asked for by name, since they are attached before it has told of them. Those that it has count
// until it tells of them itself. While it can't be asked, such a pod is one that nobody knows.

import type { PodName } from '../../cni-plugin/names.ts';
import { describe, hasCode, NetError } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { isSamePod, keyOf, type Objects, type Pod } from './objects.ts';
import type { PolicySource } from './source.ts';

export interface AskedPods {
  /** Asks for a pod. Resolves with whether anything is known now that wasn't. Never throws. */
  ask(pod: PodName, signal: AbortSignal): Promise<boolean>;
  /** What the source has told, with the pods that it was asked for and hasn't told of yet. */
  addTo(told: Objects): Objects;
  /** Whether nobody could be asked for the pod. */
  isUnanswered(pod: PodName): boolean;
  /** Only these are still of interest. */
  keep(pods: readonly PodName[]): void;
}

/** Whether what the source says of a pod is about the one that is being attached, which has not finished. */
export const isKnown = (attached: PodName, told: Pod): boolean => isSamePod(attached, told) && !told.finished;

interface Answer {
  readonly asked: PodName;
  /** Undefined: nobody could be asked. */
  readonly pod?: Pod | undefined;
}

/** Half of the time that an ADD waits: a server that is gone may say nothing at all. */
const ANSWER_MS = 5000;

/** A source that can't be asked for a pod has nothing to add. */
export function askedPods(source: PolicySource, clock: Clock, log: Log): AskedPods {
  /** By "namespace/name". */
  const answers = new Map<string, Answer>();

  return {
    async ask(pod, signal) {
      if (source.find === undefined) return false;
      const bounded = new AbortController();
      const end = (why?: NetError) => bounded.abort(why);
      const cancel = clock.after(ANSWER_MS, () => end(noAnswer(source)));
      signal.addEventListener('abort', () => end());
      try {
        const found = await source.find(pod, bounded.signal);
        // The one before, of the same name.
        if (found === undefined || !isKnown(pod, found)) return false;
        answers.set(keyOf(pod), { asked: pod, pod: found });
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        // Who is refused may be understood another time: the pod goes on waiting.
        const isAway = !hasCode(error, 'kube-refused');
        const what = isAway ? `may do nothing where policies are, until ${source.title} is back` : 'waits';
        log.warn({}, `network policy: ${describe(error)}; Pod ${keyOf(pod)} ${what}`);
        if (isAway) answers.set(keyOf(pod), { asked: pod });
        return isAway;
      } finally {
        cancel();
      }
    },
    addTo(told) {
      if (answers.size === 0) return told;
      for (const pod of told.pods) {
        const answer = answers.get(keyOf(pod));
        if (answer !== undefined && isKnown(answer.asked, pod)) answers.delete(keyOf(pod));
      }
      const found = [...answers.values()].flatMap(({ pod }) => pod ?? []);
      return found.length === 0 ? told : { ...told, pods: [...told.pods, ...found] };
    },
    isUnanswered(pod) {
      const answer = answers.get(keyOf(pod));
      return answer !== undefined && answer.pod === undefined && isSamePod(answer.asked, pod);
    },
    keep(pods) {
      const living = new Set(pods.map(keyOf));
      for (const key of answers.keys()) if (!living.has(key)) answers.delete(key);
    },
  };
}

const noAnswer = (source: PolicySource): NetError =>
  new NetError('timeout', `${source.title}: no answer for ${ANSWER_MS} ms`, { subject: source.title });
