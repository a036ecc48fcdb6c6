// All objects of one kind, as they are and as they change: a paged list, then a watch from where the list ended. A watch that
// ends, or is cut, goes on from the last version it told; when that is too old for the server (410), or it is time,
// everything is listed again. Of each object only what is needed is kept, from the moment it arrives.

import { isDeepStrictEqual } from 'node:util';
import { isObject } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { sleep, systemClock } from '../clock.ts';
import { pauses, whenNew } from '../subnet/pauses.ts';
import type { Collection, KubeClient } from './client.ts';
import { apiError, ApiError, hasStatus } from './failure.ts';

export interface Resource<T> extends Collection {
  /** What is kept of an object; undefined: nothing. */
  strip(object: KubeObject): T | undefined;
  /** Told of each object that came, changed or went, in the moment in which the map does; undefined: it isn't there. */
  onChange?(before: T | undefined, now: T | undefined): void;
}

/** What every object has. */
export interface KubeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string | undefined;
    readonly uid?: string | undefined;
    readonly annotations?: Readonly<Record<string, string>> | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
  };
  readonly spec?: unknown;
  readonly status?: unknown;
}

/** By name, or "namespace/name". */
export type Objects<T> = ReadonlyMap<string, T>;

/** Milliseconds, and the objects of a page; others for tests. */
export interface ListWatchTimes {
  readonly pageSize?: number | undefined;
  readonly longestPauseMs?: number | undefined;
  readonly relistMs?: number | undefined;
  /** How long the server keeps a watch; with jitter up to twice that. */
  readonly watchMs?: number | undefined;
}

/** As other clients of Kubernetes do. */
const PAGE = 500;
const LONGEST_PAUSE_MS = 30_000;
/** After a watch that was accepted, and cut: the server is there. */
const LONGEST_CUT_PAUSE_MS = 2000;
const RELIST_MS = 3_600_000;
const WATCH_MS = 300_000;

/**
 * The objects, the first time when all are known, then after each group of changes that came together and changed
 * something that is kept, and after each trouble. The map may be the same one again; an object that hasn't changed is
 * the same object. Ends with the signal; troubles are reported when they are new.
 */
export async function* listWatch<T>(
  client: KubeClient,
  resource: Resource<T>,
  signal: AbortSignal,
  report: (trouble: unknown) => void,
  times: ListWatchTimes = {},
): AsyncGenerator<Objects<T>> {
  const { longestPauseMs = LONGEST_PAUSE_MS, relistMs = RELIST_MS } = times;
  const trouble = whenNew(report);
  const pause = pauses(Math.random, longestPauseMs);
  const pauseOfCut = pauses(Math.random, Math.min(longestPauseMs, LONGEST_CUT_PAUSE_MS));
  const mirror: Mirror<T> = { objects: new Map(), version: undefined, changed: true };
  let relistAt = 0;
  while (!signal.aborted) {
    const began = systemClock.now();
    let wait = 0;
    let accepted = false;
    try {
      if (mirror.version === undefined || began >= relistAt) {
        await list(client, resource, mirror, signal, times);
        relistAt = systemClock.now() + relistMs * (0.75 + Math.random() / 2);
        trouble(undefined);
        yield* news(mirror);
      }
      for await (const _ of watch(client, resource, mirror, signal, times)) {
        accepted = true;
        trouble(undefined);
        yield* news(mirror);
      }
      // A server that ends watches as soon as they begin is one to be gentle with.
      wait = systemClock.now() - began < 1000 ? pause(systemClock.now() - began) : 0;
    } catch (error) {
      if (signal.aborted) return;
      if (hasStatus(error, 410)) mirror.version = undefined;
      else trouble(error);
      // So that who was told of trouble hears that it has passed.
      mirror.changed ||= !hasStatus(error, 410) && mirror.version !== undefined;
      const asked = error instanceof ApiError ? (error.retryAfter ?? 0) * 1000 * (1 + Math.random()) : 0;
      wait = Math.max(asked, (accepted ? pauseOfCut : pause)(systemClock.now() - began));
    }
    if (wait > 0) await sleep(systemClock, wait, signal);
  }
}

interface Mirror<T> {
  objects: Map<string, T>;
  /** Version of the whole that `objects` are of; undefined: to be listed. */
  version: string | undefined;
  /** Since it was last told; at first, since nothing has been told. Kept when a watch breaks right after a change. */
  changed: boolean;
}

/** The objects, if anything of them has changed since they were last told. */
function* news<T>(mirror: Mirror<T>): Generator<Objects<T>> {
  if (!mirror.changed) return;
  mirror.changed = false;
  yield mirror.objects;
}

/** Reads everything. @throws NetError */
async function list<T>(
  client: KubeClient,
  resource: Resource<T>,
  mirror: Mirror<T>,
  signal: AbortSignal,
  { pageSize = PAGE }: ListWatchTimes,
): Promise<void> {
  const { path, strip, onChange } = resource;
  const fresh = new Map<string, T>();
  let changed = false;
  let next: string | undefined;
  let version: string | undefined;
  do {
    const page = await client.list(resource, { limit: pageSize, continue: next }, signal, (object) => {
      if (!isKubeObject(object)) return;
      const key = keyOf(object);
      const { value, same } = merged(mirror.objects.get(key), strip(object));
      changed ||= !same;
      if (value !== undefined) fresh.set(key, value);
    });
    ({ next, version } = placeOf(page, path));
  } while (next !== undefined);
  mirror.changed ||= changed || fresh.size !== mirror.objects.size;
  const before = mirror.objects;
  [mirror.objects, mirror.version] = [fresh, version];
  if (onChange !== undefined) tellChanges(before, fresh, onChange);
}

function tellChanges<T>(
  before: ReadonlyMap<string, T>,
  now: ReadonlyMap<string, T>,
  onChange: (before: T | undefined, now: T | undefined) => void,
): void {
  for (const [key, value] of before) if (!now.has(key)) onChange(value, undefined);
  for (const [key, value] of now) {
    const known = before.get(key);
    if (known !== value) onChange(known, value);
  }
}

/** Applies what the server tells until it ends the watch; gives a turn after each group of changes. @throws NetError */
async function* watch<T>(
  client: KubeClient,
  resource: Resource<T>,
  mirror: Mirror<T>,
  signal: AbortSignal,
  { watchMs = WATCH_MS }: ListWatchTimes,
): AsyncGenerator<void> {
  const seconds = Math.max(1, Math.round((watchMs * (1 + Math.random())) / 1000));
  const query = { watch: 1, allowWatchBookmarks: 'true', resourceVersion: mirror.version, timeoutSeconds: seconds };
  for await (const events of client.watch(resource, query, signal)) {
    for (const event of events) apply(resource, mirror, event);
    yield;
  }
}

/** @throws NetError for an error that the server tells */
function apply<T>({ path, strip, onChange }: Resource<T>, mirror: Mirror<T>, event: unknown): void {
  const { type, object } = eventOf(event, path);
  if (type === 'ERROR') throw apiError(`watch ${path}`, isObject(object) ? Number(object.code) || 500 : 500, object);
  const { metadata } = object as { metadata: { resourceVersion?: string } };
  mirror.version = metadata.resourceVersion ?? mirror.version;
  if (type === 'BOOKMARK') return;
  const key = keyOf(object as KubeObject);
  const known = mirror.objects.get(key);
  const { value, same } = merged(known, type === 'DELETED' ? undefined : strip(object as KubeObject));
  if (same) return;
  if (value === undefined) mirror.objects.delete(key);
  else mirror.objects.set(key, value);
  mirror.changed = true;
  onChange?.(known, value);
}

/** The value that was known, when the new one says the same. */
function merged<T>(known: T | undefined, fresh: T | undefined): { value: T | undefined; same: boolean } {
  const same = isDeepStrictEqual(known, fresh);
  return { value: same ? known : fresh, same };
}

const keyOf = ({ metadata: { namespace, name } }: KubeObject): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

const isKubeObject = (value: unknown): value is KubeObject =>
  isObject(value) && isObject(value.metadata) && typeof value.metadata.name === 'string';

/** Where the list goes on, if it does, and the version that it is of. @throws NetError */
function placeOf(value: unknown, path: string): { next: string | undefined; version: string } {
  const metadata = isObject(value) && isObject(value.metadata) ? value.metadata : {};
  // Without items there is nothing in their place, or null.
  const isList = isObject(value) && Array.isArray(value.items ?? []);
  if (!isList || typeof metadata.resourceVersion !== 'string') throw strange(`GET ${path}`);
  return {
    next: typeof metadata.continue === 'string' && metadata.continue !== '' ? metadata.continue : undefined,
    version: metadata.resourceVersion,
  };
}

function eventOf(value: unknown, path: string): { type: string; object: unknown } {
  if (isObject(value) && typeof value.type === 'string' && isObject(value.object)) {
    if (value.type === 'ERROR' || isObject(value.object.metadata)) return { type: value.type, object: value.object };
  }
  throw strange(`watch ${path}`);
}

const strange = (what: string): NetError =>
  new NetError('kube-unreachable', `${what}: the answer is none of Kubernetes`, { subject: 'API server' });
