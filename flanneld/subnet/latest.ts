// The last value of a source that never waits for whoever reads it: what is read slowly is skipped, not kept.

/**
 * What the source gave last, as often as it gave something since. The source runs from the first read on, until the
 * iteration ends or the signal aborts.
 */
export async function* latest<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const stop = new AbortController();
  let value: { readonly of: T } | undefined;
  let wake = () => {};
  const end = AbortSignal.any([signal, stop.signal]);
  const run = async () => {
    for await (const each of open(end)) {
      value = { of: each };
      wake();
    }
  };
  let running = true;
  const done = run().finally(() => {
    running = false;
    wake();
  });
  done.catch(() => undefined);
  try {
    for (;;) {
      while (value === undefined && running) await new Promise<void>((resolve) => (wake = resolve));
      if (value === undefined) return await done;
      const { of } = value;
      value = undefined;
      yield of;
    }
  } finally {
    stop.abort();
  }
}
