// A namespace's objects, as far as a query asks: by name or index wherever the kernel allows it, never more than asked.

import { hasErrno, NetError } from '../model/errors.ts';
import { FAMILIES } from '../model/ip.ts';
import { finish, mapped, type Sliced } from '../model/slices.ts';
import type { Address, Link, State } from '../model/state.ts';
import { listAddresses, readAddress } from './address.ts';
import { readTxChecksums } from './checksum.ts';
import { fingerprintOf } from './fingerprint.ts';
import type { Query, Reading } from './kernel.ts';
import { getLink, getLinkByIndex, indexIn, listLinks, nameIn, type NameOf, readLink } from './link.ts';
import { listFdb, listNeighbours, readFdb, readNeighbour } from './neighbour.ts';
import type { NetlinkSocket, Reply, Request } from './netlink.ts';
import { getQdiscs, listFilters, readQdisc, readRedirect } from './qdisc.ts';
import { isGatewayOf, listRoutes, readRoute } from './route.ts';
import { readSysctl } from './sysctl.ts';

/** Names and indexes of a namespace's devices, asked for one by one and remembered. */
export interface Devices {
  readonly nameOf: NameOf;
  /** Undefined when there is no such device. */
  indexOf(name: string): number | undefined;
  forget(name: string): void;
  learn(reply: Reply): void;
}

/** `known`: as they were a moment ago. */
export function devicesOf(socket: NetlinkSocket, known: readonly Pick<Link, 'name' | 'index'>[] = []): Devices {
  const names = new Map<number, string>();
  const indexes = new Map<string, number>();
  const learn = (name: string, index: number) => {
    names.set(index, name);
    indexes.set(name, index);
  };
  for (const { name, index } of known) if (index !== undefined) learn(name, index);
  const ask = (request: Request): Reply | undefined => unlessMissing(() => socket.get(request));
  return {
    learn: (reply) => learn(nameIn(reply), indexIn(reply)),
    nameOf(index) {
      if (!names.has(index) && index > 0) {
        const reply = ask(getLinkByIndex(index));
        if (reply !== undefined) learn(nameIn(reply), index);
      }
      return names.get(index);
    },
    indexOf(name) {
      if (!indexes.has(name)) {
        const reply = ask(getLink(name));
        if (reply !== undefined) learn(name, indexIn(reply));
      }
      return indexes.get(name);
    },
    forget(name) {
      const index = indexes.get(name);
      if (index !== undefined) names.delete(index);
      indexes.delete(name);
    },
  };
}

const MISSING = ['ENODEV', 'ENOENT', 'ENXIO', 'ENODATA'];

/** Undefined where the kernel says that the device, or the table, isn't there, or acknowledges without saying anything. */
export function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof NetError && MISSING.some((errno) => hasErrno(error, errno))) return undefined;
    throw error;
  }
}

/** Reads what the query asks for, in the namespace the thread is in. */
export const readState = (socket: NetlinkSocket, query: Query): State => finish(readAll(socket, query));

function* readAll(socket: NetlinkSocket, query: Query): Sliced<State> {
  return yield* valuesOf(yield* listed(socket, query));
}

/**
 * The same where there may be thousands of objects: what the kernel lists is taken from it a kind at a time, and made into
 * values a slice at a time; not at all, where everything is as it was at a reading with the former fingerprint.
 */
export function* readInSlices(socket: NetlinkSocket, query: Query, former: string | undefined): Sliced<Reading> {
  const listing = yield* listed(socket, query);
  const { routes, neighbours, fdb, devices: _, ...few } = listing;
  const entries = [...neighbours, ...fdb].map(({ reply }) => reply);
  const fingerprint = yield* fingerprintOf({ routes, neighbours: entries }, few);
  return { fingerprint, state: fingerprint === former ? undefined : yield* valuesOf(listing) };
}

/** What there may be thousands of, as the kernel lists it, and the rest. */
interface Listing extends Omit<State, 'routes' | 'neighbours' | 'fdb'> {
  readonly devices: Devices;
  readonly routes: readonly Reply[];
  readonly neighbours: readonly OfDevice[];
  readonly fdb: readonly OfDevice[];
}

function* listed(socket: NetlinkSocket, query: Query): Sliced<Listing> {
  const devices = devicesOf(socket);
  const links = withTxChecksums(readLinks(socket, query, devices));
  const addresses = readAddresses(socket, query, devices);
  const routes = listedRoutes(socket, query, devices);
  yield;
  const neighbours = perDevice(query.neighbours, devices, (name, index) =>
    FAMILIES.flatMap((family) => dump(socket, listNeighbours(family, index))).map(on(name)),
  );
  yield;
  const fdb = perDevice(query.fdb, devices, (name, index) => dump(socket, listFdb(index)).map(on(name)));
  yield;
  const sysctls = (query.sysctls ?? []).map(readSysctl).filter(present);
  return { devices, links, addresses, routes, neighbours, fdb, sysctls, ...readQdiscs(socket, query, devices) };
}

function* valuesOf({ devices, ...listing }: Listing): Sliced<State> {
  return {
    ...listing,
    routes: yield* mapped(listing.routes, (reply) => readRoute(reply, devices.nameOf)),
    neighbours: yield* mapped(listing.neighbours, ({ reply, name }) => readNeighbour(reply, name)),
    fdb: yield* mapped(listing.fdb, ({ reply, name }) => readFdb(reply, name)),
  };
}

/** What is listed of a device. */
interface OfDevice {
  readonly name: string;
  readonly reply: Reply;
}

const on =
  (name: string) =>
  (reply: Reply): OfDevice => ({ name, reply });

const present = <T>(value: T | undefined): value is T => value !== undefined;

const dump = (socket: NetlinkSocket, request: Request): Reply[] => unlessMissing(() => socket.dump(request)) ?? [];

function readLinks(socket: NetlinkSocket, query: Query, devices: Devices): Link[] {
  const replies =
    query.links === 'all' || query.addresses === 'all'
      ? dump(socket, listLinks())
      : (query.links ?? []).map((name) => unlessMissing(() => socket.get(getLink(name)))).filter(present);
  for (const reply of replies) devices.learn(reply);
  return query.links === undefined
    ? []
    : replies.map((reply) => readLink(reply, devices.nameOf)).filter(asked(query.links));
}

/** What of a VXLAN device rtnetlink doesn't tell. */
function withTxChecksums(links: Link[]): Link[] {
  const names = links.filter(({ kind }) => kind === 'vxlan').map(({ name }) => name);
  if (names.length === 0) return links;
  const checksums = readTxChecksums(names);
  return links.map((link) => (checksums.has(link.name) ? { ...link, txChecksum: checksums.get(link.name) } : link));
}

const asked =
  (links: readonly string[] | 'all') =>
  ({ name }: Link): boolean =>
    links === 'all' || links.includes(name);

function readAddresses(socket: NetlinkSocket, { addresses }: Query, devices: Devices): Address[] {
  if (addresses === undefined) return [];
  const read = (reply: Reply) => readAddress(reply, devices.nameOf);
  if (addresses === 'all') return dump(socket, listAddresses()).map(read).filter(present);
  return perDevice(addresses, devices, (_name, index) => dump(socket, listAddresses(index)).map(read));
}

function listedRoutes(socket: NetlinkSocket, { routes }: Query, devices: Devices): Reply[] {
  if (routes === undefined) return [];
  const index = routes.device === undefined ? undefined : devices.indexOf(routes.device);
  if (routes.device !== undefined && index === undefined) return [];
  const { withoutGatewaysOf: left } = routes;
  const listed = routes.families.flatMap((family) => dump(socket, listRoutes(family, index)));
  return left === undefined ? listed : listed.filter((reply) => !isGatewayOf(reply, left));
}

const readQdiscs = (
  socket: NetlinkSocket,
  { qdiscs }: Query,
  devices: Devices,
): Pick<State, 'qdiscs' | 'redirects'> => ({
  qdiscs: perDevice(qdiscs, devices, (name, index) =>
    getQdiscs(name, index).map((request) =>
      readQdisc(
        unlessMissing(() => socket.get(request)),
        name,
      ),
    ),
  ),
  redirects: perDevice(qdiscs, devices, (name, index) =>
    dump(socket, listFilters(name, index)).map((reply) => readRedirect(reply, name, devices.nameOf)),
  ),
});

function perDevice<T>(
  names: readonly string[] | undefined,
  devices: Devices,
  read: (name: string, index: number) => (T | undefined)[],
): T[] {
  return (names ?? []).flatMap((name) => {
    const index = devices.indexOf(name);
    return index === undefined ? [] : read(name, index).filter(present);
  });
}
