// What the CNI server has done since it started, for /status.

import type { Command } from '../../cni-plugin/protocol.ts';

export interface VerbCounts {
  readonly succeeded: number;
  readonly failed: number;
  /** Succeeded, but nobody waited for the result any more: undone. */
  readonly undone: number;
}

/** Verbs of clients; "refused" is what never became one. */
export type Counted = Command | 'refused';

export interface Counters {
  count(verb: Counted, outcome: keyof VerbCounts): void;
  /** Verbs that have been counted. */
  all(): Readonly<Partial<Record<Counted, VerbCounts>>>;
}

const NONE: VerbCounts = { succeeded: 0, failed: 0, undone: 0 };

export function newCounters(): Counters {
  const counts = new Map<Counted, VerbCounts>();
  return {
    count(verb, outcome) {
      const before = counts.get(verb) ?? NONE;
      counts.set(verb, { ...before, [outcome]: before[outcome] + 1 });
    },
    all: () => Object.fromEntries(counts),
  };
}
