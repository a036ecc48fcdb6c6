// The contract of a backend: how packets for a peer's pods get to the peer. A backend only says what should be there, as
// values; reading, comparing and applying is reconcile.ts' work, and what is stale is ownership.ts' question, the same for
// every backend, so that changing from one to another needs no code of its own.

import type { Family, Ip, Prefix } from '../../model/ip.ts';
import type { Lease, PerFamily } from '../../model/lease.ts';
import type { State } from '../../model/state.ts';
import type { Command } from './command-words.ts';
import type { ProxyRoute } from './udp-control.ts';

/** The interface to other nodes, for one family. */
export interface Underlay {
  readonly device: string;
  /** Largest packet on it, in bytes. */
  readonly mtu: number;
  /** The interface's own address. */
  readonly address: Ip;
  /** Where peers send: `address`, unless the operator said otherwise. */
  readonly publicIp: Ip;
}

/** What a backend may know of the node it runs on. */
export interface Site {
  /** Stable identity of the node. */
  readonly nodeId: string;
  /** The whole pod network. */
  readonly networks: PerFamily<Prefix>;
  readonly underlay: PerFamily<Underlay>;
  /** What checksum offload of VXLAN devices is held to; undefined: whatever it is. */
  readonly txChecksum?: boolean | undefined;
}

/** One family of a peer's lease. */
export interface Peer {
  readonly family: Family;
  readonly subnet: Prefix;
  readonly publicIp: Ip;
  /** What its backend published for the family, as decoded JSON: not checked yet. */
  readonly data: unknown;
  /** Whether packets to `publicIp` leave by the underlay device without a gateway. */
  onLink(): boolean;
}

/** What reaches a peer, or why nothing can. */
export type Reach = { readonly state: Partial<State> } | { readonly refused: string };

/** What a program that carries the packets in user space is to do. */
export interface ProxySettings {
  readonly args: readonly string[];
  /** UDP port of every peer. */
  readonly port: number;
  readonly routes: readonly ProxyRoute[];
}

/** An operator's commands; what is undefined is not configured. */
export interface Commands {
  /** Before a subnet is taken; what it prints is published to the peers. */
  readonly preStartup: Command | undefined;
  /** With the subnet, before the first peer. */
  readonly postStartup: Command | undefined;
  readonly subnetAdd: Command | undefined;
  readonly subnetRemove: Command | undefined;
}

export interface Backend {
  /** As configured: "vxlan". */
  readonly type: string;
  /** The options in force, by the names of their keys, with defaults filled in. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Those that may change while pods and peers go on. */
  readonly live: readonly string[];
  /** BackendType in leases; empty for the backends that publish none. */
  readonly publishedType: string;
  /** What peers have to know, for each family; undefined when nothing. */
  readonly backendData: PerFamily<unknown>;
  /** Largest packet of a pod, in bytes. */
  readonly mtu: number;
  /** The devices it has. */
  readonly devices: readonly string[];
  /** UDP port that peers' packets arrive at; undefined where none do. */
  readonly port?: number | undefined;
  /** The node's own part, whatever peers there are. `there`: whether a device exists, for one that others make. */
  base(self: Lease, there: (device: string) => boolean): Partial<State>;
  /** The part for one family of one peer. */
  reach(peer: Peer): Reach;
  /**
   * The address that answers echoes at the far end of the way to a peer, from its first moment on; undefined: none
   * surely does.
   */
  echoes(peer: Pick<Peer, 'family' | 'subnet' | 'publicIp'>): Ip | undefined;
  /** For a backend that has such a program: what it is to do. */
  proxy?(self: Lease, peers: readonly Lease[]): ProxySettings;
  /** For a backend that is made of an operator's commands. */
  readonly commands?: Commands | undefined;
  /** Routes between the nodes are somebody else's work: one that looks like flannel's is not taken for a leftover. */
  readonly routesAreOthers?: true | undefined;
}

/** What a backend is made from. */
export interface BackendInput {
  /** The Backend object of the network configuration. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly site: Site;
  /** Links as they are now: a device that is there keeps its MAC, which peers know. */
  readonly have: State;
  /** Our lease as it was stored before this start, if there was one. */
  readonly stored: Lease | undefined;
  /** The kind of link that the type needs and the kernel doesn't have. */
  readonly lacking?: string | undefined;
}

/** @throws NetError invalid-network-config naming key and value */
export type OpenBackend = (input: BackendInput) => Backend;
