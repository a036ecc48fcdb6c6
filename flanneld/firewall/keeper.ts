// Keeps other people's packet filters from standing in the way, as long as the agent runs. It looks when rules change and at
// every resync, one look at a time, and tells what is new.

import type { Change, Kernel } from '../../kernel/kernel.ts';
import type { Prefix } from '../../model/ip.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { firewallRemarks, isBlocked } from './findings.ts';
import { trust } from './firewalld.ts';
import { type FirewallStatus, type FirewallWish, holdFirewall } from './hold.ts';
import type { Programs } from './programs.ts';
import type { Look } from './read.ts';

export interface FirewallDeps {
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly log: Log;
  readonly programs: Programs | undefined;
  /** Time between two looks when nothing happens, in milliseconds. */
  readonly resyncMs: number;
  /** Undefined: nothing yet. */
  readonly wish: () => FirewallWish | undefined;
}

export interface FirewallKeeper {
  /** Looks soon, if the change may matter. */
  hear(change: Change): void;
  /** Looks soon. */
  look(): void;
  /** Undefined before the first look. */
  status(): FirewallStatus | undefined;
  stop(): void;
}

/** From one look to the next, at least; and so many times as long as one takes, up to a bound. */
const QUIET_MS = 50;
const QUIET_FACTOR = 20;
const LONGEST_QUIET_MS = 10_000;
/** As long as no notification comes, what was read is what is there; this often it is read all the same. */
const TRUSTED_MS = 60_000;
/** From telling firewalld in vain to telling it again. */
const PATIENCE_MS = 60_000;

/** Looks at nothing before it is told to. */
export function keepFirewall(deps: FirewallDeps): FirewallKeeper {
  const { clock, resyncMs } = deps;
  const tell = reporter(deps.log);
  const trusting = truster(deps);
  let status: FirewallStatus | undefined;
  let last: Look | undefined;
  /** Until when `last` is what is there. */
  let freshUntil = 0;
  let scheduled: { readonly at: number; readonly cancel: () => void } | undefined;
  /** Whether something has happened since the look that is going on began; undefined when none is. */
  let missed: boolean | undefined;
  let quietUntil = 0;
  let stopped = false;

  const schedule = (at: number) => {
    if (stopped || (scheduled !== undefined && scheduled.at <= at)) return;
    scheduled?.cancel();
    scheduled = { at, cancel: clock.after(Math.max(0, at - clock.now()), () => void run()) };
  };
  const look = () => {
    if (missed === undefined) schedule(Math.max(clock.now(), quietUntil));
    else missed = true;
  };
  const run = async () => {
    scheduled = undefined;
    const wish = deps.wish();
    if (wish === undefined) return schedule(clock.now() + resyncMs);
    const began = clock.now();
    const known = began < freshUntil ? last : undefined;
    if (known === undefined) freshUntil = began + TRUSTED_MS;
    missed = false;
    const held = await holdFirewall(
      { ...deps, onChange: (line) => deps.log.info({}, `packet filter: ${line}`), trust: trusting.trust, known },
      wish,
    );
    status = held.status;
    last = held.look;
    if (status.troubles.length > 0) freshUntil = 0;
    trusting.seen(status);
    tell(status);
    const took = clock.now() - began;
    quietUntil = clock.now() + Math.min(Math.max(QUIET_MS, QUIET_FACTOR * took), LONGEST_QUIET_MS);
    schedule(missed ? quietUntil : Math.max(quietUntil, clock.now() + resyncMs));
    missed = undefined;
  };

  return {
    hear(change) {
      if (change.type !== 'overrun' && !(change.type === 'rules' && matters(change.table, last))) return;
      freshUntil = 0;
      look();
    },
    look,
    status: () => status,
    stop() {
      stopped = true;
      scheduled?.cancel();
    },
  };
}

/** A table that packets pass on their way, or one that nobody has seen yet; not one of ours. */
const matters = (table: string, last: Look | undefined): boolean =>
  !/^flannel(-|$)/.test(table) &&
  (last === undefined || !last.names.has(table) || last.tables.some(({ name }) => name === table));

/** What firewalld was told without effect is not told again at once. */
function truster({ programs, clock, log }: FirewallDeps) {
  const tried = new Map<Prefix, { readonly at: number; readonly trouble: string | undefined }>();
  return {
    async trust(network: Prefix): Promise<string | undefined> {
      const last = tried.get(network);
      if (programs === undefined || (last !== undefined && clock.now() < last.at + PATIENCE_MS)) return last?.trouble;
      const outcome = await trust(programs, network);
      if (outcome === 'trusted') log.info({}, `packet filter: ${network} is a source of firewalld's zone trusted`);
      const trouble = typeof outcome === 'string' ? undefined : outcome.trouble;
      if (outcome !== 'absent') tried.set(network, { at: clock.now(), trouble });
      return trouble;
    },
    /** After a look: what had its effect may be needed again at any time. */
    seen({ findings }: FirewallStatus): void {
      for (const network of tried.keys()) if (!isBlocked(findings, network)) tried.delete(network);
    },
  };
}

/** Tells what stands in the way when it is new, and when it has gone. */
function reporter(log: Log): (status: FirewallStatus) => void {
  let known = new Set<string>();
  return (status) => {
    const now = new Set(firewallRemarks(status));
    for (const line of now) if (!known.has(line)) log.warn({}, line);
    for (const line of known) if (!now.has(line)) log.info({}, `no longer: ${line}`);
    known = now;
  };
}
