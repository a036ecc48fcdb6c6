// The loop that holds the host to what is wanted. Level-triggered: whatever happened (a lease, a restart, a person's
// `ip route del`), the answer is to read everything again and apply the difference, so a lost event costs nothing. With
// thousands of peers that takes long, and is done in slices.

import type { Kernel } from '../kernel/kernel.ts';
import { diff } from '../model/diff.ts';
import { describe } from '../model/errors.ts';
import type { Lease } from '../model/lease.ts';
import type { Sliced } from '../model/slices.ts';
import { identity } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import type { Clock } from './clock.ts';
import {
  applyInSlices,
  type Examined,
  examineInSlices,
  type Outcome,
  printDifference,
  type Settled,
  type Target,
} from './difference.ts';
import { inSlices, type SlicedWork } from './in-slices.ts';
import type { Log } from './log.ts';
import { failureTexts, nodeFailures, type PeerStatus, peerStatuses } from './peer-status.ts';
import type { Plan } from './plan.ts';

/** Triggers closer together than this (ms) share a run; the first of them doesn't wait. */
const QUIET_MS = 20;
/** With thousands of peers a run takes long: then they share a run for this many times as long. */
const QUIET_FACTOR = 5;
/** When so many runs in a row make the same changes, somebody undoes them each time: from then on less and less often. */
const PATIENT_RUNS = 5;
const LONGEST_QUIET_MS = 1000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 30_000;
/** Changes that are written out in the log; the rest is counted. */
const LOGGED_CHANGES = 10;

/** What one run found and did. */
export interface Run {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly reasons: readonly string[];
  readonly durationMs: number;
  /** Number of changes that were needed. */
  readonly changes: number;
  /** What failed, apart from peers: the node's own part. Empty: the data path of this node is in place. */
  readonly problems: readonly string[];
  readonly peers: readonly PeerStatus[];
}

export interface ReconcileOptions {
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly log: Log;
  /** What the host is held to at this moment; undefined: nothing yet, and nothing is touched. */
  readonly target: () => Target | undefined;
  /** Time between two runs when nothing happens, in milliseconds. */
  readonly resyncMs: number;
  /** Told of every run. */
  readonly onRun: (run: Run) => void;
}

export interface Reconciler {
  /** Look again, soon. */
  trigger(reason: string): void;
  /**
   * Adds at once what new or changed leases need, and removes the routes of those that are gone, without reading the host:
   * with thousands of peers that takes long. What fails, and all else, is left to the run that must follow.
   */
  hurry(fresh: readonly Lease[], gone: readonly Lease[]): void;
  stop(): void;
}

/** Nothing runs before it is triggered. */
export function startReconciler(options: ReconcileOptions): Reconciler {
  const { clock, log, resyncMs } = options;
  const report = reporter(log);
  let reasons = new Set<string>();
  let scheduled: { readonly at: number; readonly cancel: () => void } | undefined;
  let lastEnd = 0;
  let failedRuns = 0;
  let sameRuns = 0;
  let last: Attempt | undefined;
  let current: Current | undefined;

  const schedule = (at: number, reason?: string) => {
    if (reason !== undefined) reasons.add(reason);
    if (scheduled !== undefined && scheduled.at <= at) return;
    scheduled?.cancel();
    scheduled = { at, cancel: clock.after(Math.max(0, at - clock.now()), run) };
  };
  const run = () => {
    scheduled = undefined;
    // What is asked for meanwhile has its own run afterwards.
    if (current !== undefined) return;
    const why = reasons.size > 0 ? [...reasons] : [failedRuns > 0 ? 'retry' : 'resync'];
    reasons = new Set();
    const hurried = new Set<string>();
    const work = inSlices(clock, runOnce(options, why, last, hurried), ended);
    current = { work, hurried, late: [] };
    work.start();
  };
  const ended = (attempt: Attempt | undefined) => {
    const late = current?.late ?? [];
    current = undefined;
    const asked = reasons.size > 0;
    if (attempt === undefined) return schedule(clock.now() + resyncMs);
    sameRuns = attempt.made !== '' && attempt.made === last?.made ? sameRuns + 1 : 0;
    last = attempt;
    // It was planned without them; should they go, their routes are to be known.
    attempt.plan?.more(late);
    lastEnd = clock.now();
    failedRuns = isFailed(attempt.run) ? failedRuns + 1 : 0;
    schedule(lastEnd + (failedRuns > 0 ? Math.min(retryAfter(failedRuns), resyncMs) : resyncMs));
    if (asked) schedule(quietUntil());
    report(attempt.run);
    options.onRun(attempt.run);
  };
  const quietUntil = () => lastEnd + Math.max(quietAfter(sameRuns), QUIET_FACTOR * (last?.run.durationMs ?? 0));

  return {
    trigger: (reason) => schedule(Math.max(clock.now(), quietUntil()), reason),
    hurry: (fresh, gone) => last?.plan && changeAtOnce(options, last.plan, { ...current, fresh, gone }),
    stop() {
      scheduled?.cancel();
      current?.work.stop();
    },
  };
}

const isFailed = ({ problems, peers }: Run): boolean =>
  problems.length > 0 || peers.some(({ state }) => state === 'failed');

const quietAfter = (sameRuns: number): number =>
  Math.min(QUIET_MS * 2 ** Math.max(0, Math.min(sameRuns - PATIENT_RUNS, 10)), LONGEST_QUIET_MS);

const retryAfter = (failedRuns: number): number =>
  Math.min(FIRST_RETRY_MS * 2 ** Math.min(failedRuns - 1, 10), LONGEST_RETRY_MS);

/** A run, and what of its plan serves until the next; nothing when the host could not be read. */
interface Attempt {
  readonly run: Run;
  readonly plan?: Kept | undefined;
  /** When nothing was to be done; undefined when something was. */
  readonly settled?: Settled | undefined;
  /** The first of the changes that it made, as text. */
  readonly made: string;
}

type Kept = Pick<Plan, 'more' | 'routesOf'>;

/** The plan as a whole holds what was wanted of everything. */
const keptOf = (plan: Plan | undefined): Kept | undefined => plan && { more: plan.more, routesOf: plan.routesOf };

/** A run that has begun. */
interface Current {
  readonly work: SlicedWork;
  /** What has been changed at once since then, by {@link identity}: what it has read of that is no longer so. */
  readonly hurried: Set<string>;
  /** Leases that came since then. */
  readonly late: Lease[];
}

/** One run; undefined when there is nothing to hold the host to. What a failing read leaves unknown is as it was. */
function* runOnce(
  { kernel, clock, log, target }: ReconcileOptions,
  reasons: readonly string[],
  last: Attempt | undefined,
  hurried: ReadonlySet<string>,
): Sliced<Attempt | undefined> {
  const at = clock.now();
  const isHurried = ({ item }: Step) => hurried.size > 0 && hurried.has(identity(item));
  try {
    const wanted = target();
    if (wanted === undefined) return undefined;
    const examined = yield* examineInSlices(kernel, wanted, last?.settled);
    const outcome = yield* applyInSlices(kernel, examined, isHurried);
    const peers = yield* peersOf(examined, outcome, last?.run.peers ?? []);
    const run = runOf(examined, outcome, { at, reasons, durationMs: clock.now() - at, peers });
    const changes = firstChanges(examined);
    const made = changes.join('\n');
    // What fails again in the same way is told once, as its reason is.
    const isNews = last === undefined || !isFailed(last.run) || made !== last.made;
    logChanges(log, isNews ? 'info' : 'debug', changes, run);
    return {
      run,
      plan: keptOf(examined.plan) ?? last?.plan,
      made,
      settled: examined.steps.length === 0 && hurried.size === 0 ? examined.moment : undefined,
    };
  } catch (error) {
    const peers = last?.run.peers ?? [];
    const run: Run = { at, reasons, durationMs: clock.now() - at, changes: 0, problems: [describe(error)], peers };
    return { run, made: '' };
  }
}

/** Leases that came or went, and where what is done for them is noted. */
interface Hurry extends Partial<Pick<Current, 'hurried' | 'late'>> {
  readonly fresh: readonly Lease[];
  readonly gone: readonly Lease[];
}

function changeAtOnce(
  { kernel, log }: ReconcileOptions,
  { more, routesOf }: Kept,
  { fresh, gone, hurried, late }: Hurry,
): void {
  const steps = diff(routesOf(gone), more(fresh), () => true);
  if (steps.length === 0) return;
  for (const { item } of steps) hurried?.add(identity(item));
  late?.push(...fresh);
  const facts = () => ({ changes: steps.slice(0, LOGGED_CHANGES).map(printStep) });
  try {
    kernel.apply(kernel.host, steps);
    log.info(facts(), `${steps.length} changes at once`);
  } catch (error) {
    log.warn(facts(), `${steps.length} changes at once: ${describe(error)}`);
  }
}

/** @param known the peers as the last run left them, which is how they are where nothing was planned */
function* peersOf(
  { plan }: Examined,
  { failures }: Outcome,
  known: readonly PeerStatus[],
): Sliced<readonly PeerStatus[]> {
  return plan === undefined ? known : yield* peerStatuses(plan.peers, failureTexts(failures));
}

function runOf(
  { plan, steps, transaction }: Examined,
  outcome: Outcome,
  facts: Pick<Run, 'at' | 'reasons' | 'durationMs' | 'peers'>,
): Run {
  const problems = nodeFailures(plan?.peers ?? [], failureTexts(outcome.failures));
  return {
    ...facts,
    changes: steps.length + (transaction?.commands.length ?? 0),
    problems: outcome.rulesError === undefined ? problems : [describe(outcome.rulesError), ...problems],
  };
}

const firstChanges = ({ steps, transaction }: Examined): string[] =>
  printDifference({ steps: steps.slice(0, LOGGED_CHANGES), transaction }).slice(0, LOGGED_CHANGES);

function logChanges(
  log: Log,
  level: 'info' | 'debug',
  made: readonly string[],
  { changes, durationMs, reasons }: Run,
): void {
  if (changes === 0) return;
  log[level]({ changes: made, ms: durationMs }, `${changes} changes: ${reasons.join(', ')}`);
}

/** Logs each trouble when it appears and when it has gone, not at every run. */
function reporter(log: Log): (run: Run) => void {
  let known = new Set<string>();
  return ({ problems, peers }) => {
    // With the node's own part amiss every peer fails, for that reason.
    const telling = peers.filter(({ state }) => state === 'refused' || (state === 'failed' && problems.length === 0));
    const now = new Set([...problems, ...telling.map(({ key, state, reason }) => `peer ${key} ${state}: ${reason}`)]);
    for (const text of now) if (!known.has(text)) log.warn({}, text);
    for (const text of known) if (!now.has(text)) log.info({}, `no longer: ${text}`);
    known = now;
  };
}
