// host-local's directory, shared with processes that run the Go plugin:
//
//   <dataDir>/<network>/10.1.2.3             the reservation of an address: whose it is
//   <dataDir>/<network>/last_reserved_ip.0   where round robin goes on, for each range set
//   <dataDir>/<network>/lock                 host-local holds its flock during every verb
//   <dataDir>/.flannel-tmp/<network>/<containerID>:<ifname>     ours: see below
//
// host-local creates a file and writes it afterwards, under its lock. We take no lock: the file in .flannel-tmp is
// written first, and link(2) gives this complete file the address as a second name, which fails when the name exists,
// whoever made it. The first name stays for as long as the attachment has addresses, so that a second ADD is recognised
// by one look. It lies outside the network's directory because host-local's DEL removes whatever it finds there with
// that content; a name with a leading dot can't be a network's.
//
// A reservation is removed by its owner's verb alone, after a look at its content. Nobody replaces a file in between:
// an attachment has one verb at a time, and a name that exists is never written again.

import {
  ensureDirectory,
  isDirectory,
  linkIfFree,
  listDirectory,
  lockFile,
  readRegular,
  removeIfThere,
  statIfThere,
  uniqueSuffix,
  writeWhole,
} from '../kernel/files.ts';
import { type Ip, tryIp } from '../model/ip.ts';
import { checkNetwork, checkOwner, concerns, contentOf, fileNameOf, type Owner } from './reservation.ts';

/** Where a network's reservations are. */
export interface Place {
  readonly dataDir: string;
  readonly network: string;
}

/** A reservation as found. */
export interface Entry {
  readonly ip: Ip;
  /** Undefined when there is no text to read: not a file, or gone meanwhile. */
  readonly content: string | undefined;
}

/** What a process that died leaves is removed after this time; no living one takes as long between two of its steps. */
export const STALE_MS = 60_000;

export class Store {
  readonly #directory: string;
  readonly #ownRoot: string;
  readonly #own: string;

  /** Touches nothing. @throws NetError invalid-config for a network name that is not one */
  constructor({ dataDir, network }: Place) {
    checkNetwork(network);
    this.#directory = `${dataDir}/${network}`;
    this.#ownRoot = `${dataDir}/.flannel-tmp`;
    this.#own = `${this.#ownRoot}/${network}`;
  }

  /** The path of an address's reservation. */
  pathOf(ip: Ip): string {
    return `${this.#directory}/${ip}`;
  }

  /** Creates the directories. @throws NetError io, also when one of them is a symbolic link */
  create(): void {
    ensureDirectory(this.#directory);
    ensureDirectory(this.#ownRoot, 0o700);
    ensureDirectory(this.#own, 0o700);
  }

  /** Whether there is anything to read. @throws NetError io when the directory is a symbolic link */
  exists(): boolean {
    return isDirectory(this.#directory);
  }

  /** Whether the owner may hold addresses already: by our own file, or because host-local has worked here. */
  mayHold(owner: Owner): boolean {
    const own = statIfThere(this.#ownPath(owner));
    return (own !== undefined && own.nlink > 1) || statIfThere(`${this.#directory}/lock`) !== undefined;
  }

  /** Writes the owner's complete file, from which {@link take} makes reservations. */
  begin(owner: Owner): void {
    writeWhole(this.#ownPath(owner), contentOf(owner), { temporary: this.#temporary(owner) });
  }

  /** Reserves the address for the owner of whom {@link begin} wrote the file. False when it is taken. */
  take(ip: Ip, owner: Owner): boolean {
    return linkIfFree(this.#ownPath(owner), this.pathOf(ip));
  }

  /** The set's address that was reserved last, by anyone. */
  lastReserved(set: number): Ip | undefined {
    return tryIp(readRegular(this.#lastPath(set))?.trim());
  }

  /** Lets the set's next allocation go on after this address. */
  setLastReserved(set: number, ip: Ip, owner: Owner): void {
    writeWhole(this.#lastPath(set), ip, { temporary: this.#temporary(owner) });
  }

  /** The content of an address's reservation; undefined when there is none. */
  read(ip: Ip): string | undefined {
    return readRegular(this.pathOf(ip));
  }

  /** Whether there is a reservation of the address by this owner. */
  holds(ip: Ip, owner: Owner): boolean {
    const content = this.read(ip);
    return content !== undefined && concerns(content, owner);
  }

  /** Frees the address if it is the owner's. Whether there was something to free. */
  free(ip: Ip, owner: Owner): boolean {
    return this.holds(ip, owner) && removeIfThere(this.pathOf(ip));
  }

  /** Removes what {@link begin} wrote. With `all`, also what a killed process left of the same owner. */
  end(owner: Owner, all = false): void {
    const path = this.#ownPath(owner);
    if (!this.#hasOwn()) return;
    removeIfThere(path);
    const leftovers = all ? listDirectory(this.#own).filter((name) => temporaryOf(name) === fileNameOf(owner)) : [];
    for (const name of leftovers) removeIfThere(`${this.#own}/${name}`);
  }

  /** Every address that has a name in the directory. */
  addresses(): Ip[] {
    // tryIp gives the canonical text: a file of another name reserves nothing, for host-local neither.
    return listDirectory(this.#directory).filter((name): name is Ip => tryIp(name) === name);
  }

  /** Every reservation with its content. */
  entries(): Entry[] {
    return this.addresses().map((ip) => ({ ip, content: this.read(ip) }));
  }

  /**
   * Frees addresses whose file is empty: host-local was killed, or the disk full, between creating and writing it. Its
   * lock tells that from a host-local in the middle of writing. Undefined when the lock can't be had in time.
   */
  reclaim(timeoutMs: number): Ip[] | undefined {
    const isEmpty = (ip: Ip) => {
      const found = statIfThere(this.pathOf(ip));
      return found?.isFile() === true && found.size === 0;
    };
    const suspects = this.addresses().filter(isEmpty);
    if (suspects.length === 0) return [];
    const unlock = lockFile(`${this.#directory}/lock`, timeoutMs);
    if (unlock === undefined) return undefined;
    try {
      return suspects.filter((ip) => isEmpty(ip) && removeIfThere(this.pathOf(ip)));
    } finally {
      unlock();
    }
  }

  /**
   * Removes old files of ours that lead to no reservation: of killed processes, and of attachments that host-local
   * has freed. Whoever is slower than that finds its file gone, and its link(2) fails.
   */
  sweep(now: number): void {
    if (!this.#hasOwn()) return;
    for (const name of listDirectory(this.#own)) {
      const found = statIfThere(`${this.#own}/${name}`);
      const unused = found !== undefined && (found.nlink === 1 || temporaryOf(name) !== undefined);
      if (unused && now - found.ctimeMs > STALE_MS) removeIfThere(`${this.#own}/${name}`);
    }
  }

  /** The parent is looked at first: a link there would lead the rest elsewhere. */
  #hasOwn(): boolean {
    return isDirectory(this.#ownRoot) && isDirectory(this.#own);
  }

  #ownPath(owner: Owner): string {
    checkOwner(owner);
    return `${this.#own}/${fileNameOf(owner)}`;
  }

  /** "~" begins no container id, so this is no owner's name. */
  #temporary(owner: Owner): string {
    return `${this.#own}/~${uniqueSuffix()}~${fileNameOf(owner)}`;
  }

  #lastPath(set: number): string {
    return `${this.#directory}/last_reserved_ip.${set}`;
  }
}

/** The owner's file name in the name of a temporary file; undefined when it is none. */
const temporaryOf = (name: string): string | undefined => /^~[0-9a-f]{12}~(.*)$/.exec(name)?.[1];
