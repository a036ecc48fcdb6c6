// The least that leads from one compiled state to another, as one transaction, and the stamp that it leaves in force. Pure.

import { diffTable, type NftCommand, type Table, type Transaction } from '../../model/ruleset.ts';
import type { Compiled } from './compile.ts';
import { type Established, LAST_STAMP, POLICY_TABLE, policyTable, restamped } from './table.ts';

/** What is in force; `table` undefined where there is none. */
export interface InForce {
  readonly table: Table | undefined;
  readonly established: Established;
}

export interface Planned {
  /** Undefined where nothing differs. */
  readonly transaction: Transaction | undefined;
  readonly after: InForce;
}

const owns = (): boolean => true;

/** From a table that is what we think it is. */
export function planChange({ table, established }: InForce, want: Compiled): Planned {
  if (want.empty)
    return { transaction: table && removal(), after: { table: undefined, established: fresh(established) } };
  const same = policyTable(want, established);
  const transaction = diffTable(table, same, owns);
  if (transaction === undefined || table === undefined || !isStricter(transaction)) {
    return { transaction, after: { table: same, established } };
  }
  const next = nextStamp(established);
  const stamped = restamped(same, next);
  return { transaction: diffTable(table, stamped, owns), after: { table: stamped, established: next } };
}

/** From whatever is there, or nothing. Flows that are known are judged again. */
export function planReplacement({ established }: InForce, want: Compiled): Planned {
  const after = fresh(established);
  const table = policyTable(want, after);
  if (want.empty) {
    return { transaction: transaction([...CLEARED]), after: { table: undefined, established: after } };
  }
  const made = diffTable(undefined, table, owns)?.commands ?? [];
  return { transaction: transaction([...CLEARED, ...made]), after: { table, established: after } };
}

/** Begins to stamp, when no flow carries a stamp of an earlier time any more. */
export function planStamping({ table, established }: InForce): Planned {
  const first: Established = established.mode === 'keep' ? established : { mode: 'cut', stamp: 1 };
  if (table === undefined) return { transaction: undefined, after: { table, established } };
  const after = restamped(table, first);
  return { transaction: diffTable(table, after, owns), after: { table: after, established: first } };
}

/** Whether flows have to be rid of their stamps before any can be given. */
export const needsStamping = ({ table, established }: InForce): boolean =>
  table !== undefined && established.mode === 'cut' && established.stamp === undefined;

const transaction = (commands: readonly NftCommand[]): Transaction => ({
  family: POLICY_TABLE.family,
  table: POLICY_TABLE.name,
  commands,
});

const removal = (): Transaction => transaction([{ verb: 'delete', type: 'table' }]);

/** Whether it is there or not, it isn't afterwards. */
const CLEARED: readonly NftCommand[] = [
  { verb: 'add', type: 'table' },
  { verb: 'delete', type: 'table' },
];

const fresh = (established: Established): Established =>
  established.mode === 'keep' ? established : { mode: 'cut', stamp: undefined };

/** After the last one the stamps of long ago could still be around. */
function nextStamp(established: Established): Established {
  if (established.mode === 'keep' || established.stamp === undefined) return established;
  return { mode: 'cut', stamp: established.stamp < LAST_STAMP ? established.stamp + 1 : undefined };
}

/** Whether a packet that passed may pass no more: anything but new elements in a profile's sets, which allow, and counters. */
const isStricter = ({ commands }: Transaction): boolean =>
  commands.some((command) => {
    if (command.type === 'element' && command.set.counted) return false;
    return command.verb !== 'add' || command.type !== 'element' || command.set.gives !== undefined;
  });
