// What the last echoes to a peer say. Each round sends two at the same time: a small one, and one as large as the MTU of
// pods. Pure.

/** Milliseconds until each was answered; undefined for one that was not. */
export interface Round {
  readonly small: number | undefined;
  readonly full: number | undefined;
}

/** The last rounds, the newest last. */
export type Window = readonly Round[];

/**
 * unknown: not enough rounds yet. mtu-too-small: small packets pass, those as large as the MTU of pods don't. An echo may
 * also be lost to a firewall of the peer: this is what was seen, not what is the matter.
 */
export const PROBE_STATES = ['reachable', 'mtu-too-small', 'unreachable', 'unknown'] as const;
export type ProbeState = (typeof PROBE_STATES)[number];

export interface Findings {
  readonly state: ProbeState;
  /** Mean of the window, in milliseconds; undefined when nothing was answered. */
  readonly rttMs: number | undefined;
  /** Part of the small echoes that was not answered, 0 to 1. */
  readonly loss: number;
  /** Whether packets as large as the MTU of pods pass; undefined when it can't be told. */
  readonly fits: boolean | undefined;
  /** Rounds that this is said of. */
  readonly rounds: number;
}

/** Rounds that are kept. */
export const KEPT_ROUNDS = 10;
/** One lost packet is no news; so many rounds in a row are. */
const TELLING_ROUNDS = 2;

/** The window with a round more. */
export const addRound = (window: Window, round: Round): Window => [...window, round].slice(-KEPT_ROUNDS);

/** What the rounds of a window say; "unknown" of an empty one. */
export function findingsOf(window: Window): Findings {
  const times = window.flatMap(({ small, full }) => small ?? full ?? []);
  const lost = window.filter(({ small }) => small === undefined).length;
  const fits = fitsOf(window);
  return {
    state: stateOf(window, fits),
    rttMs: times.length === 0 ? undefined : times.reduce((sum, time) => sum + time, 0) / times.length,
    loss: window.length === 0 ? 0 : lost / window.length,
    fits,
    rounds: window.length,
  };
}

const isAnswered = ({ small, full }: Round): boolean => small !== undefined || full !== undefined;

function stateOf(window: Window, fits: boolean | undefined): ProbeState {
  const last = window.slice(-TELLING_ROUNDS);
  if (last.some(isAnswered)) return fits === false ? 'mtu-too-small' : 'reachable';
  return last.length < TELLING_ROUNDS ? 'unknown' : 'unreachable';
}

/** Only rounds in which something was answered say anything about size. */
function fitsOf(window: Window): boolean | undefined {
  const last = window.filter(isAnswered).slice(-TELLING_ROUNDS);
  if (last.some(({ full }) => full !== undefined)) return true;
  return last.length < TELLING_ROUNDS ? undefined : false;
}
