// What this process can say of itself, for /metrics.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { ProcessFacts } from './metrics.ts';

/** The event loop is timed this often (ms). */
const RESOLUTION_MS = 100;
let delays: ReturnType<typeof monitorEventLoopDelay> | undefined;

/** The facts now; how late the event loop was is counted from the last time. Nothing is timed before the first. */
export function processFacts(): ProcessFacts {
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return { residentBytes: rss, heapBytes: heapUsed, cpuSeconds: (user + system) / 1e6, lag: lagSinceLast() };
}

function lagSinceLast(): ProcessFacts['lag'] {
  if (delays === undefined) {
    delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    delays.enable();
  }
  // It measures the whole time between two of its timers.
  const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1000);
  const lag = { p50: late(delays.percentile(50)), p99: late(delays.percentile(99)), max: late(delays.max) };
  delays.reset();
  return lag;
}
