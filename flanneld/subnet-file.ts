// The subnet file: what was in it before this start, and keeping it as it should be.

import { dirname } from 'node:path';
import { ensureDirectory, readRegular, writeWhole } from '../kernel/files.ts';
import type { Prefix } from '../model/ip.ts';
import { familiesOf, type PerFamily } from '../model/lease.ts';
import { formatSubnetEnv, parseSubnetEnv, type SubnetEnv } from './subnet-env.ts';

export interface PreviousSubnet {
  readonly networks: readonly Prefix[];
  readonly subnet: PerFamily<Prefix>;
}

/** What the file said; nothing when there is none. @throws NetError io */
export function readPrevious(path: string): PreviousSubnet {
  const { network, subnet } = parseSubnetEnv(readRegular(path, { followLink: true }) ?? '');
  return { networks: familiesOf(network).map((family) => network[family] as Prefix), subnet };
}

/** Writes the file, whole, unless it says exactly this. Everybody may read it: container runtimes do. @throws NetError io */
export function ensureSubnetFile(path: string, env: SubnetEnv): void {
  const text = formatSubnetEnv(env);
  if (readRegular(path, { followLink: true }) === text) return;
  ensureDirectory(dirname(path));
  writeWhole(path, text, { mode: 0o644 });
}
