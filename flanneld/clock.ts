// Time as a dependency, so that tests of back-off and grace periods take none.

export interface Clock {
  /** Milliseconds since the epoch; never goes back. */
  now(): number;
  /** Runs a function after `ms` milliseconds, unless the returned function is called before. */
  after(ms: number, run: () => void): () => void;
  /** Runs a function when whatever waits now has had its turn, unless the returned function is called before. */
  soon(run: () => void): () => void;
}

/** Steady: when somebody sets the machine's clock, no grace period ends early. */
export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  soon(run) {
    const immediate = setImmediate(run);
    return () => clearImmediate(immediate);
  },
};

/** Resolves after `ms` milliseconds, or at once when the signal aborts. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      cancel();
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const cancel = clock.after(ms, finish);
    signal.addEventListener('abort', finish);
  });
}

/** Resolves when the signal aborts; until then the process has something to wait for. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) await sleep(systemClock, 2 ** 30, signal);
}

/** The action, `ms` after it is first asked for and once for all that ask until then; never once the signal has aborted. */
export function gathered(clock: Clock, ms: number, signal: AbortSignal, action: () => void): () => void {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    void sleep(clock, ms, signal).then(() => {
      isDue = false;
      if (!signal.aborted) action();
    });
  };
}
