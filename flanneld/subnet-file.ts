// The subnet file: what was in it before this start, and keeping it as it should be.

import { dirname } from 'node:path';
import { ensureDirectory, readRegular, writeWhole } from '../kernel/files.ts';
import { contains, familyOf, type Prefix } from '../model/ip.ts';
import { eachFamily, familiesOf, type PerFamily } from '../model/lease.ts';
import { readSubnetEnv } from '../model/subnet-env.ts';
import { formatSubnetEnv, type SubnetEnv } from './subnet-env.ts';

export interface PreviousSubnet {
  /** What of the host belonged to the agent by its addresses: see ownership.ts. */
  readonly networks: readonly Prefix[];
  readonly subnet: PerFamily<Prefix>;
}

/**
 * What the file said; nothing when there is none, nor where it isn't one prefix of a family. A subnet that pods kept when the
 * Network became another lies in none of the Networks, and counts as one. @throws NetError io
 */
export function readPrevious(path: string): PreviousSubnet {
  const found = readSubnetEnv(readRegular(path, { followLink: true }) ?? '');
  const subnet = onlyOnes(found.subnets);
  const isKept = (each: Prefix): boolean => {
    const networks = found.networks.filter((network) => familyOf(network) === familyOf(each));
    return networks.length > 0 && !networks.some((network) => contains(network, each));
  };
  return { networks: [...prefixesOf(onlyOnes(found.networks)), ...prefixesOf(subnet).filter(isKept)], subnet };
}

/** Of each family the prefix, where there is but one. */
const onlyOnes = (prefixes: readonly Prefix[]): PerFamily<Prefix> =>
  eachFamily((family) => {
    const [only, second] = prefixes.filter((prefix) => familyOf(prefix) === family);
    return second === undefined ? only : undefined;
  });

const prefixesOf = (values: PerFamily<Prefix>): Prefix[] =>
  familiesOf(values).map((family) => values[family] as Prefix);

/** Writes the file, whole, unless it says exactly this. Everybody may read it: container runtimes do. @throws NetError io */
export function ensureSubnetFile(path: string, env: SubnetEnv): void {
  const text = formatSubnetEnv(env);
  if (readRegular(path, { followLink: true }) === text) return;
  ensureDirectory(dirname(path));
  writeWhole(path, text, { mode: 0o644 });
}
