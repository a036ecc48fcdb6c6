// The result of ADD: one internal form, printed for any version of the specification with that version's keys and no
// others, and read back from any version (prevResult). Stricter than the reference, which leaks keys of later versions.

import { type Check, cidr, integer, ipAddress, list, object, optional, parse, string } from '../model/check.ts';
import type { CniRoute, Dns } from '../model/cni.ts';
import { type ErrorCode, NetError } from '../model/errors.ts';
import { FAMILIES, type Family, familyOf, type Ip, type Prefix } from '../model/ip.ts';
import { atLeast, type CniVersion } from './versions.ts';

export interface CniInterface {
  readonly name: string;
  readonly mac?: string | undefined;
  /** Bytes. */
  readonly mtu?: number | undefined;
  /** Path of the network namespace; absent: the host's. */
  readonly sandbox?: string | undefined;
  readonly socketPath?: string | undefined;
  readonly pciID?: string | undefined;
}

export interface CniAddress {
  readonly address: Prefix;
  readonly gateway?: Ip | undefined;
  /** Index into `interfaces`; 0 and absent differ. */
  readonly interface?: number | undefined;
}

export interface Result {
  readonly interfaces: readonly CniInterface[];
  readonly ips: readonly CniAddress[];
  readonly routes: readonly CniRoute[];
  readonly dns: Dns;
}

/**
 * The result as that version's JSON value.
 * @throws NetError invalid-config before 0.3.0 when there is no address, which those versions can't express
 */
export function resultFor(version: CniVersion, result: Result): Record<string, unknown> {
  if (!atLeast(version, '0.3.0')) return oldResult(version, result);
  return {
    cniVersion: version,
    ...listed(
      'interfaces',
      result.interfaces.map((each) => interfaceFor(version, each)),
    ),
    ...listed(
      'ips',
      result.ips.map((each) => addressFor(version, each)),
    ),
    ...listed(
      'routes',
      result.routes.map((each) => routeFor(version, each)),
    ),
    ...(atLeast(version, '1.0.0') ? unlessEmpty('dns', dnsOf(result.dns)) : { dns: dnsOf(result.dns) }),
  };
}

const listed = (key: string, items: readonly unknown[]) => (items.length === 0 ? {} : { [key]: items });
const unlessEmpty = (key: string, value: object) => (Object.keys(value).length === 0 ? {} : { [key]: value });

/** The entries of these keys that have a value. */
function pick<T extends object>(value: T, ...keys: readonly (keyof T)[]): Record<string, unknown> {
  return Object.fromEntries(keys.filter((key) => value[key] !== undefined).map((key) => [key, value[key]]));
}

function interfaceFor(version: CniVersion, value: CniInterface): Record<string, unknown> {
  return atLeast(version, '1.1.0')
    ? pick(value, 'name', 'mac', 'mtu', 'sandbox', 'socketPath', 'pciID')
    : pick(value, 'name', 'mac', 'sandbox');
}

function addressFor(version: CniVersion, value: CniAddress): Record<string, unknown> {
  const family = atLeast(version, '1.0.0') ? {} : { version: String(familyOf(value.address)) };
  return { ...family, ...pick(value, 'interface', 'address', 'gateway') };
}

function routeFor(version: CniVersion, value: CniRoute): Record<string, unknown> {
  return atLeast(version, '1.1.0')
    ? pick(value, 'dst', 'gw', 'mtu', 'advmss', 'priority', 'table', 'scope')
    : pick(value, 'dst', 'gw');
}

function dnsOf(dns: Dns): Record<string, unknown> {
  const said = Object.entries(dns).filter(([, value]) => value !== undefined && value.length > 0);
  return Object.fromEntries(said);
}

/** 0.1.0 and 0.2.0: one address of each family, the routes with theirs. */
function oldResult(version: CniVersion, { ips, routes, dns }: Result): Record<string, unknown> {
  if (ips.length === 0) throw new NetError('invalid-config', 'cannot convert: no valid IP addresses');
  const family = (which: Family) => {
    const first = ips.find(({ address }) => familyOf(address) === which);
    if (first === undefined) return {};
    const own = routes.filter(({ dst }) => familyOf(dst) === which).map((each) => routeFor(version, each));
    return { [`ip${which}`]: { ip: first.address, ...pick(first, 'gateway'), ...listed('routes', own) } };
  };
  return { cniVersion: version, ...family(4), ...family(6), dns: dnsOf(dns) };
}

/** Go's "" for an absent text. */
const text =
  <T>(inner: Check<T>): Check<T | undefined> =>
  (value, path, problems) =>
    value === '' ? undefined : optional(inner)(value, path, problems);

const anyCase = { anyCase: true };
const uint32 = optional(integer(0, 0xffffffff));
const ROUTE = object(
  { dst: cidr, gw: text(ipAddress), mtu: uint32, advmss: uint32, priority: uint32, table: uint32, scope: uint32 },
  anyCase,
);
const DNS = object(
  { nameservers: list(string), domain: text(string), search: list(string), options: list(string) },
  anyCase,
);
const INTERFACE = object(
  {
    name: string,
    mac: text(string),
    mtu: uint32,
    sandbox: text(string),
    socketPath: text(string),
    pciID: text(string),
  },
  anyCase,
);
const ADDRESS = object({ address: cidr, gateway: text(ipAddress), interface: uint32 }, anyCase);
const OLD_ADDRESS = optional(object({ ip: cidr, gateway: text(ipAddress), routes: list(ROUTE) }, anyCase));
const RESULT = object(
  {
    interfaces: list(INTERFACE),
    ips: list(ADDRESS),
    routes: list(ROUTE),
    dns: optional(DNS),
    ip4: OLD_ADDRESS,
    ip6: OLD_ADDRESS,
  },
  anyCase,
);

/**
 * A result of any version: by default the `prevResult` of a configuration.
 * @throws NetError, by default decoding, naming the subject and every key that is wrong
 */
export function parseResult(value: unknown, subject = 'prevResult', code: ErrorCode = 'decoding'): Result {
  const found = parse(value, RESULT, subject, code);
  const old = FAMILIES.map((family) => found[`ip${family}`]).filter((each) => each !== undefined);
  const dns = found.dns === undefined ? {} : dnsOf(found.dns as Dns);
  return {
    interfaces: found.interfaces,
    ips: [...old.map(({ ip, gateway }) => ({ address: ip, gateway })), ...found.ips],
    routes: [...old.flatMap(({ routes }) => routes), ...found.routes].map(definedOnly) as unknown as CniRoute[],
    dns,
  };
}

const definedOnly = (value: object) =>
  Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined));
