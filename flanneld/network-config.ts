// The network's configuration (etcd key <prefix>/config, net-conf.json) as flannel defines it (pkg/subnet/config.go):
// keys in any case, unknown ones ignored, and the same defaults and limits, once for both families.

import { boolean, integer, isObject, object, parse, parseJson, string, withDefault } from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import {
  bitsOf,
  contains,
  FAMILIES,
  type Family,
  familyOf,
  firstOf,
  lastOf,
  lengthOf,
  networkOf,
  plus,
  type Prefix,
  sizeOf,
  toNumber,
  tryIp,
  tryPrefix,
  withLength,
} from '../model/ip.ts';
import type { PerFamily } from '../model/lease.ts';

export interface FamilyNetwork {
  readonly network: Prefix;
  /** Prefix length of a node's subnet. */
  readonly subnetLength: number;
  /** First and last subnet that is handed out. */
  readonly subnetMin: Prefix;
  readonly subnetMax: Prefix;
}

export interface NetworkConfig {
  /** Only the families that are enabled. */
  readonly families: PerFamily<FamilyNetwork>;
  readonly backend: {
    /** Lower case: "vxlan", "host-gw", "udp" (when Backend is absent, as flannel), "alloc" … */
    readonly type: string;
    /** The Backend object as it stands, for the backend to check. */
    readonly options: Readonly<Record<string, unknown>>;
  };
}

/** The names of the keys of each family. */
export const KEYS = {
  4: { network: 'Network', subnetLength: 'SubnetLen', subnetMin: 'SubnetMin', subnetMax: 'SubnetMax' },
  6: { network: 'IPv6Network', subnetLength: 'IPv6SubnetLen', subnetMin: 'IPv6SubnetMin', subnetMax: 'IPv6SubnetMax' },
} as const satisfies Record<Family, Record<keyof FamilyNetwork, string>>;

/** What differs between the families: the names of their keys and flannel's limits. */
interface Rules {
  readonly network: (typeof KEYS)[Family]['network'];
  readonly length: (typeof KEYS)[Family]['subnetLength'];
  readonly min: (typeof KEYS)[Family]['subnetMin'];
  readonly max: (typeof KEYS)[Family]['subnetMax'];
  /** Subnet length when none is given and the network holds four of them. */
  readonly usualLength: number;
}

const RULES: Readonly<Record<Family, Rules>> = {
  4: rulesOf(4, 24),
  6: rulesOf(6, 64),
};

function rulesOf(family: Family, usualLength: number): Rules {
  const { network, subnetLength, subnetMin, subnetMax } = KEYS[family];
  return { network, length: subnetLength, min: subnetMin, max: subnetMax, usualLength };
}

const SHAPE = object(
  {
    EnableIPv4: withDefault(boolean, true),
    EnableIPv6: withDefault(boolean, false),
    Network: withDefault(string, ''),
    IPv6Network: withDefault(string, ''),
    SubnetLen: withDefault(integer(0, 128), 0),
    IPv6SubnetLen: withDefault(integer(0, 128), 0),
    SubnetMin: withDefault(string, ''),
    SubnetMax: withDefault(string, ''),
    IPv6SubnetMin: withDefault(string, ''),
    IPv6SubnetMax: withDefault(string, ''),
    Backend: (value: unknown) => value,
  },
  { anyCase: true },
);

type Fields = NonNullable<ReturnType<typeof SHAPE>>;

/**
 * @param subject where the text is from, for messages: "etcd key /coreos.com/network/config"
 * @throws NetError invalid-network-config: one line naming the subject, the key and its value
 */
export function parseNetworkConfig(text: string, subject = 'network configuration'): NetworkConfig {
  const fields = parse(parseJson(text, subject, 'invalid-network-config'), SHAPE, subject, 'invalid-network-config');
  const fail: Fail = (problem) => {
    throw new NetError('invalid-network-config', `${subject}: ${problem}`, { subject });
  };
  const enabled = FAMILIES.filter((family) => (family === 4 ? fields.EnableIPv4 : fields.EnableIPv6));
  if (enabled.length === 0) fail('EnableIPv4: expected true where EnableIPv6 is false, got false');
  return {
    families: Object.fromEntries(enabled.map((family) => [family, familyNetwork(family, fields, fail)])),
    backend: backendOf(fields.Backend, fail),
  };
}

type Fail = (problem: string) => never;

function familyNetwork(family: Family, fields: Fields, fail: Fail): FamilyNetwork {
  const rules = RULES[family];
  const given = tryPrefix(fields[rules.network]);
  if (given === undefined || familyOf(given) !== family) {
    const found = fields[rules.network];
    return fail(
      `${rules.network}: expected an IPv${family} network, got ${found === '' ? 'nothing' : JSON.stringify(found)}`,
    );
  }
  const network = networkOf(given);
  const subnetLength = lengthFor(family, network, fields, fail);
  const first = withLength(firstOf(network), subnetLength);
  const subnetMin = limit(
    rules.min,
    fields,
    network,
    subnetLength,
    withLength(plus(firstOf(network), sizeOf(first)), subnetLength),
    fail,
  );
  const subnetMax = limit(
    rules.max,
    fields,
    network,
    subnetLength,
    networkOf(withLength(lastOf(network), subnetLength)),
    fail,
  );
  if (toNumber(firstOf(subnetMin)) > toNumber(firstOf(subnetMax))) {
    fail(`${rules.min}: expected at most ${rules.max} (${firstOf(subnetMax)}), got ${firstOf(subnetMin)}`);
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

/**
 * A subnet holds at least four addresses (gateway and one pod), a network at least four subnets: the first isn't used.
 */
function lengthFor(family: Family, network: Prefix, fields: Fields, fail: Fail): number {
  const rules = RULES[family];
  const [shortest, longest] = [lengthOf(network) + 2, bitsOf(family) - 2];
  if (shortest > longest)
    fail(`${rules.network}: expected a prefix length of at most ${longest - 2}, got ${JSON.stringify(network)}`);
  const length = fields[rules.length] || Math.max(shortest, rules.usualLength);
  if (length < shortest || length > longest) {
    fail(`${rules.length}: expected ${shortest} to ${longest} in ${network}, got ${length}`);
  }
  return length;
}

/**
 * SubnetMin or SubnetMax as a subnet; the one given by default when the key is absent, empty or zero, as flannel's is.
 */
function limit(
  key: Rules['min' | 'max'],
  fields: Fields,
  network: Prefix,
  length: number,
  usual: Prefix,
  fail: Fail,
): Prefix {
  const text = fields[key];
  if (['', '0.0.0.0', '::'].includes(text)) return usual;
  const address = tryIp(text);
  if (address === undefined || !contains(network, address)) {
    return fail(`${key}: expected an address in ${network}, got ${JSON.stringify(text)}`);
  }
  const subnet = withLength(address, length);
  return networkOf(subnet) === subnet
    ? subnet
    : fail(`${key}: expected the first address of a /${length}, got ${text}`);
}

function backendOf(value: unknown, fail: Fail): NetworkConfig['backend'] {
  if (value === undefined) return { type: 'udp', options: {} };
  if (!isObject(value)) return fail(`Backend: expected an object, got ${JSON.stringify(value)}`);
  const key = Object.keys(value).find((name) => name.toLowerCase() === 'type');
  const type = key === undefined ? undefined : value[key];
  if (typeof type !== 'string' || type === '') {
    return fail(`Backend.Type: expected the name of a backend, got ${JSON.stringify(type) ?? 'nothing'}`);
  }
  return { type: type.toLowerCase(), options: value };
}
