// The subnet manager without a server: the network configuration is a file, and so are the leases. A machine by itself
// keeps them to itself; several machines share the leases file (NFS, or whatever else brings it to all of them).
//
// Every change is made under a lock (<file>.lock) and by replacing the whole file. It is looked at several times a second,
// since changes made by other machines to a shared file are told to nobody. Entries don't expire: that of a machine
// which is gone for good is for a person to take out. A file that can't be understood, or is gone, changes nothing and is
// never overwritten.

import { dirname } from 'node:path';
import { ensureDirectory, lockFile, readRegular, writeWhole } from '../../kernel/files.ts';
import { NetError } from '../../model/errors.ts';
import { familiesOf, type Lease, leaseKey } from '../../model/lease.ts';
import { untilAborted } from '../clock.ts';
import type { FileStoreConfig } from '../config.ts';
import type { FamilyNetwork, NetworkConfig } from '../network-config.ts';
import { choose, type Held, isOurs, sameAddress } from './choose.ts';
import { ABSENT, readConfigFile, realPath, stampOf, watchConfigFile, whenChanged } from './config-file.ts';
import { formatLeaseFile, parseLeaseFile } from './lease-file.ts';
import type { AcquireRequest, Snapshot, SubnetManager } from './manager.ts';

/** Others hold the lock for a few milliseconds. */
const LOCK_MS = 2000;
const MOST_BYTES = 1 << 24;

export interface FileOptions {
  readonly files: FileStoreConfig;
  /** Identity of this node (node-id.ts). */
  readonly nodeId: string;
}

/** What the leases file said at some moment. */
interface Reading {
  /** Differs when the file has changed. */
  readonly stamp: string;
  readonly leases: readonly Lease[];
}

const NOTHING: Reading = { stamp: ABSENT, leases: [] };

/** Reads and writes when used. */
export function openFileStore({ files, nodeId }: FileOptions): SubnetManager {
  let held: Lease | undefined;
  let last: Reading = NOTHING;

  /** The leases as they are; an entry that hasn't changed is the same object as before. @throws NetError */
  function read(): Reading {
    const stamp = stampOf(files.leases);
    if (stamp === last.stamp) return last;
    if (stamp === ABSENT) throw gone(files.leases);
    const known = new Map(last.leases.map((lease) => [JSON.stringify(lease), lease]));
    const leases = readLeases(files.leases).map((lease) => known.get(JSON.stringify(lease)) ?? lease);
    last = { stamp, leases };
    return last;
  }

  /** Changes the file in one step as far as other agents are concerned. @throws NetError busy, decoding, io */
  function edit(change: (leases: readonly Lease[]) => readonly Lease[]): void {
    const path = realPath(files.leases);
    ensureDirectory(dirname(path));
    const unlock = lockFile(`${path}.lock`, LOCK_MS);
    if (unlock === undefined) throw new NetError('busy', `${path}.lock is held by another process`, { subject: path });
    try {
      const before = stampOf(path) === ABSENT ? [] : readLeases(path);
      const after = formatLeaseFile(change(before));
      if (after !== formatLeaseFile(before)) writeWhole(path, after, { mode: 0o644, sync: true });
    } finally {
      unlock();
    }
  }

  return {
    networkConfig: async () => readConfigFile(files.networkConfig),

    watchConfig: (signal, report) => watchConfigFile(files.networkConfig, signal, report),

    async acquire(request, signal) {
      signal.throwIfAborted();
      edit((leases) => {
        const taken = take(leases, request, nodeId, files.leases);
        held = taken.lease;
        return taken.leases;
      });
      return held as Lease;
    },

    async publish(lease, signal) {
      signal.throwIfAborted();
      const ours = { ...lease, nodeId };
      edit((leases) => put(leases, ours, held));
      held = ours;
    },

    keepAlive: untilAborted,

    watch: (signal, report) => whenChanged(read, ({ leases }) => snapshotOf(leases, nodeId, held), signal, report),

    reconnect: () => undefined,

    close: async () => undefined,
  };
}

const gone = (path: string): NetError =>
  new NetError('file-unreadable', `${path} is gone; the leases it had hold`, { subject: path });

/** @throws NetError decoding, file-unreadable */
function readLeases(path: string): Lease[] {
  const text = readRegular(path, { followLink: true, maxBytes: MOST_BYTES });
  if (text !== undefined) return parseLeaseFile(text, path);
  throw new NetError('file-unreadable', `${path} is no file of at most ${MOST_BYTES} bytes`, { subject: path });
}

/** What nobody's agent has written is a person's: kept for the node that has the address. */
const heldOf = (lease: Lease): Held & { readonly attributes: Lease } => ({
  subnet: lease.subnet,
  attributes: lease,
  reservation: lease.nodeId === undefined,
});

/** The first subnet that is free, so that a machine by itself has SubnetMin. @throws NetError subnets-exhausted */
function take(
  leases: readonly Lease[],
  { attributes, network, previous, inUse }: AcquireRequest,
  nodeId: string,
  path: string,
): { readonly lease: Lease; readonly leases: readonly Lease[] } {
  const identity = { nodeId, publicIp: attributes.publicIp };
  const ours = (entry: Held) => isOurs(entry, identity);
  const wishes = { ours, publicIp: attributes.publicIp, previous, inUse };
  const choice = choose(network, leases.map(heldOf), wishes, () => 0);
  if (choice === undefined) throw exhausted(network, leases.length, path);
  const lease = { ...attributes, nodeId, subnet: choice.own === undefined ? choice.subnet : choice.own.subnet };
  const key = leaseKey(lease.subnet);
  const left = (entry: Lease) => ours(heldOf(entry)) && !heldOf(entry).reservation && leaseKey(entry.subnet) !== key;
  return {
    lease,
    leases: replaced(
      leases.filter((entry) => !left(entry)),
      lease,
    ),
  };
}

/** The entry in its place, or at the end. */
function replaced(leases: readonly Lease[], lease: Lease): Lease[] {
  const key = leaseKey(lease.subnet);
  const present = leases.some(({ subnet }) => leaseKey(subnet) === key);
  return present ? leases.map((entry) => (leaseKey(entry.subnet) === key ? lease : entry)) : [...leases, lease];
}

/** Our entry written again. @throws NetError lease-lost when it is another node's, or that of a clone of this one */
function put(leases: readonly Lease[], lease: Lease, held: Lease | undefined): Lease[] {
  const holder = leases.find(({ subnet }) => leaseKey(subnet) === leaseKey(lease.subnet));
  if (holder !== undefined) {
    const at = Object.values(holder.publicIp).join(' ') || holder.nodeId;
    const ours = isOurs(heldOf(holder), { nodeId: lease.nodeId as string, publicIp: lease.publicIp });
    const known = [lease, held ?? lease].some(({ publicIp }) => sameAddress(publicIp, holder.publicIp));
    if (!ours) throw lost(lease, `is held by ${at}`);
    // Two agents with one identity would take turns at writing it.
    if (!known) {
      const remedy = 'remove the --node-id-file of one of them and start its agent again';
      throw lost(lease, `was written by another agent with our node id, at ${at} (cloned machine?): ${remedy}`);
    }
  }
  return replaced(leases, lease);
}

const lost = (lease: Lease, why: string): NetError =>
  new NetError('lease-lost', `subnet ${leaseKey(lease.subnet)} ${why}`, { subject: leaseKey(lease.subnet) });

function exhausted({ families }: NetworkConfig, count: number, path: string): NetError {
  const ranges = familiesOf(families).map((family) => (families[family] as FamilyNetwork).network);
  return new NetError('subnets-exhausted', `no free subnet in ${ranges.join(' and ')}: ${count} leases in ${path}`, {
    subject: path,
  });
}

function snapshotOf(leases: readonly Lease[], nodeId: string, held: Lease | undefined): Snapshot {
  const identity = { nodeId, publicIp: held?.publicIp ?? {} };
  const ours = leases.filter((lease) => isOurs(heldOf(lease), identity));
  const own = ours.find(({ subnet }) => held === undefined || leaseKey(subnet) === leaseKey(held.subnet));
  const here = ours.filter(({ publicIp }) => sameAddress(publicIp, identity.publicIp));
  return { own, peers: leases.filter((lease) => lease !== own && !here.includes(lease)) };
}
