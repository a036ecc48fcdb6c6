// The CNI service of the agent: takes the socket if no other agent of the host has it, makes up for the time before, then
// serves until it is told to stop.

import type { Socket } from 'node:net';
import type { Dependencies } from '../../cni-plugin/verbs.ts';
import { SPOOL_DIRECTORY } from '../../cni-plugin/wire.ts';
import { peerOf } from '../../kernel/peer.ts';
import { describe } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import { sleep } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Counted, VerbCounts } from './counters.ts';
import { newCounters } from './counters.ts';
import type { CniSocket } from './listen.ts';
import { lockSocket, openCniSocket } from './listen.ts';
import { recordDirectories } from './records.ts';
import { repairTimer } from './repair-timer.ts';
import type { RepairStatus } from './repair.ts';
import { createRepair } from './repair.ts';
import type { PolicyService, PolicyStatus } from '../policy/enforce.ts';
import { removePolicyTables } from '../policy/remains.ts';
import { createCniServer } from './server.ts';
import { addToSpool } from './spool.ts';

export interface CniServiceDeps {
  /** Path. */
  readonly socket: string;
  /** What all verbs share. */
  readonly shared: Omit<Dependencies, 'execute' | 'asked' | 'call'>;
  readonly log: Log;
  readonly clock: Clock;
  /** Whether the agent does nothing else, and needs no subnet. */
  readonly alone: boolean;
  /** The user this process runs as. */
  readonly uid: number;
  /** Undefined: no policies are enforced. */
  readonly policy?: PolicyService | undefined;
}

/** The part of /status. */
export interface CniStatus extends RepairStatus {
  readonly socket: string;
  /** Why this agent doesn't serve it. */
  readonly reason?: string | undefined;
  /** Of clients, since the start. */
  readonly requests: Readonly<Partial<Record<Counted, VerbCounts>>>;
  readonly running: number;
  readonly waiting: number;
  readonly policy?: PolicyStatus | undefined;
}

export interface CniService {
  /** Serves until the signal aborts, and then until what runs has ended. Never throws. */
  run(signal: AbortSignal): Promise<void>;
  /** Why clients aren't served; undefined when they are, be it by another agent. */
  unreadiness(): string | undefined;
  status(): CniStatus;
}

/** Between two looks at the socket, be it another agent's. */
const LOOK_MS = 1000;
/** From a failure to the look for what it may have left. */
const AFTER_FAILURE_MS = 2000;

export function createCniService({ socket, shared, log, clock, alone, uid, policy }: CniServiceDeps): CniService {
  const counters = newCounters();
  const records = recordDirectories();
  const repair = createRepair({ shared, records, spool: SPOOL_DIRECTORY, log });
  const repairs = repairTimer(clock, () => repair.run().finally(() => policy?.look()));
  const server = createCniServer({
    shared,
    records,
    log,
    counters,
    uid,
    keep: (message) => addToSpool(SPOOL_DIRECTORY, message, shared.now()),
    onFailure: () => repairs.within(AFTER_FAILURE_MS),
    onEnded: () => policy?.refresh(),
  });
  /** Undefined while it is served. */
  let reason: string | undefined = 'the agent is starting';
  let isTrouble = true;

  function cannotServe(why: string, trouble: boolean): void {
    if (why !== reason) log.warn({}, `CNI socket ${socket}: ${why}`);
    reason = why;
    isTrouble = trouble;
  }

  async function takeLock(signal: AbortSignal): Promise<(() => void) | undefined> {
    while (!signal.aborted) {
      try {
        const unlock = lockSocket(socket);
        if (unlock !== undefined) return unlock;
        cannotServe('another agent of this host serves it', false);
      } catch (error) {
        cannotServe(describe(error), true);
      }
      await sleep(clock, LOOK_MS, signal);
    }
    return undefined;
  }

  /** Somebody may take the socket's path away; it is put back. */
  async function keepListening(signal: AbortSignal): Promise<void> {
    let listening: CniSocket | undefined;
    while (!signal.aborted) {
      if (!listening?.isThere()) {
        listening?.close();
        listening = await listen();
      }
      await sleep(clock, LOOK_MS, signal);
    }
    listening?.close();
  }

  function accept(client: Socket): void {
    try {
      void server.serve(client, peerOf(client));
    } catch {
      // Gone already, or the kernel doesn't tell who it is.
      client.destroy();
    }
  }

  /** What an agent with a policy source has left would stop pods that are attached without one. */
  function endPolicy(): void {
    try {
      const removed = removePolicyTables(shared.kernel);
      if (removed.length > 0) log.warn({ removed }, 'no policy source is configured: policies are no longer in force');
    } catch (error) {
      log.error({}, `network policy that is no longer configured: ${describe(error)}`);
    }
  }

  async function listen(): Promise<CniSocket | undefined> {
    try {
      const listening = await openCniSocket(socket, accept, alone);
      log.info({}, `serving CNI clients on ${socket}`);
      reason = undefined;
      return listening;
    } catch (error) {
      cannotServe(describe(error), true);
      return undefined;
    }
  }

  return {
    async run(signal) {
      const unlock = await takeLock(signal);
      if (unlock === undefined) return;
      try {
        await repair.run();
        if (policy === undefined) endPolicy();
        else void policy.run(signal);
        repairs.start();
        await keepListening(signal);
        repairs.stop();
        reason = 'the agent is stopping';
        await server.stop();
      } finally {
        unlock();
      }
    },
    unreadiness() {
      if (reason === undefined) return policy?.unreadiness();
      return isTrouble ? `CNI socket ${socket}: ${reason}` : undefined;
    },
    status: () => ({
      socket,
      reason,
      requests: counters.all(),
      running: server.running,
      waiting: server.waiting,
      ...repair.status(),
      policy: policy?.status(),
    }),
  };
}
