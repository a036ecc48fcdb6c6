// Makes up for what happened while nobody looked: deletions that clients kept while no agent answered, attachments that
// died without a deletion.

import { executeFrom } from '../../cni-plugin/execute.ts';
import { type Recorded, reclaim, recordedAttachments } from '../../cni-plugin/reclaim.ts';
import type { Answer } from '../../cni-plugin/answer.ts';
import { failure } from '../../cni-plugin/answer.ts';
import type { Dependencies } from '../../cni-plugin/verbs.ts';
import { perform } from '../../cni-plugin/verbs.ts';
import type { RequestMessage } from '../../cni-plugin/wire.ts';
import { describe } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import { callOf, dependenciesOf } from './call.ts';
import type { RecordDirectories } from './records.ts';
import type { SpoolCounts } from './spool.ts';
import { drainSpool } from './spool.ts';

export interface RepairDeps {
  readonly shared: Omit<Dependencies, 'execute' | 'asked' | 'call'>;
  readonly records: RecordDirectories;
  readonly spool: string;
  readonly log: Log;
}

export interface RepairStatus {
  /** Attachments that were taken away since the start. */
  readonly reclaimed: number;
  /** The last of them, with the reason. */
  readonly lastReclaimed: readonly string[];
  /** What could not be taken away, or looked at, the last time. */
  readonly problems: readonly string[];
  /** Deletions of clients: all that were done or put aside since the start, and those that wait. */
  readonly spool: SpoolCounts;
}

export interface Repair {
  /** Looks once, and takes away what it finds; while it does, whoever asks waits for the next time. Never throws. */
  run(): Promise<void>;
  status(): RepairStatus;
  /** The attachments there are. Only looks. @throws NetError io, kernel */
  recorded(): Recorded;
}

/** Attachments that the status names. */
const SHOWN = 20;
/** For plugins that are executed for clients that are no more. */
export const PLUGIN_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function createRepair({ shared, records, spool, log }: RepairDeps): Repair {
  let status: RepairStatus = {
    reclaimed: 0,
    lastReclaimed: [],
    problems: [],
    spool: { done: 0, waiting: 0, aside: 0 },
  };
  let running: Promise<void> | undefined;
  let again: Promise<void> | undefined;

  async function drain(): Promise<string[]> {
    try {
      const { done, waiting, aside } = await drainSpool({
        directory: spool,
        perform: (message) => performKept(message, shared),
        now: shared.now,
        log,
      });
      const before = status.spool;
      status = { ...status, spool: { done: before.done + done, waiting, aside: before.aside + aside } };
      if (done > 0) log.info({ deletions: done }, 'made up for deletions from the time without an agent');
      return [];
    } catch (error) {
      return [describe(error)];
    }
  }

  async function reclaimAll(): Promise<string[]> {
    const problems: string[] = [];
    for (const directory of records.all()) {
      const found = await reclaim(directory, { ...shared, execute: noClient });
      problems.push(...found.problems);
      if (found.restored.length > 0) log.warn({ restored: found.restored }, 'put back what was missing of attachments');
      if (found.removed.length === 0) continue;
      status = {
        ...status,
        reclaimed: status.reclaimed + found.removed.length,
        lastReclaimed: [...status.lastReclaimed, ...found.removed].slice(-SHOWN),
      };
      log.warn({ attachments: found.removed }, 'took away attachments that had ended without a deletion');
    }
    return problems;
  }

  async function once(): Promise<void> {
    const problems = [...(await drain()), ...(await reclaimAll())];
    if (problems.length > 0) log.error({ problems }, 'not everything could be taken away');
    status = { ...status, problems };
  }

  function begin(): Promise<void> {
    running = once().finally(() => {
      running = undefined;
    });
    return running;
  }

  return {
    run() {
      if (running === undefined) return begin();
      again ??= running.then(() => {
        again = undefined;
        return begin();
      });
      return again;
    },
    status: () => status,
    recorded() {
      const found = records.all().map((directory) => recordedAttachments(directory, shared));
      return { staying: found.flatMap(({ staying }) => staying), dead: found.flatMap(({ dead }) => dead) };
    },
  };
}

/** A deletion that nobody waits for; plugins it needs are executed by this process. */
async function performKept(message: RequestMessage, shared: RepairDeps['shared']): Promise<Answer> {
  try {
    const call = callOf(message, 0);
    const execute = executeFrom(call.request.path, { PATH: PLUGIN_PATH, ...message.environment });
    const dependencies = dependenciesOf(call, { ...shared, asked: message.spooled }, execute);
    return await perform(call.plugin, call.request, dependencies);
  } catch (error) {
    return failure(error);
  }
}

/** Records say nothing of other plugins. */
const noClient: Dependencies['execute'] = () => Promise.reject(new Error('there is no client to execute plugins'));
