// What is to be changed right now: what is there, compared with what should be. Reconciling applies it, `status` and
// --dry-run print it.

import type { Failure, Kernel, Query } from '../kernel/kernel.ts';
import { diff } from '../model/diff.ts';
import { asNetError, type NetError } from '../model/errors.ts';
import { diffTable, type OwnsName, printTransaction, type Table, type Transaction } from '../model/ruleset.ts';
import type { State } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import type { Plan } from './plan.ts';

/** What the host is held to. */
export interface Target {
  /** What has to be read to compare. */
  readonly query: Query;
  plan(have: State): Plan;
  readonly table: Table;
  /** Which chains and sets of the table are ours. */
  readonly ownsChain: OwnsName;
}

export interface Difference {
  readonly plan: Plan;
  readonly steps: readonly Step[];
  readonly transaction: Transaction | undefined;
}

/** Reads and compares; changes nothing. @throws NetError kernel, foreign-object */
export function examine(kernel: Kernel, target: Target): Difference {
  const have = kernel.read(kernel.host, target.query);
  const plan = target.plan(have);
  return { plan, steps: diff(have, plan.want, plan.owns), transaction: tableDifference(kernel, target) };
}

/** A table that isn't there and would be empty isn't made. */
function tableDifference(kernel: Kernel, { table, ownsChain }: Target): Transaction | undefined {
  const have = kernel.readTable(table.family, table.name);
  if (have === undefined && table.chains.length === 0) return undefined;
  return diffTable(have, table, ownsChain);
}

export interface Outcome {
  readonly failures: readonly Failure[];
  /** Why the rules could not be changed. */
  readonly rulesError: NetError | undefined;
}

/** Applies what it can; the rules first, so that no packet of a new peer leaves untranslated. */
export function applyDifference(kernel: Kernel, { steps, transaction }: Omit<Difference, 'plan'>): Outcome {
  let rulesError: NetError | undefined;
  try {
    if (transaction !== undefined) kernel.commit(transaction);
  } catch (error) {
    rulesError = asNetError(error);
  }
  return { failures: kernel.apply(kernel.host, steps), rulesError };
}

/** The `ip`, `bridge`, `sysctl` and `nft` lines that a person would type, in the order of applying. */
export function printDifference({ steps, transaction }: Omit<Difference, 'plan'>): string[] {
  return [...(transaction === undefined ? [] : printRules(transaction)), ...steps.map(printStep)];
}

/** A transaction as lines for a shell. Text for people: never executed. */
export const printRules = (transaction: Transaction): string[] =>
  printTransaction(transaction)
    .trimEnd()
    .split('\n')
    .map((line) => (/[{};!&"]/.test(line) ? `nft '${line}'` : `nft ${line}`));
