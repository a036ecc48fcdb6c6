// A namespace's objects, as far as a query asks: by name or index wherever the kernel allows it, never more than asked.

import { hasErrno, NetError } from '../model/errors.ts';
import { FAMILIES } from '../model/ip.ts';
import { mapped, type Sliced } from '../model/slices.ts';
import type { Address, Link, Route, State } from '../model/state.ts';
import { listAddresses, readAddress } from './address.ts';
import { readTxChecksums } from './checksum.ts';
import type { Query } from './kernel.ts';
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

export function devicesOf(socket: NetlinkSocket): Devices {
  const names = new Map<number, string>();
  const indexes = new Map<string, number>();
  const learn = (name: string, index: number) => {
    names.set(index, name);
    indexes.set(name, index);
  };
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
function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof NetError && MISSING.some((errno) => hasErrno(error, errno))) return undefined;
    throw error;
  }
}

/**
 * Reads what the query asks for; `inside` runs a function inside the namespace. What the kernel lists is taken from it at
 * once, and made into values a slice at a time.
 */
export function* readState(socket: NetlinkSocket, query: Query, inside: <T>(run: () => T) => T): Sliced<State> {
  const devices = devicesOf(socket);
  return {
    links: withTxChecksums(readLinks(socket, query, devices), inside),
    addresses: yield* readAddresses(socket, query, devices),
    routes: yield* readRoutes(socket, query, devices),
    neighbours: yield* perDevice(query.neighbours, devices, (name, index) =>
      mapped(
        FAMILIES.flatMap((family) => dump(socket, listNeighbours(family, index))),
        (reply) => readNeighbour(reply, name),
      ),
    ),
    fdb: yield* perDevice(query.fdb, devices, (name, index) =>
      mapped(dump(socket, listFdb(index)), (reply) => readFdb(reply, name)),
    ),
    sysctls: query.sysctls === undefined ? [] : inside(() => (query.sysctls ?? []).map(readSysctl)).filter(present),
    qdiscs: yield* perDevice(query.qdiscs, devices, (name, index) =>
      mapped(getQdiscs(name, index), (request) =>
        readQdisc(
          unlessMissing(() => socket.get(request)),
          name,
        ),
      ),
    ),
    redirects: yield* perDevice(query.qdiscs, devices, (name, index) =>
      mapped(dump(socket, listFilters(name, index)), (reply) => readRedirect(reply, name, devices.nameOf)),
    ),
  };
}

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
function withTxChecksums(links: Link[], inside: <T>(run: () => T) => T): Link[] {
  const names = links.filter(({ kind }) => kind === 'vxlan').map(({ name }) => name);
  if (names.length === 0) return links;
  const checksums = inside(() => readTxChecksums(names));
  return links.map((link) => (checksums.has(link.name) ? { ...link, txChecksum: checksums.get(link.name) } : link));
}

const asked =
  (links: readonly string[] | 'all') =>
  ({ name }: Link): boolean =>
    links === 'all' || links.includes(name);

function* readAddresses(socket: NetlinkSocket, { addresses }: Query, devices: Devices): Sliced<Address[]> {
  if (addresses === undefined) return [];
  const read = (reply: Reply) => readAddress(reply, devices.nameOf);
  if (addresses === 'all') return yield* mapped(dump(socket, listAddresses()), read);
  return yield* perDevice(addresses, devices, (_name, index) => mapped(dump(socket, listAddresses(index)), read));
}

function* readRoutes(socket: NetlinkSocket, { routes }: Query, devices: Devices): Sliced<Route[]> {
  if (routes === undefined) return [];
  const index = routes.device === undefined ? undefined : devices.indexOf(routes.device);
  if (routes.device !== undefined && index === undefined) return [];
  const { withoutGatewaysOf: left } = routes;
  return yield* mapped(
    routes.families.flatMap((family) => dump(socket, listRoutes(family, index))),
    (reply) => (left !== undefined && isGatewayOf(reply, left) ? undefined : readRoute(reply, devices.nameOf)),
  );
}

function* perDevice<T>(
  names: readonly string[] | undefined,
  devices: Devices,
  read: (name: string, index: number) => Sliced<T[]>,
): Sliced<T[]> {
  const found: T[] = [];
  for (const name of names ?? []) {
    const index = devices.indexOf(name);
    if (index !== undefined) for (const value of yield* read(name, index)) found.push(value);
  }
  return found;
}
