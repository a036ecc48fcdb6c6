// What network policy leaves in the kernel when its agent ends: tables that stay in force until they are taken away.

import { GUARD_FAMILIES, GUARD_TABLE } from '../../cni-plugin/sources.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { Table } from '../../model/ruleset.ts';
import { POLICY_TABLE } from './table.ts';

type Named = Pick<Table, 'family' | 'name'>;

const TABLES: readonly Named[] = [POLICY_TABLE, ...GUARD_FAMILIES.map((family) => ({ family, name: GUARD_TABLE }))];

/** Those of the tables that are there. @throws NetError kernel */
export const policyTables = (kernel: Pick<Kernel, 'readTable'>): Named[] =>
  TABLES.filter(({ family, name }) => kernel.readTable(family, name) !== undefined);

/** Takes them away, and gives them in words. @throws NetError kernel */
export function removePolicyTables(kernel: Pick<Kernel, 'readTable' | 'commit'>): string[] {
  return policyTables(kernel).map(({ family, name }) => {
    kernel.commit({ family, table: name, commands: [{ verb: 'delete', type: 'table' }] });
    return `nft table ${family} ${name}`;
  });
}
