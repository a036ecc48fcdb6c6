// What the verbs ADD, DEL, CHECK and GC do about addresses. One attachment has one verb at a time (the callers see to
// that, across processes); different attachments may be served by any number of processes, ours and host-local's.

import { readRegular } from '../kernel/files.ts';
import type { CniRoute, Dns } from '../model/cni.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import type { Ip, Prefix } from '../model/ip.ts';
import { candidates, type Demand, demandsOf, exhausted } from './allocate.ts';
import type { IpamConfig } from './config.ts';
import type { Candidate } from './ranges.ts';
import { concerns, isOf, type Owner, ownerOf } from './reservation.ts';
import { parseResolvConf } from './resolv-conf.ts';
import { type Place, Store } from './store.ts';

export { type IpamConfig, type IpamInput, parseIpam } from './config.ts';
export type { Owner } from './reservation.ts';

/** host-local holds its lock for milliseconds; the thread waits this long for it when no address is left otherwise. */
const LOCK_WAIT_MS = 250;
const MAX_RESOLV_CONF_BYTES = 65_536;

export interface IpamResult {
  /** An address of each set, in the sets' order. */
  readonly ips: readonly { readonly address: Prefix; readonly gateway: Ip | undefined }[];
  readonly routes: readonly CniRoute[];
  readonly dns: Dns;
}

/** A reservation and the attachment that holds it. */
export interface Reservation {
  readonly ip: Ip;
  /** Undefined when the file names nobody: empty, damaged, or removed meanwhile. */
  readonly owner: Owner | undefined;
}

/**
 * Reserves an address of each set for the owner: all of them or, when one fails, none.
 * @throws NetError no-addresses, address-taken, duplicate-attachment, invalid-config, invalid-environment, io; busy
 * when the last addresses are blocked by a host-local that holds its lock
 */
export function reserve(config: IpamConfig, owner: Owner): IpamResult {
  const demands = demandsOf(config.sets, config.requested);
  const dns = config.resolvConf === undefined ? {} : readDns(config.resolvConf);
  const store = new Store(config);
  store.create();
  if (store.mayHold(owner)) refuseDuplicate(store, owner);
  const taken: Candidate[] = [];
  try {
    store.begin(owner);
    for (const demand of demands) {
      const found = take(store, demand, owner);
      taken.push(found);
      store.setLastReserved(demand.index, found.ip, owner);
    }
  } catch (error) {
    undo(store, taken, owner);
    throw error;
  }
  return { ips: taken.map(({ address, gateway }) => ({ address, gateway })), routes: config.routes, dns };
}

function refuseDuplicate(store: Store, owner: Owner): void {
  const held = store.entries().find(({ content }) => content !== undefined && concerns(content, owner));
  if (held === undefined) return;
  const message = `${held.ip} has been allocated to ${owner.containerId}, duplicate allocation is not allowed`;
  throw new NetError('duplicate-attachment', message, { subject: held.ip });
}

/** The address of one set; once every candidate turned out to be taken, the empty files among them are looked into. */
function take(store: Store, demand: Demand, owner: Owner): Candidate {
  const last = demand.requested === undefined ? store.lastReserved(demand.index) : undefined;
  const found = firstFree(store, demand, last, owner) ?? (reclaimed(store) && firstFree(store, demand, last, owner));
  if (!found) throw exhausted(demand);
  return found;
}

/**
 * The first candidate is tried blindly: it is the one after the last reserved, nearly always free. Only when it isn't
 * is the directory read, once; whatever others take after that shows by their link(2) having been first.
 */
function firstFree(store: Store, demand: Demand, last: Ip | undefined, owner: Owner): Candidate | undefined {
  let seen: ReadonlySet<Ip> | undefined;
  for (const candidate of candidates(demand, last, (ip) => seen?.has(ip) ?? false)) {
    if (takeOne(store, candidate.ip, owner)) return candidate;
    seen ??= new Set(store.addresses());
  }
  return undefined;
}

function takeOne(store: Store, ip: Ip, owner: Owner): boolean {
  try {
    return store.take(ip, owner);
  } catch (error) {
    // This process stood still for a minute, or a person removed the directory: nothing is taken, another try will do.
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw new NetError('busy', `reserve ${ip}: the state directory was cleared meanwhile`, {
      subject: ip,
      cause: error,
    });
  }
}

/** Whether addresses blocked by empty files were freed. */
function reclaimed(store: Store): boolean {
  store.sweep(Date.now());
  const freed = store.reclaim(LOCK_WAIT_MS);
  if (freed === undefined) throw new NetError('busy', 'free the addresses of empty files: host-local holds its lock');
  return freed.length > 0;
}

/** Gives back what a failed attempt took. What fails here is left to the DEL that follows a failed ADD. */
function undo(store: Store, taken: readonly Candidate[], owner: Owner): void {
  try {
    for (const { ip } of taken) store.free(ip, owner);
    store.end(owner);
  } catch {
    // The first error is the one to report.
  }
}

/** @throws NetError invalid-config when the path named in the configuration is no file, io when it can't be read */
function readDns(path: string): Dns {
  const text = readRegular(path, { followLink: true, maxBytes: MAX_RESOLV_CONF_BYTES });
  if (text !== undefined) return parseResolvConf(text);
  throw new NetError('invalid-config', `ipam.resolvConf: ${path} is not there or not a file`, { subject: path });
}

/**
 * Frees the owner's addresses and returns them; an owner that has none is no error. With the addresses `known`, the
 * directory is read only if one of them isn't there or isn't the owner's. @throws NetError io, invalid-config
 */
export function release(config: Place, owner: Owner, known: readonly Ip[] = []): Ip[] {
  const store = new Store(config);
  const freed = store.exists() ? known.filter((ip) => store.free(ip, owner)) : [];
  const complete = known.length > 0 && freed.length === known.length;
  const rest = complete || !store.exists() ? [] : releaseAll(store, owner);
  store.end(owner, !complete);
  return [...freed, ...rest];
}

/** The container's files of the old form are taken only if none names the attachment, as host-local does. */
function releaseAll(store: Store, owner: Owner): Ip[] {
  const entries = store.entries();
  const exact = entries.filter(({ content }) => content !== undefined && isOf(content, owner));
  const chosen = exact.length > 0 ? exact : entries.filter(({ content }) => content?.trim() === owner.containerId);
  const freed = chosen.map(({ ip }) => ip).filter((ip) => store.free(ip, owner));
  // Only if the lock is free at this moment: DEL must not wait for what isn't its own.
  if (entries.some(({ content }) => content === '')) store.reclaim(0);
  store.sweep(Date.now());
  return freed;
}

/**
 * CHECK: every address is reserved for the owner; with no addresses given, at least one is.
 * @throws NetError check-failed naming the file that is missing or another's; io, invalid-config
 */
export function verify(config: Place, owner: Owner, addresses: readonly Ip[]): void {
  const store = new Store(config);
  const there = store.exists();
  const { containerId, ifname } = owner;
  const missing = addresses.find((ip) => !there || !store.holds(ip, owner));
  if (missing !== undefined) {
    const path = store.pathOf(missing);
    throw new NetError('check-failed', `${path}: no reservation of ${containerId} ${ifname}`, { subject: path });
  }
  const held = addresses.length > 0 || (there && store.addresses().some((ip) => store.holds(ip, owner)));
  if (!held)
    throw new NetError('check-failed', `no address is reserved for ${containerId} ${ifname}`, { subject: containerId });
}

/** Those of the owner's addresses that are not reserved for it. @throws NetError io, invalid-config */
export function unreserved(config: Place, owner: Owner, addresses: readonly Ip[]): Ip[] {
  const store = new Store(config);
  return addresses.filter((ip) => !store.exists() || !store.holds(ip, owner));
}

/**
 * Reserves these very addresses again, for an owner that uses them.
 * @throws NetError address-taken when another has one of them by now; io
 */
export function reserveAgain(config: Place, owner: Owner, addresses: readonly Ip[]): void {
  const store = new Store(config);
  store.create();
  store.begin(owner);
  const taken = addresses.find((ip) => !store.take(ip, owner));
  if (taken === undefined) return;
  const message = `${taken} of ${owner.containerId} is reserved for another: delete one of the two pods`;
  throw new NetError('address-taken', message, { subject: taken });
}

/** Every reservation of the network, for GC and status. Removes what killed processes left. @throws NetError io */
export function reservations(config: Place): Reservation[] {
  const store = new Store(config);
  if (!store.exists()) return [];
  store.sweep(Date.now());
  return store
    .entries()
    .map(({ ip, content }) => ({ ip, owner: content === undefined ? undefined : ownerOf(content) }));
}
