// Runs an operator's commands so that, in the end, SubnetAddCommand has succeeded for every peer there is and
// SubnetRemoveCommand for every one that went. What has been run is remembered for as long as the agent lives; a new agent
// begins anew with every peer, so the commands must bear to be run again.
//
// Each peer stands by itself: its commands run one after the other, those of different peers side by side, and one that
// fails is tried again with growing pauses in lanes of its own, so that it never takes a newcomer's place.

import type { Execute } from '../../kernel/execute.ts';
import { describe } from '../../model/errors.ts';
import { type Lease, leaseKey, type PerFamily } from '../../model/lease.ts';
import type { Prefix } from '../../model/ip.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Commands } from './backend.ts';
import type { Command, Environment } from './command-words.ts';
import { environmentOf, publishedBy } from './extension.ts';
import { keepPostStartup } from './post-startup.ts';
import { retryAfter, runCommand } from './run-command.ts';

/** Commands that run at the same time: of peers that have not failed, and of those that have. */
const LANES = { first: 8, again: 4 } as const;
/** After so many failures a removal is given up: what it was to remove may have gone by itself. */
const MOST_REMOVALS = 5;

/** The part of /status. */
export interface ExtensionStatus {
  /** Why PostStartupCommand has not succeeded. */
  readonly trouble?: string | undefined;
  /** Peers that SubnetAddCommand has succeeded for. */
  readonly added: number;
  /** Commands that run at this moment. */
  readonly running: number;
  /** Peers that something is the matter with, gone ones too. */
  readonly failing: readonly { readonly key: string; readonly reason: string }[];
}

export interface ExtensionInput {
  readonly networks: PerFamily<Prefix>;
  /** Our own lease. */
  readonly own: Lease;
  readonly peers: readonly Lease[];
}

export interface ExtensionKeeper {
  /** Says what there should be from now on. */
  hold(input: ExtensionInput): void;
  status(): ExtensionStatus;
  stop(): void;
}

export interface ExtensionOptions {
  readonly commands: Commands;
  readonly run: Execute;
  readonly clock: Clock;
  readonly log: Log;
}

/** A peer, or what is left of one. */
interface Entry {
  wanted: Lease | undefined;
  /** The last lease SubnetAddCommand was run for, whether or not it succeeded. */
  tried: Lease | undefined;
  /** Whether it did. */
  added: boolean;
  busy: boolean;
  failures: number;
  reason: string | undefined;
  cancel: () => void;
}

type Lane = keyof typeof LANES;

/** Runs nothing before it is told what there should be. */
export function keepExtension({ commands, run, clock, log }: ExtensionOptions): ExtensionKeeper {
  const entries = new Map<string, Entry>();
  const due: Record<Lane, Set<string>> = { first: new Set(), again: new Set() };
  const busy: Record<Lane, number> = { first: 0, again: 0 };
  const stopped = new AbortController();
  let networks: PerFamily<Prefix> = {};

  const command = (key: string, given: Command | undefined, environment: Environment, input: string) =>
    given === undefined
      ? Promise.resolve('')
      : runCommand(run, { key, command: given, environment, input, signal: stopped.signal });

  const started = keepPostStartup({
    run: (environment) => command('PostStartupCommand', commands.postStartup, environment, ''),
    clock,
    log,
    onDone: () => pump(),
  });

  const peerCommand = (key: 'SubnetAddCommand' | 'SubnetRemoveCommand', lease: Lease) =>
    command(
      key,
      key === 'SubnetAddCommand' ? commands.subnetAdd : commands.subnetRemove,
      environmentOf(networks, lease),
      publishedBy(lease),
    );

  const isSettled = ({ wanted, tried, added }: Entry): boolean =>
    wanted === undefined ? tried === undefined : added && same(tried, wanted);

  const enqueue = (key: string, entry: Entry) => {
    if (!entry.busy && !isSettled(entry)) due[entry.failures === 0 ? 'first' : 'again'].add(key);
  };

  function pump(): void {
    if (!started.isDone() || stopped.signal.aborted) return;
    for (const lane of ['first', 'again'] as const) {
      for (const key of due[lane]) {
        if (busy[lane] >= LANES[lane]) break;
        due[lane].delete(key);
        const entry = entries.get(key);
        if (entry !== undefined) void work(key, entry, lane);
      }
    }
  }

  /** One command of a peer. */
  async function work(key: string, entry: Entry, lane: Lane): Promise<void> {
    busy[lane]++;
    entry.busy = true;
    const before = entry.reason;
    try {
      await step(key, entry);
      entry.failures = 0;
      entry.reason = undefined;
    } catch (error) {
      entry.failures++;
      entry.reason = describe(error);
      if (entry.reason !== before && !stopped.signal.aborted) log.warn({}, `peer ${key}: ${entry.reason}`);
    }
    busy[lane]--;
    entry.busy = false;
    if (stopped.signal.aborted) return;
    if (entry.failures === 0) enqueue(key, entry);
    else entry.cancel = clock.after(retryAfter(entry.failures), () => again(key, entry));
    if (entry.wanted === undefined && entry.tried === undefined) entries.delete(key);
    pump();
  }

  async function step(key: string, entry: Entry): Promise<void> {
    const { wanted, tried } = entry;
    if (tried !== undefined && !same(tried, wanted)) {
      await remove(key, entry, tried);
    } else if (wanted !== undefined) {
      entry.tried = wanted;
      entry.added = false;
      await peerCommand('SubnetAddCommand', wanted);
      entry.added = true;
    }
  }

  /** What a changed lease had before is tried to be removed once: the peer must not wait for it. */
  async function remove(key: string, entry: Entry, tried: Lease): Promise<void> {
    try {
      await peerCommand('SubnetRemoveCommand', tried);
    } catch (error) {
      const last = entry.wanted !== undefined || entry.failures + 1 >= MOST_REMOVALS;
      if (!last) throw error;
      log.warn({}, `peer ${key}: ${describe(error)}: given up`);
    }
    entry.tried = undefined;
    entry.added = false;
  }

  const again = (key: string, entry: Entry) => {
    enqueue(key, entry);
    pump();
  };

  /** Something new is tried at once. */
  const want = (key: string, lease: Lease | undefined) => {
    const entry = entries.get(key) ?? fresh();
    if (same(entry.wanted, lease)) return;
    entries.set(key, entry);
    entry.wanted = lease;
    entry.failures = 0;
    entry.reason = undefined;
    entry.cancel();
    due.again.delete(key);
    enqueue(key, entry);
  };

  return {
    hold(input) {
      networks = input.networks;
      const wanted = new Map(input.peers.map((lease) => [leaseKey(lease.subnet), lease]));
      for (const key of [...entries.keys()]) if (!wanted.has(key)) want(key, undefined);
      for (const [key, lease] of wanted) want(key, lease);
      started.hold(environmentOf(networks, input.own));
      pump();
    },
    status: () => ({
      trouble: started.trouble(),
      added: [...entries.values()].filter(({ added }) => added).length,
      running: busy.first + busy.again,
      failing: [...entries].flatMap(([key, { reason }]) => (reason === undefined ? [] : [{ key, reason }])),
    }),
    stop() {
      stopped.abort();
      started.stop();
      for (const { cancel } of entries.values()) cancel();
    },
  };
}

const fresh = (): Entry => ({
  wanted: undefined,
  tried: undefined,
  added: false,
  busy: false,
  failures: 0,
  reason: undefined,
  cancel: () => {},
});

/** Whether commands would be told the same. */
const same = (a: Lease | undefined, b: Lease | undefined): boolean => a === b || textOf(a) === textOf(b);

const textOf = (lease: Lease | undefined): string =>
  lease === undefined ? '' : JSON.stringify([lease.subnet, lease.publicIp, publishedBy(lease)]);
