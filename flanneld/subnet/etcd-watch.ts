// Snapshots of all leases: everything is read once, then changes are applied as etcd tells them. Whatever goes wrong
// with that (a connection lost, history compacted, a watch cancelled) has one answer: read everything again.

import { NetError } from '../../model/errors.ts';
import type { Lease } from '../../model/lease.ts';
import { sleep, systemClock } from '../clock.ts';
import { isOurs, sameAddress } from './choose.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { GRPC, hasGrpcCode, RpcError } from './etcd-errors.ts';
import type { EventStream, WatchEvent } from './etcd-events.ts';
import type { EtcdSession } from './etcd-session.ts';
import { type Listing, list, rangeOf, type Stored, storedOf } from './etcd-store.ts';
import type { Tenure } from './etcd-acquire.ts';
import type { Snapshot } from './manager.ts';
import { pauses, whenNew } from './pauses.ts';
import { createPeerList, type PeerList } from './peer-list.ts';

export interface WatchContext {
  readonly session: EtcdSession;
  /** Prefix of the keys of leases. */
  readonly leases: string;
  readonly nodeId: string;
  /** Milliseconds between two checks that the server still takes part in the cluster. */
  readonly livenessMs: number;
  tenure(): Tenure | undefined;
  /** Told of all entries, which are kept as they are in etcd from then on; undefined when they no longer are. */
  onEntries(listing: Listing | undefined): void;
  /** Told the etcd lease that our entry lives by, as it is now: a person may have written it again. */
  renewedBy(grant: string): void;
}

type Report = (trouble: unknown) => void;
/** By key; undefined for a key that names no subnet. */
export type Entries = ReadonlyMap<string, Stored | undefined>;

/** One entry, as it was and as it is; undefined where there is none, or none that names a subnet. */
interface EntryChange {
  readonly key: string;
  readonly before: Stored | undefined;
  readonly now: Stored | undefined;
}

/** All entries, and which of them have changed since the last view; undefined: all. */
interface View {
  readonly entries: Entries;
  readonly changes: readonly EntryChange[] | undefined;
}

/** Ends with the signal. Troubles are reported when they are new. */
export async function* watchLeases(
  context: WatchContext,
  signal: AbortSignal,
  report: Report,
): AsyncGenerator<Snapshot> {
  const trouble = whenNew(report);
  const pause = pauses();
  const pointOut = unreadable(report);
  const snapshotOf = snapshots(context);
  while (!signal.aborted) {
    const began = Date.now();
    try {
      for await (const view of follow(context, signal)) {
        trouble(undefined);
        pointOut(view);
        yield snapshotOf(view);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!hasGrpcCode(error, GRPC.OUT_OF_RANGE)) trouble(error);
      await sleep(systemClock, pause(Date.now() - began), signal);
    }
  }
}

/**
 * All entries, now and after each change, until the watch breaks. Those of a moment before our own entry was written are
 * left out: who has acquired it meanwhile would take them for a store that has lost it.
 * @throws NetError; RpcError OUT_OF_RANGE: to be read again
 */
async function* follow(context: WatchContext, signal: AbortSignal): AsyncGenerator<View> {
  const { session, leases, tenure } = context;
  const before = tenure()?.revision;
  const { connection, listing } = await session.use(
    async (connection) => ({ connection, listing: await list(connection, leases) }),
    signal,
  );
  const entries = new Map(listing.entries);
  context.onEntries({ entries, revision: listing.revision });
  let revision = BigInt(listing.revision);
  const isOutdated = () => {
    const written = tenure()?.revision;
    return written !== undefined && written !== before && revision < BigInt(written);
  };
  const events = connection.watch({ ...rangeOf(leases), start_revision: String(BigInt(listing.revision) + 1n) });
  const ended = new AbortController();
  const stop = () => events.end(new RpcError(GRPC.CANCELLED, 'stopped'));
  signal.addEventListener('abort', stop);
  checkLiveness(context, connection, events, entries, ended.signal);
  try {
    let changes: EntryChange[] | undefined;
    for (;;) {
      if (!isOutdated()) {
        yield { entries, changes };
        changes = [];
      }
      for (const event of await events.next()) {
        const change = apply(context, entries, event);
        changes?.push(change);
        revision = BigInt(event.kv.mod_revision);
      }
    }
  } catch (error) {
    if (!(error instanceof RpcError) || error.code === GRPC.OUT_OF_RANGE || signal.aborted) throw error;
    if (!session.isInUse(connection)) throw new RpcError(GRPC.OUT_OF_RANGE, 'the connection was given up by others');
    throw await session.fail(connection, error);
  } finally {
    context.onEntries(undefined);
    signal.removeEventListener('abort', stop);
    ended.abort();
    stop();
  }
}

function apply(context: WatchContext, entries: Map<string, Stored | undefined>, { type, kv }: WatchEvent): EntryChange {
  const key = kv.key.toString();
  const before = entries.get(key);
  const now = type === 'delete' ? undefined : storedOf(context.leases, kv);
  if (type === 'delete') entries.delete(key);
  else entries.set(key, now);
  return { key, before, now };
}

/**
 * A server that was cut off from the others, or a connection that ends nowhere, is silent like one where nothing
 * happens. So it is asked, from time to time, for what only a member of the majority can answer: how many keys there
 * are.
 */
async function checkLiveness(
  { leases, livenessMs }: WatchContext,
  connection: EtcdConnection,
  events: EventStream,
  entries: Entries,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await sleep(systemClock, livenessMs * (0.75 + Math.random() / 2), signal);
    if (signal.aborted) return;
    try {
      const { count } = await connection.range({ ...rangeOf(leases), count_only: true });
      if (Number(count) !== entries.size) events.end(new RpcError(GRPC.OUT_OF_RANGE, 'the watch missed a change'));
    } catch (error) {
      events.end(RpcError.from(error as Error));
    }
  }
}

/**
 * Snapshots of the views of one watch. With thousands of leases a change of one of them costs what it changes: the others
 * are the same objects in the same places.
 */
function snapshots(context: WatchContext): (view: View) => Snapshot {
  let last: { snapshot: Snapshot; peers: PeerList; key: string | undefined; lease: Lease | undefined } | undefined;
  return ({ entries, changes }) => {
    const { key, lease } = context.tenure() ?? { key: undefined, lease: undefined };
    const same = last?.key === key && last?.lease === lease;
    const ours = (entry: Stored | undefined) => entry !== undefined && isOurs(entry, identityOf(context));
    const few = same && changes !== undefined && !changes.some(({ before, now }) => ours(before) || ours(now));
    if (last !== undefined && few) {
      for (const { before, now } of changes) last.peers.change(before?.attributes, now?.attributes);
      last.snapshot = { ...last.snapshot, peers: last.peers.all() };
    } else {
      const snapshot = snapshotOf(context, entries);
      last = { snapshot, peers: createPeerList(snapshot.peers), key, lease };
    }
    return last.snapshot;
  };
}

const identityOf = ({ nodeId, tenure }: WatchContext) => ({ nodeId, publicIp: tenure()?.lease.publicIp ?? {} });

function snapshotOf(context: WatchContext, entries: Entries): Snapshot {
  const tenure = context.tenure();
  const identity = identityOf(context);
  const peers: Lease[] = [];
  const ours: Stored[] = [];
  for (const entry of entries.values()) {
    if (entry?.attributes === undefined) continue;
    if (isOurs(entry, identity)) ours.push(entry);
    else peers.push(entry.attributes);
  }
  const own = ours.find((entry) => tenure === undefined || entry.key === tenure.key);
  // What has our id and another address is, when it isn't our entry, a clone of this node.
  const isHere = ({ attributes }: Stored) => sameAddress(attributes?.publicIp ?? {}, identity.publicIp);
  if (own !== undefined && isHere(own)) context.renewedBy(own.grant);
  const clones = ours.filter((entry) => entry !== own && !isHere(entry));
  peers.push(...clones.map((entry) => entry.attributes as Lease));
  return { own: own?.attributes, peers };
}

/** Reports, once for each key, what can't be understood. */
function unreadable(report: Report): (view: View) => void {
  const told = new Set<string>();
  return ({ entries, changes }) => {
    const looked = changes?.filter(({ key }) => entries.has(key)).map(({ key }) => [key, entries.get(key)] as const);
    for (const [key, entry] of looked ?? entries) {
      if (entry?.attributes !== undefined || told.has(key)) continue;
      told.add(key);
      const what =
        entry === undefined ? 'the key names no subnet' : `the value is no lease: ${entry.value.slice(0, 80)}`;
      report(new NetError('decoding', `etcd key ${key} is passed over: ${what}`, { subject: key }));
    }
  };
}
