// Tables that say what is let in by which port, the kernel's side: adds the elements of a port, compares them with their
// plan, and takes them away again, `macspoofchk`'s also of ports that are gone. The hot path does not look first.

import type { Kernel } from '../kernel/kernel.ts';
import { hasErrno } from '../model/errors.ts';
import type { Table } from '../model/ruleset.ts';
import { commitElements } from './in-place.ts';
import { takeOut } from './portmap.ts';
import { SPOOF_TABLE, strayElements } from './spoof.ts';
import { addElements, completion, elements, missingFrom, transaction } from './table.ts';

/** From now on the port is guarded as the table says; it is made if it isn't there. @throws NetError kernel */
export function guard(kernel: Kernel, want: Table): void {
  if (!guardIfThere(kernel, want)) kernel.commit(completion(want));
}

/** The same in a table that may not be there: whether it is. @throws NetError kernel */
export function guardIfThere(kernel: Kernel, want: Table): boolean {
  try {
    commitElements(kernel, addElements(want));
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Takes the table's elements away, those that are there. @throws NetError kernel */
export function unguard(kernel: Kernel, want: Table): void {
  try {
    commitElements(
      kernel,
      transaction(
        want.sets.flatMap((set) => takeOut(set, set.elements)),
        want,
      ),
    );
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

const readGuard = (kernel: Kernel, { family, name }: Pick<Table, 'family' | 'name'>): Table | undefined =>
  kernel.readTable(family, name);

/** What is missing of the table, in words. @throws NetError kernel */
export const guardDifferences = (kernel: Kernel, want: Table): string[] =>
  missingFrom(readGuard(kernel, want), want).map((what) => `missing: ${what}`);

/** Puts back what someone has removed of the table, and gives it in words. @throws NetError kernel */
export function restoreGuard(kernel: Kernel, want: Table): string[] {
  const missing = missingFrom(readGuard(kernel, want), want);
  if (missing.length > 0) kernel.commit(completion(want));
  return missing;
}

/** Takes away what `macspoofchk` has of ports that are gone, and gives the elements. @throws NetError kernel */
export function removeStrayGuards(kernel: Kernel): string[] {
  const have = readGuard(kernel, SPOOF_TABLE);
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
