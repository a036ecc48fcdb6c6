// Keeps the table `inet flannel-policy` as it is wanted: one transaction for each change, from a copy in memory, so that
// the table is never listed. What isn't known for certain (the first time, after an error, after somebody else has changed the
// table) is replaced whole, in one transaction too. The table stays in force when the agent stops, and nothing is touched
// before the first state is given.

import type { Change, Kernel } from '../../kernel/kernel.ts';
import { describe, hasErrno, NetError } from '../../model/errors.ts';
import type { Transaction } from '../../model/ruleset.ts';
import { type Clock, sleep } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Compiled } from './compile.ts';
import { POLICY_TABLE, STAMP_MASK } from './table.ts';
import { type InForce, needsStamping, type Planned, planChange, planReplacement, planStamping } from './transaction.ts';

export interface ApplierDeps {
  readonly kernel: Pick<Kernel, 'commit' | 'commitAside' | 'unmarkFlows'>;
  readonly clock: Clock;
  readonly log: Log;
  /** What becomes of flows that a stricter policy no longer allows. */
  readonly established: 'cut' | 'keep';
  readonly signal: AbortSignal;
}

export interface ApplierStatus {
  /** Whether what is wanted is in force. */
  readonly current: boolean;
  /** Why it isn't. */
  readonly trouble: string | undefined;
  /** Transactions, and those of them that replaced the table whole. */
  readonly transactions: number;
  readonly replacements: number;
  /** Of the last transaction, from the moment it was wanted, in milliseconds. */
  readonly lastMs: number | undefined;
}

export interface Applier {
  /** Resolves when the state, or a later one, is in force; false when the agent stops before. */
  want(compiled: Compiled): Promise<boolean>;
  /** To be told of every change in the host's namespace. */
  onChange(change: Change): void;
  status(): ApplierStatus;
}

/** Changes that follow one are gathered for this long. */
const GATHER_MS = 20;
/** A larger transaction is made in a process of its own: libnftables keeps the memory it has used. */
const MOST_ELEMENTS = 1000;
const RETRY_MS = 1000;
/** Between two replacements: somebody may change the table again and again. */
const FOREIGN_MS = 1000;
/** By then every notification of a transaction of ours has come. */
const SETTLE_MS = 1000;

interface Wanted {
  readonly compiled: Compiled;
  readonly since: number;
  readonly done: PromiseWithResolvers<boolean>;
}

/** Commits nothing before a state is wanted; the first one replaces whatever table is there. */
export function createApplier({ kernel, clock, log, established, signal }: ApplierDeps): Applier {
  let inForce: InForce = {
    table: undefined,
    established: established === 'keep' ? { mode: 'keep' } : { mode: 'cut', stamp: undefined },
  };
  let isCertain = false;
  /** Somebody has changed the table while it was being replaced: before or after, nobody knows. */
  let isDisturbed = false;
  let wanted: Wanted | undefined;
  let reached: Wanted | undefined;
  let replacedAt = Number.NEGATIVE_INFINITY;
  let running = false;
  /** No flow carries a stamp, and none is given any. */
  let isUnmarked = false;
  let isUnmarking = false;
  let trouble: string | undefined;
  const counts = { transactions: 0, replacements: 0 };
  let lastMs: number | undefined;
  const ownership = countTransactions(clock);

  async function commit(transaction: Transaction): Promise<void> {
    const made = ownership.expect();
    try {
      if (elementsIn(transaction) > MOST_ELEMENTS) await aside(transaction);
      else kernel.commit(transaction);
      counts.transactions++;
      made.landed();
    } catch (error) {
      made.failed();
      throw error;
    }
  }

  async function aside(transaction: Transaction): Promise<void> {
    try {
      await kernel.commitAside(transaction);
    } catch (error) {
      const missing = hasErrno(error, 'ENOENT') && error instanceof NetError && error.subject === 'nft';
      if (!missing) throw error;
      kernel.commit(transaction);
    }
  }

  async function carryOut({ transaction, after }: Planned): Promise<void> {
    if (transaction !== undefined) await commit(transaction);
    inForce = after;
  }

  async function reach({ compiled }: Wanted): Promise<void> {
    if (isCertain) await carryOut(planChange(inForce, compiled));
    else {
      // Whatever fails from here on leaves the table unknown.
      const wait = replacedAt + FOREIGN_MS - clock.now();
      if (wait > 0) await sleep(clock, wait, signal);
      replacedAt = clock.now();
      isDisturbed = false;
      await carryOut(planReplacement(inForce, compiled));
      counts.replacements++;
      isCertain = !isDisturbed;
    }
  }

  /**
   * Flows that carry a stamp of another time would pass for allowed: they lose it, for which nobody waits, before any stamp is
   * given. Until then nothing gives one.
   */
  async function unmark(): Promise<void> {
    if (isUnmarking || isUnmarked || !needsStamping(inForce)) return;
    isUnmarking = true;
    try {
      await kernel.unmarkFlows(STAMP_MASK, signal);
      isUnmarked = true;
    } catch (error) {
      failed(error);
      await sleep(clock, RETRY_MS, signal);
    }
    isUnmarking = false;
    if (signal.aborted) return;
    if (isUnmarked) void run();
    else void unmark();
  }

  const canStamp = (): boolean => isUnmarked && needsStamping(inForce);
  const isBehind = (): boolean => wanted !== reached || !isCertain;

  async function run(): Promise<void> {
    if (running) return;
    running = true;
    while (wanted !== undefined && (isBehind() || canStamp()) && !signal.aborted) {
      const now = wanted;
      try {
        if (isBehind()) {
          await reach(now);
          reached = now;
          lastMs = clock.now() - now.since;
          now.done.resolve(true);
        } else {
          isUnmarked = false;
          await carryOut(planStamping(inForce));
        }
        void unmark();
        trouble = undefined;
        await sleep(clock, GATHER_MS, signal);
      } catch (error) {
        isCertain = false;
        failed(error);
        await sleep(clock, RETRY_MS, signal);
      }
    }
    running = false;
    if (signal.aborted) wanted?.done.resolve(wanted === reached);
  }

  function failed(error: unknown): void {
    const text = describe(error);
    if (text !== trouble) log.warn({}, `network policy: ${text}; what was in force stays, trying again`);
    trouble = text;
  }

  return {
    want(compiled) {
      const before = wanted;
      const done = Promise.withResolvers<boolean>();
      // Who waits for an earlier state waits for this one now.
      if (before !== undefined && before !== reached) done.promise.then(before.done.resolve);
      wanted = { compiled, since: before === reached ? clock.now() : (before?.since ?? clock.now()), done };
      void run();
      return done.promise;
    },
    onChange(change) {
      if (!ownership.isForeign(change)) return;
      isDisturbed = true;
      if (!isCertain) return;
      isCertain = false;
      log.warn(
        {},
        `nft table ${POLICY_TABLE.family} ${POLICY_TABLE.name} was changed by another program; it is replaced`,
      );
      void run();
    },
    status: () => ({ current: wanted !== undefined && wanted === reached && isCertain, trouble, ...counts, lastMs }),
  };
}

const elementsIn = ({ commands }: Transaction): number =>
  commands.reduce((sum, command) => sum + (command.type === 'element' ? command.elements.length : 1), 0);

/**
 * Tells other people's transactions on the table from our own, which the kernel tells alike: there are as many of ours as
 * we have made.
 */
function countTransactions(clock: Clock) {
  let made = 0;
  let seen = 0;
  let last: number | undefined;
  let cancel = () => {};
  /** A transaction that changes nothing in the end may be told or not. */
  const settle = () => {
    seen = made;
  };
  return {
    /** A large one takes its time. */
    expect() {
      made++;
      cancel();
      const landed = () => {
        cancel = clock.after(SETTLE_MS, settle);
      };
      const failed = () => {
        made--;
        landed();
      };
      return { landed, failed };
    },
    isForeign(change: Change): boolean {
      if (change.type === 'overrun') {
        settle();
        return true;
      }
      if (change.type !== 'transaction' || change.table !== POLICY_TABLE.name || change.generation === last)
        return false;
      last = change.generation;
      seen++;
      if (seen <= made) return false;
      made = seen;
      return true;
    },
  };
}
