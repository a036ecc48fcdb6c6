// Events on the Node, or on what is the matter, for people: `kubectl describe`. Best effort and few: what is said again
// counts up, and no trouble here is a trouble of the agent's.

import { systemClock } from '../clock.ts';
import type { KubeClient } from './client.ts';
import { hasStatus } from './failure.ts';

/** The object that an Event is about. */
export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  /** Undefined for objects that have none, as Nodes. */
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid: string;
}

export interface KubeEvent {
  readonly type: 'Normal' | 'Warning';
  /** One word, as machines read it: "NoPodCIDR". */
  readonly reason: string;
  readonly message: string;
  /** The agent's own Node when undefined. */
  readonly about?: EventSubject | undefined;
}

export interface KubeEvents {
  /** Returns at once. */
  tell(event: KubeEvent): void;
  close(): void;
}

/** Kubernetes keeps the events of Nodes, which have no namespace, in this one. */
const NODE_NAMESPACE = 'default';
/** The same thing is said again this often (ms). */
const AGAIN_MS = 600_000;
/** How long the API server keeps an Event (ms). */
const LIFE_MS = 3_600_000;
/** So many at once, and then one in a while (ms). */
const BURST = 5;
const REFILL_MS = 60_000;
/** Of the subject's name in an Event's own, which may have 253. */
const MOST_OF_NAME = 200;
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
export function kubeEvents(
  client: KubeClient,
  node: string,
  report: (trouble: unknown) => void,
  { againMs = AGAIN_MS }: EventTimes = {},
): KubeEvents {
  const ended = new AbortController();
  /** By what they are about and their reason. */
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

  async function write(event: KubeEvent, about: EventSubject, again: boolean): Promise<void> {
    const time = new Date().toISOString();
    const key = keyOf(event, about);
    const before = told.get(key);
    const events = `/api/v1/namespaces/${about.namespace ?? NODE_NAMESPACE}/events`;
    if (again && before !== undefined && before.name !== '') {
      const count = before.count + 1;
      const renewed = await repeat(`${events}/${before.name}`, { count, lastTimestamp: time });
      if (renewed) return void told.set(key, { ...before, count });
    }
    const name = `${about.name.slice(0, MOST_OF_NAME).replace(/[^a-z\d]+$/, '')}.${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`;
    await client.create(events, eventOf(node, name, event, about, time), ended.signal);
    told.set(key, { message: event.message, name, count: 1, at: systemClock.now() });
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
      const about = event.about ?? nodeSubject(node);
      const key = keyOf(event, about);
      const now = systemClock.now();
      for (const [each, { at }] of told) if (now - at > LIFE_MS) told.delete(each);
      const before = told.get(key);
      const fresh = before === undefined || before.message !== event.message;
      if (!fresh && now - before.at < againMs) return;
      if (!allowed()) return;
      // At once, since the next call may come before the answer.
      told.set(key, { name: '', count: 0, ...before, message: event.message, at: now });
      last = last.then(async () => {
        try {
          await write(event, about, !fresh);
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

const keyOf = ({ reason }: KubeEvent, { kind, namespace, name }: EventSubject): string =>
  [reason, kind, namespace, name].join(' ');

/** As the kubelet's own events, whose uid is the name: `kubectl describe node` looks for both. */
const nodeSubject = (name: string): EventSubject => ({ apiVersion: 'v1', kind: 'Node', name, uid: name });

const eventOf = (
  node: string,
  name: string,
  { type, reason, message }: KubeEvent,
  about: EventSubject,
  time: string,
) => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name, namespace: about.namespace ?? NODE_NAMESPACE },
  involvedObject: about,
  type,
  reason,
  message,
  source: { component: 'flanneld', host: node },
  firstTimestamp: time,
  lastTimestamp: time,
  count: 1,
});
