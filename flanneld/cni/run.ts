// The CNI service with what it stands on, as the agent's start and stop see it.

import { SPOOL_DIRECTORY } from '../../cni-plugin/wire.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { settleThreads } from '../../kernel/netns.ts';
import { openLinkRemover } from '../../kernel/remove-links.ts';
import { systemClock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { CniPlaces } from './cleanup.ts';
import { recordDirectories } from './records.ts';
import { createRepair } from './repair.ts';
import type { CniService } from './service.ts';
import { createCniService } from './service.ts';
import type { PolicyService } from '../policy/enforce.ts';

export interface CniRun {
  readonly service: CniService;
  /** Path of the socket. */
  readonly socket: string;
  /** Undefined: no policies are enforced. */
  readonly policy: PolicyService | undefined;
  /** Begins to serve; again, it does nothing. */
  start(): void;
  /** Resolves when what runs has ended, or after ten seconds. */
  stop(): Promise<void>;
}

export interface CniRunOptions {
  readonly socket: string;
  readonly kernel: Kernel;
  readonly bootId: string;
  readonly log: Log;
  /** Undefined: no policies are enforced. */
  readonly policy?: PolicyService | undefined;
  /** Whether the agent does nothing else. */
  readonly alone: boolean;
}

/** Behind another verb on the same attachment, be it of another process. */
const LOCK_TIMEOUT_MS = 10_000;
/** What takes longer is undone by the next agent. */
const STOP_MS = 10_000;

/** What `flanneld cleanup` looks at. @throws NetError kernel */
export function openCniPlaces(
  { kernel, bootId, log }: Omit<CniRunOptions, 'socket' | 'alone'>,
  socket?: string,
): CniPlaces {
  const records = recordDirectories();
  const { remove: removeLink } = openLinkRemover();
  const shared = { kernel, bootId, now: Date.now, lockTimeoutMs: LOCK_TIMEOUT_MS, removeLink };
  const repair = createRepair({ shared, records, spool: SPOOL_DIRECTORY, log });
  return { kernel, socket, records, spool: SPOOL_DIRECTORY, repair };
}

/** @throws NetError kernel; internal when a thread is outside the host's network namespace */
export function openCni({ socket, kernel, bootId, log, policy, alone }: CniRunOptions): CniRun {
  const remover = openLinkRemover();
  settleThreads();
  const shared = {
    kernel,
    bootId,
    now: Date.now,
    lockTimeoutMs: LOCK_TIMEOUT_MS,
    removeLink: remover.remove,
    ...(policy && { admit: policy.admit, sources: policy.sources }),
  };
  const uid = process.getuid?.() ?? 0;
  const service = createCniService({ socket, shared, log, clock: systemClock, alone, uid, policy });
  const ending = new AbortController();
  let running: Promise<void> | undefined;
  return {
    service,
    socket,
    policy,
    start() {
      running ??= service.run(ending.signal);
    },
    async stop() {
      ending.abort();
      await Promise.race([running, new Promise((resolve) => setTimeout(resolve, STOP_MS).unref())]);
    },
  };
}
