// The leases file of the file subnet manager: a JSON list with an object for each node, which is the value that flannel has
// in etcd with the subnets added. Pure.
//
//   [
//     {"Subnet":"10.5.34.0/24","PublicIP":"172.30.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{…},"NodeID":"…"}
//   ]

import { cidr, list, object, optional, parse, parseJson } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { FAMILIES, type Family, familyOf, networkOf, type Prefix } from '../../model/ip.ts';
import { familiesOf, type Lease, leaseKey, type PerFamily } from '../../model/lease.ts';
import { formatLeaseValue, parseLeaseValue } from './lease-record.ts';

const NAMES = { 4: 'Subnet', 6: 'IPv6Subnet' } as const satisfies Record<Family, string>;
const SHAPE = list(object({ Subnet: optional(cidr), IPv6Subnet: optional(cidr) }));

/**
 * The leases, in their order. All of the file must make sense: half of it could cut off nodes.
 * @throws NetError decoding naming the file, the entry and the key
 */
export function parseLeaseFile(text: string, path: string): Lease[] {
  const value = parseJson(text, path, 'decoding');
  const fail = (problem: string): never => {
    throw new NetError('decoding', `${path}: ${problem}`, { subject: path });
  };
  if (!Array.isArray(value)) return fail('expected a list of leases');
  const seen = new Set<string>();
  return parse(value, SHAPE, path, 'decoding').map((fields, index) => {
    const subnet = subnetOf(fields, (problem) => fail(`[${index}].${problem}`));
    const attributes = parseLeaseValue(JSON.stringify(value[index]));
    if (attributes === undefined) return fail(`[${index}]: PublicIP, PublicIPv6 or BackendType can't be understood`);
    const key = leaseKey(subnet);
    if (seen.has(key)) return fail(`[${index}]: there is another entry for ${key}`);
    seen.add(key);
    return { ...attributes, subnet };
  });
}

function subnetOf(
  fields: { readonly [N in (typeof NAMES)[Family]]?: Prefix | undefined },
  fail: (problem: string) => never,
): PerFamily<Prefix> {
  const subnet: Partial<Record<Family, Prefix>> = {};
  for (const family of FAMILIES) {
    const prefix = fields[NAMES[family]];
    if (prefix === undefined) continue;
    if (familyOf(prefix) !== family || networkOf(prefix) !== prefix) {
      fail(`${NAMES[family]}: expected an IPv${family} network, got ${JSON.stringify(prefix)}`);
    }
    subnet[family] = prefix;
  }
  return familiesOf(subnet).length > 0 ? subnet : fail('Subnet: expected a network, got nothing');
}

/** The text of a file, an entry a line. */
export const formatLeaseFile = (leases: readonly Lease[]): string =>
  `[\n${leases.map((lease) => `  ${formatEntry(lease)}`).join(',\n')}\n]\n`;

function formatEntry(lease: Lease): string {
  const subnets = familiesOf(lease.subnet).map((family) => [NAMES[family], lease.subnet[family]]);
  return JSON.stringify({ ...Object.fromEntries(subnets), ...JSON.parse(formatLeaseValue(lease)) });
}
