// Leases as keys of etcd: one read for all of them, and writes that only succeed if nobody else wrote in between.

import type { Prefix } from '../../model/ip.ts';
import { type Lease, leaseKey, type PerFamily } from '../../model/lease.ts';
import { collide, type Held } from './choose.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { type Compare, type KeyValue, prefixEnd, type RequestOp } from './etcd-messages.ts';
import { parseLeaseKey, parseLeaseValue } from './lease-record.ts';

/** A lease's key as it stands in etcd. */
export interface Stored extends Held {
  readonly key: string;
  readonly value: string;
  /** Undefined when the value can't be understood. */
  readonly attributes: Lease | undefined;
  /** Revisions of its creation and of its last change. */
  readonly created: string;
  readonly revision: string;
  /** Id of the etcd lease it expires with; {@link NO_GRANT} for a reservation. */
  readonly grant: string;
}

export const NO_GRANT = '0';

/** Prefix of the keys of leases. */
export const leasesUnder = (prefix: string): string => `${prefix}/subnets/`;

/** The range of all leases. */
export const rangeOf = (leases: string) => ({ key: Buffer.from(leases), range_end: prefixEnd(leases) });

/** The entry of a key; undefined when the key names no subnet. */
export function storedOf(
  leases: string,
  { key, value, create_revision, mod_revision, lease }: KeyValue,
): Stored | undefined {
  const name = key.toString();
  const subnet = parseLeaseKey(name.slice(leases.length));
  if (subnet === undefined) return undefined;
  const text = value.toString();
  const attributes = parseLeaseValue(text);
  return {
    key: name,
    value: text,
    subnet,
    attributes: attributes && { ...attributes, subnet },
    reservation: lease === NO_GRANT,
    created: create_revision === mod_revision ? mod_revision : create_revision,
    revision: mod_revision,
    grant: lease,
  };
}

export interface Listing {
  /** By key; undefined for a key that names no subnet. */
  readonly entries: ReadonlyMap<string, Stored | undefined>;
  /** Of the store when it was read; what has changed since may be among the entries. */
  readonly revision: string;
}

/** Everything under the prefix, by one request. @throws RpcError */
export async function list(connection: EtcdConnection, leases: string): Promise<Listing> {
  const { kvs, header } = await connection.range(rangeOf(leases));
  const entries = new Map<string, Stored | undefined>();
  for (const kv of kvs) {
    const entry = storedOf(leases, kv);
    entries.set(entry?.key ?? kv.key.toString(), entry);
  }
  return { entries, revision: header.revision };
}

export interface Write {
  readonly value: string;
  readonly grant: string;
  /** Entries that go in the same step, if they are still as they were read. */
  readonly remove: readonly Stored[];
}

/**
 * Changes an entry, if it is still as it was read. @returns the store's revision since then, undefined when it was not.
 * @throws RpcError NOT_FOUND: the grant is gone
 */
export async function replace(connection: EtcdConnection, entry: Stored, write: Write): Promise<string | undefined> {
  const kept = write.remove.filter(({ key }) => key !== entry.key);
  const { succeeded, header } = await connection.txn([entry, ...kept].map(unchanged), [
    put(entry.key, write),
    ...kept.map(remove),
  ]);
  return succeeded ? header.revision : undefined;
}

/**
 * Makes an entry, if its key is free and its subnet too, as far as those know that were there at the revision `since`. Equal
 * keys collide in etcd itself. Keys that differ may overlap all the same (dual stack: same IPv4, other IPv6; another
 * SubnetLen): whoever makes one looks at all keys that were made since then in the same step, and gives way when an older
 * one overlaps, so that of two made at the same time exactly one stays.
 * @returns the store's revision since the entry is there, undefined when it is not. @throws RpcError NOT_FOUND: the
 * grant is gone
 */
export async function create(
  connection: EtcdConnection,
  leases: string,
  subnet: PerFamily<Prefix>,
  since: string,
  write: Write,
): Promise<string | undefined> {
  const key = leases + leaseKey(subnet);
  const absent: Compare = { key: Buffer.from(key), result: 'Equal', target: 'Version', version: 0 };
  const youngest = String(BigInt(since) + 1n);
  const look: RequestOp = { request_range: { ...rangeOf(leases), keys_only: true, min_create_revision: youngest } };
  const steps = [put(key, write), ...write.remove.map(remove), look];
  const { succeeded, responses, header } = await connection.txn([absent, ...write.remove.map(unchanged)], steps);
  if (!succeeded) return undefined;
  const entries = (responses.at(-1)?.response_range?.kvs ?? []).flatMap((kv) => storedOf(leases, kv) ?? []);
  const made = entries.find((entry) => entry.key === key);
  const late = made !== undefined && entries.some((entry) => older(entry, made) && collide(entry.subnet, subnet));
  if (!late) return header.revision;
  await connection.txn([unchanged(made)], [remove(made)]);
  return undefined;
}

const older = (a: Stored, b: Stored): boolean => BigInt(a.created) < BigInt(b.created);

const unchanged = ({ key, revision }: Stored): Compare => ({
  key: Buffer.from(key),
  result: 'Equal',
  target: 'Mod',
  mod_revision: revision,
});

const put = (key: string, { value, grant }: Write): RequestOp => ({
  request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: grant },
});

const remove = ({ key }: Stored): RequestOp => ({ request_delete_range: { key: Buffer.from(key) } });
