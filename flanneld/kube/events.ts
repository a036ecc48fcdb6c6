// Events on the Node, for people: `kubectl describe node`. Best effort and few: what is said again counts up, and no trouble
// here is a trouble of the agent's.

import { systemClock } from '../clock.ts';
import type { KubeClient } from './client.ts';
import { hasStatus } from './failure.ts';

export interface NodeEvent {
  readonly type: 'Normal' | 'Warning';
  /** One word, as machines read it: "NoPodCIDR". */
  readonly reason: string;
  readonly message: string;
}

export interface NodeEvents {
  /** Returns at once. */
  tell(event: NodeEvent): void;
  close(): void;
}

/** Kubernetes keeps the events of Nodes, which have no namespace, in this one. */
const EVENTS = '/api/v1/namespaces/default/events';
/** The same thing is said again this often (ms). An Event lives for an hour. */
const AGAIN_MS = 600_000;
/** So many at once, and then one in a while (ms). */
const BURST = 5;
const REFILL_MS = 60_000;
/** Of a message: the server takes no more. */
const MOST_CHARACTERS = 1024;

interface Told {
  readonly message: string;
  /** Of the Event; empty until it has been made. */
  readonly name: string;
  readonly count: number;
  /** When it was last written, ms. */
  readonly at: number;
}

export interface EventTimes {
  readonly againMs?: number;
}

/** Told of trouble once, until it works again. */
export function nodeEvents(
  client: KubeClient,
  node: string,
  report: (trouble: unknown) => void,
  { againMs = AGAIN_MS }: EventTimes = {},
): NodeEvents {
  const ended = new AbortController();
  const told = new Map<string, Told>();
  let tokens = BURST;
  let filledAt = systemClock.now();
  let refused = false;
  let last: Promise<void> = Promise.resolve();

  /** Whether one more may be written now. */
  function allowed(): boolean {
    const now = systemClock.now();
    const more = Math.floor((now - filledAt) / REFILL_MS);
    [tokens, filledAt] = [Math.min(BURST, tokens + more), filledAt + more * REFILL_MS];
    if (tokens === 0) return false;
    tokens--;
    return true;
  }

  async function write(event: NodeEvent, again: boolean): Promise<void> {
    const time = new Date().toISOString();
    const before = told.get(event.reason);
    if (again && before !== undefined && before.name !== '') {
      const count = before.count + 1;
      const renewed = await repeat(`${EVENTS}/${before.name}`, { count, lastTimestamp: time });
      if (renewed) return void told.set(event.reason, { ...before, count });
    }
    const name = `${node}.${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`;
    await client.create(EVENTS, eventOf(node, name, event, time), ended.signal);
    told.set(event.reason, { message: event.message, name, count: 1, at: systemClock.now() });
  }

  /** @returns whether the Event is still there */
  async function repeat(path: string, change: unknown): Promise<boolean> {
    try {
      await client.patch(path, change, ended.signal);
      return true;
    } catch (error) {
      if (hasStatus(error, 404)) return false;
      throw error;
    }
  }

  return {
    tell(given) {
      const event = { ...given, message: given.message.slice(0, MOST_CHARACTERS) };
      const before = told.get(event.reason);
      const now = systemClock.now();
      const fresh = before === undefined || before.message !== event.message;
      if (!fresh && now - before.at < againMs) return;
      if (!allowed()) return;
      // At once, since the next call may come before the answer.
      told.set(event.reason, { name: '', count: 0, ...before, message: event.message, at: now });
      last = last.then(async () => {
        try {
          await write(event, !fresh);
          refused = false;
        } catch (error) {
          if (!refused && !ended.signal.aborted) report(error);
          refused = true;
        }
      });
    },
    close: () => ended.abort(),
  };
}

const eventOf = (node: string, name: string, { type, reason, message }: NodeEvent, time: string) => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name, namespace: 'default' },
  // As the kubelet's own events, whose uid is the name: `kubectl describe node` looks for both.
  involvedObject: { apiVersion: 'v1', kind: 'Node', name: node, uid: node },
  type,
  reason,
  message,
  source: { component: 'flanneld', host: node },
  firstTimestamp: time,
  lastTimestamp: time,
  count: 1,
});
