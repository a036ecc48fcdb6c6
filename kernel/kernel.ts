// The contract between everything that decides and the one folder that acts. open.ts makes the real one, fake.ts one in
// memory; test/compliance/kernel.ts holds both to the same behaviour, errnos included.

import type { NetError } from '../model/errors.ts';
import type { Family, Ip } from '../model/ip.ts';
import type { Table, Transaction } from '../model/ruleset.ts';
import type { Namespace, Route, State } from '../model/state.ts';
import type { Step } from '../model/steps.ts';

/** What of a namespace to read; what is absent is not read. Devices that don't exist give nothing. */
export interface Query {
  /** Links by name, or all. */
  readonly links?: readonly string[] | 'all' | undefined;
  /** Addresses of these devices, or of all. */
  readonly addresses?: readonly string[] | 'all' | undefined;
  /** Routes of the main table (local and multicast tables left out). */
  readonly routes?: { readonly families: readonly Family[]; readonly device?: string | undefined } | undefined;
  /** Permanent neighbours of these devices. */
  readonly neighbours?: readonly string[] | undefined;
  /** Permanent forwarding entries (with a destination) of these VXLAN devices. */
  readonly fdb?: readonly string[] | undefined;
  /** Keys under /proc/sys; one that the kernel doesn't have is left out. */
  readonly sysctls?: readonly string[] | undefined;
}

export interface Failure {
  readonly step: Step;
  readonly error: NetError;
}

/** An opened namespace; closing it twice is harmless. */
export interface OpenNamespace extends Namespace {
  close(): void;
}

export interface Kernel {
  /** The namespace the process lives in. */
  readonly host: Namespace;

  /** @throws NetError invalid-netns when the path is no network namespace; errno ENOENT when there is none */
  openNamespace(path: string): OpenNamespace;

  /** A consistent reading of each part (dumps that the kernel interrupted are repeated). @throws NetError kernel */
  read(namespace: Namespace, query: Query): State;

  /**
   * Applies the steps in their order and goes on after one that fails. Nothing is thrown for a failed step: it is
   * returned with its error (code `kernel`, errno, subject).
   */
  apply(namespace: Namespace, steps: readonly Step[]): Failure[];

  /** The route a packet to the address would take. Equivalent to: ip route get <address>. @throws NetError kernel */
  routeTo(namespace: Namespace, address: Ip): Route;

  /** The table of the host's namespace, or undefined. Equivalent to: nft list table <family> <name> */
  readTable(family: Table['family'], name: string): Table | undefined;

  /** All of it or nothing. Equivalent to: nft -f. @throws NetError kernel with errno */
  commit(transaction: Transaction): void;

  close(): void;
}

/** Throws the first failure, if any. */
export function throwFirst(failures: readonly Failure[]): void {
  const first = failures[0];
  if (first !== undefined) throw first.error;
}
