// `macspoofchk`, the kernel's side: guards a port, compares it with its plan, and takes the guard away, also of ports that
// are gone. The hot path does not look first.

import type { Kernel } from '../kernel/kernel.ts';
import { hasErrno } from '../model/errors.ts';
import type { Table } from '../model/ruleset.ts';
import { takeOut } from './portmap.ts';
import { type GuardedPort, SPOOF_TABLE, spoofTable, strayElements } from './spoof.ts';
import { addElements, completion, elements, missingFrom, transaction } from './table.ts';

/** From now on only frames with the MAC are let in by the port. @throws NetError kernel */
export function guardPort(kernel: Kernel, port: GuardedPort): void {
  const want = spoofTable([port]);
  try {
    kernel.commit(addElements(want));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    kernel.commit(completion(want));
  }
}

/** Takes the guard away, if it is there. @throws NetError kernel */
export function unguardPort(kernel: Kernel, port: GuardedPort): void {
  const { sets } = spoofTable([port]);
  try {
    kernel.commit(
      transaction(
        sets.flatMap((set) => takeOut(set, set.elements)),
        SPOOF_TABLE,
      ),
    );
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

const readGuard = (kernel: Kernel): Table | undefined => kernel.readTable(SPOOF_TABLE.family, SPOOF_TABLE.name);

/** What is missing of a port's guard, in words. @throws NetError kernel */
export const guardDifferences = (kernel: Kernel, port: GuardedPort): string[] =>
  missingFrom(readGuard(kernel), spoofTable([port])).map((what) => `missing: ${what}`);

/** Puts back what someone has removed of a port's guard, and gives it in words. @throws NetError kernel */
export function restoreGuard(kernel: Kernel, port: GuardedPort): string[] {
  const want = spoofTable([port]);
  const missing = missingFrom(readGuard(kernel), want);
  if (missing.length > 0) kernel.commit(completion(want));
  return missing;
}

/** Takes away the guards of ports that are gone, and gives their elements. @throws NetError kernel */
export function removeStrayGuards(kernel: Kernel): string[] {
  const have = readGuard(kernel);
  if (have === undefined) return [];
  const there = new Set(kernel.read(kernel.host, { links: 'all' }).links.map(({ name }) => name));
  const strays = strayElements(have, (device) => there.has(device));
  if (strays.length === 0) return [];
  kernel.commit(
    transaction(
      strays.flatMap((set) => elements('delete', set, set.elements)),
      SPOOF_TABLE,
    ),
  );
  return strays.flatMap((set) => set.elements.map((each) => `${each} in nft set ${set.name}`));
}
