// The contract between everything that decides and the one folder that acts. open.ts makes the real one, fake.ts one in
// memory; test/compliance/kernel.ts holds both to the same behaviour, errnos included.

import type { NetError } from '../model/errors.ts';
import type { Family, Ip, Mac, Prefix } from '../model/ip.ts';
import type { ChainHead, HandledRule, Table, Transaction } from '../model/ruleset.ts';
import type { Sliced } from '../model/slices.ts';
import type { Link, Namespace, Route, State } from '../model/state.ts';
import type { Step } from '../model/steps.ts';

export interface RouteQuery {
  readonly families: readonly Family[];
  readonly device?: string | undefined;
  /** Those that this protocol (rtm_protocol) made and that have a gateway are left out: of thousands of peers, all. */
  readonly withoutGatewaysOf?: number | undefined;
}

/** What of a namespace to read; what is absent is not read. Devices that don't exist give nothing. */
export interface Query {
  /** Links by name, or all. */
  readonly links?: readonly string[] | 'all' | undefined;
  /** Addresses of these devices, or of all. */
  readonly addresses?: readonly string[] | 'all' | undefined;
  /** Routes of the main table (local and multicast tables left out). */
  readonly routes?: RouteQuery | undefined;
  /** Permanent neighbours of these devices. */
  readonly neighbours?: readonly string[] | undefined;
  /** Permanent forwarding entries (with a destination) of these VXLAN devices. */
  readonly fdb?: readonly string[] | undefined;
  /** Queueing disciplines of these devices, and redirects of what enters them. */
  readonly qdiscs?: readonly string[] | undefined;
  /** Keys under /proc/sys; one that the kernel doesn't have is left out. */
  readonly sysctls?: readonly string[] | undefined;
}

export interface Reading {
  /** Another one once anything that the query asks for differs. */
  readonly fingerprint: string;
  /** Each part as it was at one moment; undefined: as at the former reading. */
  readonly state: State | undefined;
}

/** Flows to a port, as their first packet had it before any translation. */
export interface PortFilter {
  readonly family: Family;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly destinationPort: number;
  /** Undefined: any. */
  readonly destination?: Ip | undefined;
  /** Who answers, as it sees itself. Undefined: anyone. */
  readonly end?: Ip | undefined;
}

/** Flows that an address has begun or answers, as it sees itself. */
export interface EndFilter {
  readonly family: Family;
  readonly protocol?: undefined;
  readonly destinationPort?: undefined;
  readonly end: Ip;
}

export type FlowFilter = PortFilter | EndFilter;

export interface Failure {
  readonly step: Step;
  readonly error: NetError;
}

/** An opened namespace; closing it twice is harmless. */
export interface OpenNamespace extends Namespace {
  close(): void;
}

/**
 * Something that somebody, perhaps we ourselves, has changed in the host's namespace. A device that can't be named is
 * undefined. Overrun: more has changed than could be told.
 */
export type Change =
  | { readonly type: 'link'; readonly device: string }
  | { readonly type: 'address' | 'neighbour'; readonly device: string | undefined }
  | { readonly type: 'route'; readonly destination: Prefix; readonly device: string | undefined }
  /** Of an nft table: the chain or set, undefined when it is the table itself. */
  | { readonly type: 'rules'; readonly table: string; readonly part: string | undefined }
  /** That one transaction has changed an nft table: told once or more, each time with the same number (0 to 65535). */
  | { readonly type: 'transaction'; readonly table: string; readonly generation: number }
  | { readonly type: 'overrun' };

export interface Kernel {
  /** The namespace the process lives in. */
  readonly host: Namespace;

  /** @throws NetError invalid-netns when the path is no network namespace; errno ENOENT when there is none */
  openNamespace(path: string): OpenNamespace;

  /** A consistent reading of each part (dumps that the kernel interrupted are repeated). @throws NetError kernel */
  read(namespace: Namespace, query: Query): State;

  /**
   * The same for the host where there may be thousands of objects. `former` is the fingerprint of an earlier reading by this
   * query: where everything is as it was then, no state is made. @throws NetError kernel
   */
  readInSlices(query: Query, former?: string): Sliced<Reading>;

  /**
   * Applies the steps in their order and goes on after one that fails. Nothing is thrown for a failed step: it is
   * returned with its error (code `kernel`, errno, subject). Indexes of links that were `known` a moment ago aren't looked
   * up again.
   */
  apply(namespace: Namespace, steps: readonly Step[], known?: readonly Link[]): Failure[];

  /**
   * Lets a device of the host forward as its carrier says now. The kernel leaves that to a worker, but for a device that
   * somebody asks about (net/core/link_watch.c, linkwatch_sync_dev; before Linux 6.8 the worker is all there is). One that
   * isn't there has none. @throws NetError kernel
   */
  settleCarrier(device: string): void;

  /**
   * A number that is another one once the host's device with this index, its addresses, or whether all devices forward,
   * may have changed; of an IPv6 address that is added the kernel tells a little later. Other sysctls change silently.
   * @throws NetError kernel
   */
  linkRevision(index: number): number;

  /** A number that each transaction on nft tables of the host's namespace increases by one. @throws NetError kernel */
  rulesGeneration(): number;

  /** The route a packet to the address would take. Equivalent to: ip route get <address>. @throws NetError kernel */
  routeTo(namespace: Namespace, address: Ip): Route;

  /** The table of the host's namespace, or undefined. Equivalent to: nft list table <family> <name> */
  readTable(family: Table['family'], name: string): Table | undefined;

  /** Every chain of the host's namespace, whosever it is. Equivalent to: nft --handle list chains. @throws NetError kernel */
  listChains(): readonly ChainHead[];

  /**
   * A chain's rules, whosever it is; undefined when there is no such chain. What sets hold is not read.
   * Equivalent to: nft --handle --stateless --terse list chain. @throws NetError kernel
   */
  readChain(chain: Pick<ChainHead, 'family' | 'table' | 'name'>): readonly HandledRule[] | undefined;

  /** All of it or nothing. Equivalent to: nft -f. @throws NetError kernel with errno */
  commit(transaction: Transaction): void;

  /**
   * The same for many elements: in a process of its own, whose memory is given back, while the caller's thread goes on.
   * Equivalent to: nft -f - @throws NetError kernel with errno
   */
  commitAside(transaction: Transaction): Promise<void>;

  /**
   * Takes the bits of the mask off the marks of all tracked flows, while the thread goes on, or gives up when the signal aborts.
   * Equivalent to: conntrack -U -m 0/MASK @throws NetError kernel
   */
  unmarkFlows(mask: number, signal: AbortSignal): Promise<void>;

  /**
   * Forgets tracked flows of the host's namespace, so that their next packet is judged and translated anew.
   * Equivalent to: conntrack --delete. @throws NetError kernel
   */
  forgetFlows(filter: FlowFilter): void;

  /** Forgets every flow that one of the addresses is an end of, while the caller's thread goes on. @throws NetError kernel */
  forgetEnds(ends: readonly Ip[]): Promise<void>;

  /**
   * Tells the host and its neighbours on a device that the addresses are at a MAC from now on, whatever they remember.
   * The host knows at once; its neighbours are told in a moment, when this turn of the event loop is over, since each is
   * sent a copy. What can't be told is left to the neighbours' own time limits: nothing is thrown.
   * Equivalent to: arping -U -I DEVICE ADDRESS (in IPv6 an unsolicited advertisement);
   * ip neighbour replace ADDRESS lladdr MAC nud stale dev DEVICE
   */
  announce(device: Pick<Link, 'name' | 'index'>, mac: Mac, addresses: readonly Ip[]): void;

  /**
   * Tells of every change in the host's namespace from now on, a little later than it happens and never from inside
   * another call, until the returned function is called. Sysctls change silently. Equivalent to: ip monitor, nft monitor
   */
  watch(onChange: (change: Change) => void): () => void;

  close(): void;
}

/** Throws the first failure, if any. */
export function throwFirst(failures: readonly Failure[]): void {
  const first = failures[0];
  if (first !== undefined) throw first.error;
}
