// Order and bounds for the verbs of many clients. Verbs of one attachment run one after the other, as they came; those of
// different attachments side by side, up to a number in each lane. Lanes keep what waits long (deletions) from taking the
// places of what is quick (all else). Beyond a backlog a request is refused at once rather than kept waiting.

import { NetError } from '../../model/errors.ts';

export interface Lane {
  /** Tasks that run at once. */
  readonly running: number;
  /** Tasks that wait. */
  readonly waiting: number;
}

export interface Turn<L extends string> {
  readonly lane: L;
  /** Tasks of one key run in order. */
  readonly key: string;
  /** Aborts when the task need not run any more, unless it has begun. */
  readonly unless?: AbortSignal | undefined;
}

export interface Queue<L extends string> {
  /**
   * Runs the task when it is its turn.
   * @throws NetError busy when too many wait; the reason of the signal, or of the stop; whatever the task throws
   */
  run<T>(turn: Turn<L>, task: () => Promise<T>): Promise<T>;
  /** Lets nothing begin any more: what waits, and comes, is refused with the reason. Resolves when nothing runs. */
  stop(reason: NetError): Promise<void>;
  readonly running: number;
  readonly waiting: number;
}

interface Entry<L extends string> {
  readonly turn: Turn<L>;
  start(): void;
  refuse(reason: unknown): void;
}

export function createQueue<L extends string>(lanes: Readonly<Record<L, Lane>>): Queue<L> {
  const running = new Map<string, L>();
  let backlog: Entry<L>[] = [];
  let stopped: NetError | undefined;
  let idle: (() => void) | undefined;

  const inLane = (lane: L) => [...running.values()].filter((other) => other === lane).length;

  /** In order of arrival. A key that is passed over holds back everything else of that key, in whichever lane. */
  const startNext = () => {
    const passed = new Set<string>();
    for (const entry of [...backlog]) {
      const { key, lane } = entry.turn;
      if (!running.has(key) && !passed.has(key) && inLane(lane) < lanes[lane].running) begin(entry);
      passed.add(key);
    }
    if (running.size === 0) idle?.();
  };

  const begin = (entry: Entry<L>) => {
    backlog = backlog.filter((other) => other !== entry);
    running.set(entry.turn.key, entry.turn.lane);
    entry.start();
  };

  const withdraw = (entry: Entry<L>, reason: unknown) => {
    if (!backlog.includes(entry)) return;
    backlog = backlog.filter((other) => other !== entry);
    entry.refuse(reason);
    startNext();
  };

  const refusal = ({ lane }: Turn<L>): NetError | undefined => {
    const waiting = backlog.filter(({ turn }) => turn.lane === lane).length;
    if (stopped !== undefined || waiting < lanes[lane].waiting) return stopped;
    return new NetError('busy', `${waiting} requests are waiting already`);
  };

  return {
    run(turn, task) {
      const refused = refusal(turn) ?? (turn.unless?.aborted ? turn.unless.reason : undefined);
      if (refused !== undefined) return Promise.reject(refused);
      return new Promise((resolve, reject) => {
        const ended = () => {
          running.delete(turn.key);
          startNext();
        };
        const entry: Entry<L> = { turn, start: () => void task().then(resolve, reject).finally(ended), refuse: reject };
        backlog.push(entry);
        startNext();
        if (!backlog.includes(entry)) return;
        turn.unless?.addEventListener('abort', () => withdraw(entry, turn.unless?.reason), { once: true });
      });
    },
    stop(reason) {
      stopped = reason;
      for (const entry of backlog.splice(0)) entry.refuse(reason);
      return new Promise((resolve) => {
        idle = resolve;
        startNext();
      });
    },
    get running() {
      return running.size;
    },
    get waiting() {
      return backlog.length;
    },
  };
}
