// The etcd leases that this node's key lives by, or lately did. Who finds his own key at an address that he has no more tells
// it by them from that of a cloned machine, without waiting for whether somebody keeps it alive. They are kept beside the
// subnet file for the next process, and count in the same boot only: a clone of the disk has been booted anew.

import { dirname } from 'node:path';
import { ensureDirectory, readRegular, writeWhole } from '../../kernel/files.ts';

/** A write may not have arrived, so that the key still lives by an earlier one: so many are kept. */
const MOST = 4;

export interface KnownGrants {
  has(grant: string): boolean;
  /** Adds one, before a key is written with it. */
  add(grant: string): void;
}

/** The file's path. */
export const grantsPath = (subnetFile: string): string => `${subnetFile.replace(/\.env$/, '')}.grants`;

/**
 * Those of the file, if it was written since the machine was booted. A file that can't be read or written costs the next
 * process a wait, and nothing else.
 */
export function openGrants(path: string, bootId: string): KnownGrants {
  let grants = readGrants(path, bootId);
  return {
    has: (grant) => grants.includes(grant),
    add(grant) {
      if (grants.includes(grant)) return;
      grants = [...grants, grant].slice(-MOST);
      writeGrants(path, [bootId, ...grants]);
    },
  };
}

/** Grants for one process only. */
export const forgottenGrants = (): KnownGrants => {
  const grants = new Set<string>();
  return { has: (grant) => grants.has(grant), add: (grant) => void grants.add(grant) };
};

function readGrants(path: string, bootId: string): readonly string[] {
  try {
    const [boot, ...grants] = (readRegular(path) ?? '').trim().split('\n');
    return boot === bootId ? grants : [];
  } catch {
    return [];
  }
}

function writeGrants(path: string, lines: readonly string[]): void {
  try {
    ensureDirectory(dirname(path));
    writeWhole(path, `${lines.join('\n')}\n`);
  } catch {
    // As said above.
  }
}
