// The `ipam` section of a network configuration as one checked value. Keys, defaults and what is refused are those of
// host-local (containernetworking/plugins, plugins/ipam/host-local); keys match in any case, as Go's decoder has it.

import {
  absolutePath,
  anything,
  type Check,
  cidr,
  integer,
  ipAddress,
  list,
  object,
  oneOf,
  optional,
  parse,
  string,
  unlessEmpty,
} from '../model/check.ts';
import type { CniRoute } from '../model/cni.ts';
import { NetError } from '../model/errors.ts';
import { addressOf, FAMILIES, familyOf, type Ip, tryIp, tryPrefix } from '../model/ip.ts';
import {
  boundsFault,
  printSet,
  type Range,
  type RangeSet,
  rangesOverlap,
  subnetFault,
  withDefaults,
} from './ranges.ts';

export const DEFAULT_DATA_DIR = '/var/lib/cni/networks';

export interface IpamInput {
  /** Name of the network. */
  readonly network: string;
  readonly cniVersion: string;
  /** The configuration's `ipam`, `runtimeConfig` and `args`, decoded. */
  readonly ipam: unknown;
  readonly runtimeConfig?: unknown;
  readonly args?: unknown;
  /** CNI_ARGS. */
  readonly cniArgs: ReadonlyMap<string, string>;
}

export interface IpamConfig {
  readonly network: string;
  /** Directory that holds a directory for each network. */
  readonly dataDir: string;
  /** A pod gets one address of each. */
  readonly sets: readonly RangeSet[];
  readonly routes: readonly CniRoute[];
  /** Path of the file in resolv.conf(5) format that the pod's DNS settings are taken from. */
  readonly resolvConf: string | undefined;
  /** Addresses the runtime asked for, each once. */
  readonly requested: readonly Ip[];
}

const rangeParts = object(
  {
    subnet: cidr,
    rangeStart: unlessEmpty(ipAddress),
    rangeEnd: unlessEmpty(ipAddress),
    gateway: unlessEmpty(ipAddress),
  },
  { anyCase: true },
);

const range: Check<Range> = (value, path, problems) => {
  const before = problems.length;
  const parts = rangeParts(value, path, problems);
  if (parts === undefined || problems.length > before) return undefined;
  const subnetProblem = subnetFault(parts.subnet);
  const made = subnetProblem === undefined ? withDefaults(parts) : undefined;
  const fault = made === undefined ? subnetProblem : boundsFault(made);
  if (fault !== undefined) problems.push(`${path}: ${fault}`);
  return made;
};

const rangeSet: Check<RangeSet> = (value, path, problems) => {
  const ranges = list(range)(value, path, problems);
  if (ranges?.length === 0) problems.push(`${path}: empty range set`);
  return ranges;
};

const routeParts = object(
  {
    dst: cidr,
    gw: unlessEmpty(ipAddress),
    mtu: optional(integer(0, 0xffffffff)),
    advmss: optional(integer(0, 0xffffffff)),
    priority: optional(integer(0, 0xffffffff)),
    table: optional(integer(0, 0xffffffff)),
    scope: optional(integer(0, 255)),
  },
  { anyCase: true },
);

/** A route without the keys that say nothing: 0 is no value for all but table and scope (spec 1.1.0). */
const route: Check<CniRoute> = (value, path, problems) => {
  const parts = routeParts(value, path, problems);
  if (parts === undefined) return undefined;
  const says = ([key, said]: [string, unknown]) =>
    said !== undefined && (said !== 0 || key === 'table' || key === 'scope');
  return Object.fromEntries(Object.entries(parts).filter(says)) as unknown as CniRoute;
};

const section = object(
  {
    type: unlessEmpty(oneOf('host-local', 'flannel-ipam')),
    subnet: anything,
    rangeStart: anything,
    rangeEnd: anything,
    gateway: anything,
    ranges: list(rangeSet),
    routes: list(route),
    dataDir: unlessEmpty(absolutePath),
    resolvConf: unlessEmpty(string),
  },
  { anyCase: true },
);

/** The section with its flat keys, the form before `ranges`, as first set. */
const ipamSection: Check<Pick<IpamConfig, 'dataDir' | 'sets' | 'routes' | 'resolvConf'>> = (value, path, problems) => {
  const found = section(value, path, problems);
  if (found === undefined) return undefined;
  const flat = unlessEmpty(anything)(found.subnet, path, problems) !== undefined;
  const first = flat ? range(found, path, problems) : undefined;
  return {
    dataDir: found.dataDir ?? DEFAULT_DATA_DIR,
    sets: [...(first === undefined ? [] : [[first]]), ...(found.ranges ?? [])],
    routes: found.routes ?? [],
    resolvConf: found.resolvConf,
  };
};

/** A requested address; a prefix length is ignored, since the range has it. */
const requestedIp: Check<Ip> = (value, path, problems) => {
  const withLength = tryPrefix(value);
  return withLength === undefined ? ipAddress(value, path, problems) : addressOf(withLength);
};

const runtime = object({ ipRanges: list(rangeSet), ips: list(requestedIp) }, { anyCase: true });
const cniArguments = object(
  { cni: optional(object({ ips: list(requestedIp) }, { anyCase: true })) },
  { anyCase: true },
);
const document = object({ ipam: ipamSection, runtimeConfig: optional(runtime), args: optional(cniArguments) });

/** @throws NetError invalid-config naming every key that is wrong; invalid-environment for CNI_ARGS */
export function parseIpam(input: IpamInput): IpamConfig {
  const { network, cniVersion, ipam, runtimeConfig, args, cniArgs } = input;
  const subject = `network ${network}`;
  const found = parse({ ipam, runtimeConfig, args }, document, subject, 'invalid-config');
  const sets = [...(found.runtimeConfig?.ipRanges ?? []), ...found.ipam.sets];
  const problems = setProblems(sets, cniVersion);
  if (problems.length > 0) throw new NetError('invalid-config', `${subject}: ${problems.join('; ')}`, { subject });
  // CNI_ARGS is the deprecated form of `args` and yields to it (CONVENTIONS.md).
  const fromArgs = found.args?.cni?.ips ?? [];
  const asked = [...(fromArgs.length > 0 ? fromArgs : ipOfCniArgs(cniArgs)), ...(found.runtimeConfig?.ips ?? [])];
  return { network, ...found.ipam, sets, requested: [...new Set(asked)] };
}

function ipOfCniArgs(cniArgs: ReadonlyMap<string, string>): Ip[] {
  const text = cniArgs.get('IP');
  if (text === undefined || text === '') return [];
  const prefix = tryPrefix(text);
  const ip = prefix === undefined ? tryIp(text) : addressOf(prefix);
  if (ip !== undefined) return [ip];
  throw new NetError('invalid-environment', `CNI_ARGS: IP=${text} is not an IP address`, { subject: 'CNI_ARGS' });
}

/** What is wrong between ranges that are right one by one. */
function setProblems(sets: readonly RangeSet[], cniVersion: string): string[] {
  if (sets.length === 0) return ['ipam: no IP ranges specified'];
  return [
    ...sets.flatMap((set, index) => innerProblems(set).map((problem) => `range set ${index}: ${problem}`)),
    ...sets.flatMap((set, index) =>
      sets.flatMap((other, at) =>
        at > index && setsOverlap(set, other) ? [`range set ${index} overlaps with ${at}`] : [],
      ),
    ),
    ...versionProblems(sets, cniVersion),
  ];
}

function innerProblems(set: RangeSet): string[] {
  const mixed = set.some(({ subnet }) => familyOf(subnet) !== familyOf((set[0] as Range).subnet));
  const overlaps = set.flatMap((one, index) =>
    set
      .slice(index + 1)
      .filter((other) => rangesOverlap(one, other))
      .map((other) => `ranges ${printSet([one])} and ${printSet([other])} overlap`),
  );
  return mixed ? ['mixed address families', ...overlaps] : overlaps;
}

const setsOverlap = (a: RangeSet, b: RangeSet): boolean =>
  a.some((one) => b.some((other) => rangesOverlap(one, other)));

/** Results before 0.3.0 have room for one address of each family. */
function versionProblems(sets: readonly RangeSet[], cniVersion: string): string[] {
  const many = FAMILIES.some(
    (family) => sets.filter(([first]) => familyOf((first as Range).subnet) === family).length > 1,
  );
  if (!many || !/^(0\.[0-2]\.|$)/.test(cniVersion)) return [];
  return [`CNI version ${cniVersion} does not support more than 1 address per family`];
}
