// What is to be changed right now: what is there, compared with what should be. Reconciling applies it, `status` and
// --dry-run print it.

import type { Failure, Kernel, Query } from '../kernel/kernel.ts';
import { diffInSlices } from '../model/diff.ts';
import { asNetError, type NetError } from '../model/errors.ts';
import { diffTable, type OwnsName, printTransaction, type Table, type Transaction } from '../model/ruleset.ts';
import { finish, type Sliced } from '../model/slices.ts';
import type { State } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import type { Plan } from './plan.ts';
import { removeRules } from './rules/table.ts';

/** What the host is held to. */
export interface Target {
  /** What has to be read to compare. */
  readonly query: Query;
  plan(have: State): Sliced<Plan>;
  /** What the plan follows from besides what is there: where each is the same object, so is the plan. */
  readonly basis: readonly unknown[];
  readonly table: Table;
  /** Which chains and sets of the table are ours. */
  readonly ownsChain: OwnsName;
}

export interface Difference {
  readonly plan: Plan;
  readonly steps: readonly Step[];
  readonly transaction: Transaction | undefined;
}

/** A moment when the host was as it should be, but for the rules. */
export interface Settled {
  readonly basis: readonly unknown[];
  readonly fingerprint: string;
}

/** A difference, and the moment that it may be compared with; where that is so again, there is no plan, and are no steps. */
export interface Examined extends Omit<Difference, 'plan'> {
  readonly plan: Plan | undefined;
  readonly moment: Settled;
}

/** Reads and compares; changes nothing. @throws NetError kernel, foreign-object */
export const examine = (kernel: Kernel, target: Target): Difference =>
  finish(examineInSlices(kernel, target, undefined)) as Difference;

/** The same where there are thousands of peers; little is done where everything is as it was when it was settled. */
export function* examineInSlices(kernel: Kernel, target: Target, settled: Settled | undefined): Sliced<Examined> {
  const { basis } = target;
  const former = settled !== undefined && isSame(settled.basis, basis) ? settled.fingerprint : undefined;
  const { state: have, fingerprint } = yield* kernel.readInSlices(target.query, former);
  const moment = { basis, fingerprint };
  if (have === undefined) return { plan: undefined, steps: [], transaction: tableDifference(kernel, target), moment };
  const plan = yield* target.plan(have);
  const steps = yield* diffInSlices(have, plan.want, plan.owns);
  return { plan, steps, transaction: tableDifference(kernel, target), moment };
}

const isSame = (a: readonly unknown[], b: readonly unknown[]): boolean =>
  a.length === b.length && a.every((each, at) => each === b[at]);

/** A table that would be empty isn't made, and goes when nothing of others is in it. */
function tableDifference(kernel: Kernel, { table, ownsChain }: Target): Transaction | undefined {
  const have = kernel.readTable(table.family, table.name);
  return table.chains.length === 0 ? removeRules(have, ownsChain) : diffTable(have, table, ownsChain);
}

export interface Outcome {
  readonly failures: readonly Failure[];
  /** Why the rules could not be changed. */
  readonly rulesError: NetError | undefined;
}

/** Applies what it can; the rules first, so that no packet of a new peer leaves untranslated. */
export const applyDifference = (kernel: Kernel, difference: Omit<Difference, 'plan'>): Outcome =>
  finish(applyInSlices(kernel, difference));

/** Steps that the kernel takes at a time: a few milliseconds. */
const SLICE = 200;

/** The same where there are thousands of peers, without the steps that are left out when it is their turn. */
export function* applyInSlices(
  kernel: Kernel,
  { steps, transaction }: Omit<Difference, 'plan'>,
  isLeftOut: (step: Step) => boolean = () => false,
): Sliced<Outcome> {
  let rulesError: NetError | undefined;
  try {
    if (transaction !== undefined) kernel.commit(transaction);
  } catch (error) {
    rulesError = asNetError(error);
  }
  const failures: Failure[] = [];
  for (let at = 0; at < steps.length; at += SLICE) {
    if (at > 0) yield;
    const due = steps.slice(at, at + SLICE).filter((step) => !isLeftOut(step));
    failures.push(...kernel.apply(kernel.host, due));
  }
  return { failures, rulesError };
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
