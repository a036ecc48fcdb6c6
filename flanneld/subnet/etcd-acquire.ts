// Taking a subnet in etcd, and writing our lease again. Each function is one try on what etcd holds at that moment;
// when another node writes in between it gives undefined, and the caller tries again on what is there then.

import { NetError } from '../../model/errors.ts';
import { familiesOf, type Lease, leaseKey, type PerFamily } from '../../model/lease.ts';
import { sleep, systemClock } from '../clock.ts';
import type { FamilyNetwork, NetworkConfig } from '../network-config.ts';
import { choose, collide, type Identity, isOurs, sameAddress } from './choose.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { GRPC, hasGrpcCode } from './etcd-errors.ts';
import { create, type Listing, list, NO_GRANT, replace, type Stored, type Write } from './etcd-store.ts';
import { formatLeaseValue } from './lease-record.ts';
import type { KnownGrants } from './grants.ts';
import type { AcquireRequest } from './manager.ts';

/** What this process holds. */
export interface Tenure {
  readonly lease: Lease;
  readonly key: string;
  /** The etcd lease that the key lives by; {@link NO_GRANT} for a reservation, which needs none. */
  readonly grant: string;
  /** Of the store, since the entry says this. */
  readonly revision: string;
}

export interface AcquireContext {
  /** Prefix of the keys of leases. */
  readonly leases: string;
  readonly nodeId: string;
  /** Time to live of what we write. */
  readonly leaseSeconds: number;
  /** Milliseconds between two renewals, of ours and of every other agent of this program. */
  readonly renewalMs: number;
  readonly random: () => number;
  /** Told of another agent with our node id. */
  readonly report: (trouble: unknown) => void;
  /** An etcd lease that was granted and has no key yet: kept for the next try. */
  spare: string | undefined;
  /** Etcd leases that only we have written keys with. */
  readonly grants: KnownGrants;
}

/** @param known what etcd holds; read when undefined @throws NetError subnets-exhausted; RpcError */
export async function takeSubnet(
  connection: EtcdConnection,
  context: AcquireContext,
  request: AcquireRequest,
  known: Listing | undefined,
  signal: AbortSignal,
): Promise<Tenure | undefined> {
  const attributes = { ...request.attributes, nodeId: context.nodeId };
  const identity: Identity = { nodeId: context.nodeId, publicIp: attributes.publicIp };
  const listing = known ?? (await list(connection, context.leases));
  const entries = entriesOf(listing);
  const clones = await entriesOfClones(connection, context, entries, [identity.publicIp], signal);
  const ours = (entry: Stored) => isOurs(entry, identity) && !clones.has(entry);
  const choice = choose(request.network, entries, { ...request, publicIp: identity.publicIp, ours }, context.random);
  if (choice === undefined) throw exhausted(request.network, entries.length);
  const remove = entries.filter((entry) => ours(entry) && !entry.reservation && entry !== choice.own);
  const lease = { ...attributes, subnet: choice.own === undefined ? choice.subnet : choice.own.subnet };
  return write(connection, context, { own: choice.own, lease, remove, since: listing.revision });
}

/** Writes a lease that this process held or holds. @throws NetError lease-lost; RpcError */
export async function writeLease(
  connection: EtcdConnection,
  context: AcquireContext,
  lease: Lease,
  tenure: Tenure | undefined,
  signal: AbortSignal,
): Promise<Tenure | undefined> {
  const identity: Identity = { nodeId: context.nodeId, publicIp: lease.publicIp };
  const listing = await list(connection, context.leases);
  const there = entriesOf(listing).filter((entry) => collide(entry.subnet, lease.subnet));
  const addresses = [lease.publicIp, ...(tenure === undefined ? [] : [tenure.lease.publicIp])];
  const clones = await entriesOfClones(connection, context, there, addresses, signal);
  const own = there.find((entry) => leaseKey(entry.subnet) === leaseKey(lease.subnet));
  const others = there.filter((entry) => entry !== own);
  const holder =
    there.find((entry) => clones.has(entry) || !isOurs(entry, identity)) ?? others.find((entry) => entry.reservation);
  if (holder !== undefined) throw lost(lease, holder);
  return write(connection, context, {
    own,
    lease: { ...lease, nodeId: context.nodeId },
    remove: others,
    since: listing.revision,
    former: tenure?.grant,
  });
}

const entriesOf = ({ entries }: Listing): Stored[] => [...entries.values()].filter((entry) => entry !== undefined);

/** What is to be written, and what was there. */
interface Decision {
  readonly own: Stored | undefined;
  readonly lease: Lease;
  readonly remove: readonly Stored[];
  /** The store's revision that this was decided on. */
  readonly since: string;
  /** The etcd lease of a key that is gone, used again if it still lives. */
  readonly former?: string | undefined;
}

async function write(
  connection: EtcdConnection,
  context: AcquireContext,
  { own, lease, remove, since, former }: Decision,
): Promise<Tenure | undefined> {
  const grant = await grantFor(connection, context, own, lease, former);
  if (grant !== NO_GRANT) context.grants.add(grant);
  const value = formatLeaseValue(lease);
  const tenure = { lease, key: own?.key ?? context.leases + leaseKey(lease.subnet), grant };
  if (own?.value === value && own.grant === grant && remove.length === 0) return { ...tenure, revision: own.revision };
  const wanted: Write = { value, grant, remove };
  try {
    const revision = await (own === undefined
      ? create(connection, context.leases, lease.subnet, since, wanted)
      : replace(connection, own, wanted));
    if (revision === undefined) return undefined;
    if (grant === context.spare) context.spare = undefined;
    return { ...tenure, revision };
  } catch (error) {
    // The grant expired since it was looked at: what stood under it has changed too.
    if (!hasGrpcCode(error, GRPC.NOT_FOUND)) throw error;
    context.spare = undefined;
    return undefined;
  }
}

/**
 * A reservation stays without. A lease goes on living by the one it has, so that a restart writes nothing, unless that
 * is gone, has another time to live, or may be renewed by an agent at another address that has our node id.
 */
async function grantFor(
  connection: EtcdConnection,
  context: AcquireContext,
  own: Stored | undefined,
  lease: Lease,
  former: string | undefined,
): Promise<string> {
  if (own?.reservation) return NO_GRANT;
  const moved = own !== undefined && !sameAddress(own.attributes?.publicIp ?? {}, lease.publicIp);
  const present = moved ? undefined : (own?.grant ?? former);
  if (present !== undefined && present !== NO_GRANT) {
    if ((await connection.keepAlive(present)) === context.leaseSeconds) return present;
  }
  context.spare ??= await connection.grant(context.leaseSeconds);
  return context.spare;
}

/**
 * Entries with our node id, at an address that was never ours, which another agent keeps alive: a machine cloned with
 * its /var/lib runs under our id. Told from our own entry of before a change of address by the etcd lease that it lives by;
 * after a boot, when no such lease is known, by waiting for a renewal that isn't ours.
 */
async function entriesOfClones(
  connection: EtcdConnection,
  context: AcquireContext,
  entries: readonly Stored[],
  addresses: readonly PerFamily<string>[],
  signal: AbortSignal,
): Promise<ReadonlySet<Stored>> {
  const clones = new Set<Stored>();
  for (const entry of entries) {
    const { attributes, reservation } = entry;
    if (attributes?.nodeId !== context.nodeId || reservation) continue;
    if (context.grants.has(entry.grant)) continue;
    if (addresses.some((address) => sameAddress(attributes.publicIp, address))) continue;
    if (!(await renewedByOthers(connection, context, entry.grant, signal))) continue;
    clones.add(entry);
    context.report(
      new NetError(
        'lease-lost',
        `${entry.key}: another agent with our node id keeps it alive (cloned machine?); remove one node id file`,
        {
          subject: entry.key,
        },
      ),
    );
  }
  return clones;
}

/** Whether the etcd lease lives longer than time alone would let it. Takes at most one period of renewal. */
async function renewedByOthers(
  connection: EtcdConnection,
  context: AcquireContext,
  grant: string,
  signal: AbortSignal,
): Promise<boolean> {
  const first = await connection.timeToLive(grant);
  const began = performance.now();
  const patience = (context.renewalMs / 1000) * 1.1 + 2;
  for (let now = first; now.remaining >= 0 && now.granted - now.remaining <= patience; ) {
    await sleep(systemClock, 500, signal);
    signal.throwIfAborted();
    const passed = (performance.now() - began) / 1000;
    now = await connection.timeToLive(grant);
    // etcd counts in whole seconds.
    if (now.remaining > first.remaining + 1 - passed) return true;
  }
  return false;
}

function exhausted({ families }: NetworkConfig, leases: number): NetError {
  const ranges = familiesOf(families).map((family) => {
    const { network, subnetMin, subnetMax } = families[family] as FamilyNetwork;
    return `${network} (${subnetMin} to ${subnetMax})`;
  });
  return new NetError('subnets-exhausted', `no free subnet in ${ranges.join(' and ')}: ${leases} leases`, {
    subject: ranges.join(),
  });
}

const lost = (lease: Lease, holder: Stored): NetError =>
  new NetError('lease-lost', `subnet ${leaseKey(lease.subnet)}: ${holder.key} is held by ${holderName(holder)}`, {
    subject: holder.key,
  });

const holderName = ({ attributes }: Stored): string =>
  Object.values(attributes?.publicIp ?? {}).join(' ') || attributes?.nodeId || 'an entry that cannot be understood';
