// Whose turn it is to be probed, and when: everybody once in each interval, evenly, and never more than so many a second,
// which makes the interval of a large cluster longer. Pure.

/** Targets a second, over all peers; each gets two echoes. */
export const MOST_PER_SECOND = 50;

/** Milliseconds between two turns at the least. */
export const QUICKEST_MS = 1000 / MOST_PER_SECOND;

/** Milliseconds between two turns. */
export const paceOf = (targets: number, intervalMs: number): number =>
  Math.max(intervalMs / Math.max(1, targets), QUICKEST_MS);

export interface Turns<T> {
  readonly targets: readonly T[];
  /** Of the one whose turn is next, in `targets`. */
  readonly next: number;
  /** Those that came since their last turn could have been, which go first; in a large cluster everybody is, at first. */
  readonly fresh: readonly T[];
  /** How many of them have had it. */
  readonly begun: number;
}

export const NO_TURNS: Turns<never> = { targets: [], next: 0, fresh: [], begun: 0 };

/** The turns of other targets; whoever was there keeps his place as far as the order is the same. */
export function withTargets<T extends { readonly id: string }>(turns: Turns<T>, targets: readonly T[]): Turns<T> {
  const known = new Set(turns.targets.map(({ id }) => id));
  const waiting = new Set(turns.fresh.slice(turns.begun).map(({ id }) => id));
  const following = turns.targets[turns.next]?.id;
  const place = targets.findIndex(({ id }) => id === following);
  return {
    targets,
    next: place >= 0 ? place : turns.next < targets.length ? turns.next : 0,
    fresh: targets.filter(({ id }) => !known.has(id) || waiting.has(id)),
    begun: 0,
  };
}

/** Whose turn it is, and the turns after it; nobody's when there are no targets. */
export function takeTurn<T>(turns: Turns<T>): { readonly target: T | undefined; readonly turns: Turns<T> } {
  const { targets, next, fresh, begun } = turns;
  if (isAnyFresh(turns)) return { target: fresh[begun], turns: { ...turns, begun: begun + 1 } };
  const following = (next + 1) % Math.max(1, targets.length);
  return { target: targets[next], turns: { targets, next: following, fresh: [], begun: 0 } };
}

/** Whether somebody's first turn is due. */
export const isAnyFresh = ({ fresh, begun }: Turns<unknown>): boolean => begun < fresh.length;
