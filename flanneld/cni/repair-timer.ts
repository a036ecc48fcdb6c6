// When the agent looks for what died: every minute, soon after its start, and sooner when something has failed.

import type { Clock } from '../clock.ts';

const EVERY_MS = 60_000;
/** A client that has found no agent keeps its deletion a little after the agent has looked. */
const AFTER_START_MS = 2000;

export interface RepairTimer {
  start(): void;
  /** Has it run within this many milliseconds; nothing happens before the start and after the stop. */
  within(ms: number): void;
  stop(): void;
}

/** Runs a repair that never throws; the next one is due a minute after it has ended. */
export function repairTimer(clock: Clock, run: () => Promise<void>): RepairTimer {
  let due = Number.POSITIVE_INFINITY;
  let cancel = () => {};
  let active = false;
  const within = (ms: number) => {
    if (!active || clock.now() + ms >= due) return;
    cancel();
    due = clock.now() + ms;
    cancel = clock.after(ms, () => {
      due = Number.POSITIVE_INFINITY;
      void run().then(() => within(EVERY_MS));
    });
  };
  return {
    start() {
      active = true;
      within(AFTER_START_MS);
    },
    within,
    stop() {
      active = false;
      cancel();
    },
  };
}
