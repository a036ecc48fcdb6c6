// A node's lease: its subnets and how its peers reach it. The same value whether etcd, Kubernetes or a file holds it.

import { FAMILIES, type Family, type Ip, type Prefix } from './ip.ts';

/** A value for each family the network has. */
export type PerFamily<T> = { readonly [F in Family]?: T | undefined };

export interface LeaseAttributes {
  /** Underlay address that peers send to. */
  readonly publicIp: PerFamily<Ip>;
  /** "vxlan", "host-gw" …; empty for backends that publish nothing (udp, alloc). */
  readonly backendType: string;
  /** What the backend publishes for each family, as decoded JSON: {"VNI":1,"VtepMAC":"…"}. */
  readonly backendData: PerFamily<unknown>;
  /** Identity of the node, independent of its addresses; undefined for a peer that runs flannel. */
  readonly nodeId?: string | undefined;
}

export interface Lease extends LeaseAttributes {
  /** The node's subnets, as networks. */
  readonly subnet: PerFamily<Prefix>;
}

/** Identity among leases: the key's text in etcd, "10.5.34.0-24&fc00::-64". */
export function leaseKey(subnet: PerFamily<Prefix>): string {
  return familiesOf(subnet)
    .map((family) => (subnet[family] as Prefix).replace('/', '-'))
    .join('&');
}

/**
 * The values that are defined. An object that is given a number as its first key later on is made by V8 with room for
 * two dozen: with thousands of leases, megabytes.
 */
export function perFamily<T>(v4: T | undefined, v6: T | undefined): PerFamily<T> {
  if (v4 === undefined) return v6 === undefined ? {} : { 6: v6 };
  return v6 === undefined ? { 4: v4 } : { 4: v4, 6: v6 };
}

/** The same of what is read for each family. */
export const eachFamily = <T>(read: (family: Family) => T | undefined): PerFamily<T> => perFamily(read(4), read(6));

/** Families that have a value, IPv4 first. */
export const familiesOf = (value: PerFamily<unknown>): Family[] =>
  FAMILIES.filter((family) => value[family] !== undefined);

export interface LeaseChanges {
  readonly added: readonly Lease[];
  readonly changed: readonly Lease[];
  readonly removed: readonly Lease[];
}

/** What differs between two snapshots, comparing whole values: a peer's new address or MAC is a change. */
export function leaseChanges(before: readonly Lease[], after: readonly Lease[]): LeaseChanges {
  const old = new Map(before.map((lease) => [leaseKey(lease.subnet), JSON.stringify(canonical(lease))]));
  const kept = new Set(after.map((lease) => leaseKey(lease.subnet)));
  return {
    added: after.filter((lease) => !old.has(leaseKey(lease.subnet))),
    changed: after.filter((lease) => {
      const was = old.get(leaseKey(lease.subnet));
      return was !== undefined && was !== JSON.stringify(canonical(lease));
    }),
    removed: before.filter((lease) => !kept.has(leaseKey(lease.subnet))),
  };
}

/** The value with its keys in one order, so that equal leases print equally. */
function canonical(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(canonical);
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, canonical(inner)]),
  );
}
