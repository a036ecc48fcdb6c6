// The contract of a subnet manager: where the network's configuration comes from, who holds which subnet.
// test/compliance/subnet-manager.ts holds every one to the same behaviour.

import type { Lease, LeaseAttributes, PerFamily } from '../../model/lease.ts';
import type { Ip, Prefix } from '../../model/ip.ts';
import type { NetworkConfig } from '../network-config.ts';
import type { PeerStatus } from '../peer-status.ts';

export interface AcquireRequest {
  readonly network: NetworkConfig;
  readonly attributes: LeaseAttributes;
  /** Subnet that the node held before (from the subnet file), taken again when it is free and fits. */
  readonly previous: PerFamily<Prefix>;
  /** Whether pods of this node use `previous`: then it is kept even where it no longer fits the configuration. */
  readonly inUse: boolean;
}

/** Everything the manager knows at one moment. Never a part of it. */
export interface Snapshot {
  /** Our own lease as it is stored now; undefined when its key is gone or another node holds it. */
  readonly own: Lease | undefined;
  /** Every other node's lease. */
  readonly peers: readonly Lease[];
  /** Where subnets are assigned to nodes and not taken by them: what this node has now. */
  readonly assignment?: Assignment | undefined;
}

/** What the store says of this node, whether an agent runs there or not. */
export interface Assignment {
  /** Of whatever families; empty while there is none. */
  readonly subnet: PerFamily<Prefix>;
  /** Addresses that the node has for its peers, where a person has said so. */
  readonly publicIp: PerFamily<Ip>;
}

/** How the node stands after a run. */
export interface Standing {
  readonly ready: boolean;
  readonly peers: readonly PeerStatus[];
  /** What failed that concerns the node itself. */
  readonly problems: readonly string[];
  /** Why the configuration that is there is not the one in force. */
  readonly config: string | undefined;
}

export interface SubnetManager {
  /**
   * The text of the network configuration.
   * @throws NetError etcd-unreachable, etcd-refused, no-network-config (all transient: the caller tries again)
   */
  networkConfig(signal: AbortSignal): Promise<string>;

  /**
   * The same text as it is now, whenever it changes, and when a trouble has passed; undefined where it is gone. Troubles
   * are reported, the iteration ends with the signal.
   */
  watchConfig(signal: AbortSignal, report: (trouble: unknown) => void): AsyncIterable<string | undefined>;

  /**
   * Takes a subnet for this node, by compare-and-swap: our own lease again, else the previous subnet, else a free one.
   * A lost race is tried again here, until the signal aborts or no subnet is free. Where subnets are assigned, it is
   * the one that is.
   * @throws NetError subnets-exhausted, etcd-unreachable, etcd-refused, kube-unreachable, kube-refused, not-in-kube,
   * no-pod-cidr
   */
  acquire(request: AcquireRequest, signal: AbortSignal): Promise<Lease>;

  /**
   * Writes our lease's key again with these attributes, if it is free or ours; its life goes on.
   * @throws NetError lease-lost when another node holds the subnet
   */
  publish(lease: Lease, signal: AbortSignal): Promise<void>;

  /**
   * Keeps the lease alive until the signal aborts; never revokes it. Troubles are reported and tried again, not thrown;
   * undefined is reported when they have passed.
   */
  keepAlive(signal: AbortSignal, report: (trouble: unknown) => void): Promise<void>;

  /**
   * Full snapshots: the first when it is known, then one after each change (several changes may share one). Survives
   * disconnects and compaction by reading everything again; troubles are reported, the iteration ends with the signal.
   */
  watch(signal: AbortSignal, report: (trouble: unknown) => void): AsyncIterable<Snapshot>;

  /**
   * This node's address has changed: what was connected from the former one ends nowhere, and only time would tell. Nothing
   * happens where there is no connection.
   */
  reconnect(): void;

  /** Told after each run how the node stands, by a store that has a place for it. Returns at once. */
  observe?(standing: Standing): void;

  close(): Promise<void>;
}
