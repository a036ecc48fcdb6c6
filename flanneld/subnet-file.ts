// The subnet file: what was in it before this start, and keeping it as it should be.

import { dirname } from 'node:path';
import { ensureDirectory, readRegular, writeWhole } from '../kernel/files.ts';
import { familyOf, type Prefix } from '../model/ip.ts';
import { eachFamily, familiesOf, type PerFamily } from '../model/lease.ts';
import { readSubnetEnv } from '../model/subnet-env.ts';
import { formatSubnetEnv, type SubnetEnv } from './subnet-env.ts';

export interface PreviousSubnet {
  readonly networks: readonly Prefix[];
  readonly subnet: PerFamily<Prefix>;
}

/** What the file said; nothing when there is none, nor where it isn't one prefix of a family. @throws NetError io */
export function readPrevious(path: string): PreviousSubnet {
  const { networks, subnets } = readSubnetEnv(readRegular(path, { followLink: true }) ?? '');
  const network = onlyOnes(networks);
  return { networks: familiesOf(network).map((family) => network[family] as Prefix), subnet: onlyOnes(subnets) };
}

/** Of each family the prefix, where there is but one. */
const onlyOnes = (prefixes: readonly Prefix[]): PerFamily<Prefix> =>
  eachFamily((family) => {
    const [only, second] = prefixes.filter((prefix) => familyOf(prefix) === family);
    return second === undefined ? only : undefined;
  });

/** Writes the file, whole, unless it says exactly this. Everybody may read it: container runtimes do. @throws NetError io */
export function ensureSubnetFile(path: string, env: SubnetEnv): void {
  const text = formatSubnetEnv(env);
  if (readRegular(path, { followLink: true }) === text) return;
  ensureDirectory(dirname(path));
  writeWhole(path, text, { mode: 0o644 });
}
