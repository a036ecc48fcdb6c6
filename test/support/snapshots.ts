// Follows a subnet manager's watch, for tests that wait for what it should show.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Snapshot, SubnetManager } from '../../flanneld/subnet/manager.ts';
import { describe } from '../../model/errors.ts';

export interface Follower {
  /** The last snapshot; undefined before the first. */
  readonly last: () => Snapshot | undefined;
  /** How many snapshots came. */
  readonly count: () => number;
  readonly troubles: readonly unknown[];
  /** Waits for a snapshot, already there or to come, that the function accepts. @throws Error after `seconds` */
  until(what: string, accept: (snapshot: Snapshot) => boolean, seconds?: number): Promise<Snapshot>;
  /** Ends the watch and waits for its end. */
  stop(): Promise<void>;
}

export function follow(manager: SubnetManager): Follower {
  const abort = new AbortController();
  const troubles: unknown[] = [];
  let last: Snapshot | undefined;
  let count = 0;
  const done = (async () => {
    for await (const snapshot of manager.watch(abort.signal, (trouble) => troubles.push(trouble))) {
      last = snapshot;
      count++;
    }
  })();
  return {
    last: () => last,
    count: () => count,
    troubles,
    async until(what, accept, seconds = 10) {
      const deadline = Date.now() + seconds * 1000;
      while (last === undefined || !accept(last)) {
        if (Date.now() > deadline) {
          throw new Error(
            `no snapshot with ${what}: ${JSON.stringify(last)}; troubles: ${troubles.map(describe).join('; ')}`,
          );
        }
        await sleep(10);
      }
      return last;
    },
    async stop() {
      abort.abort();
      await done;
    },
  };
}
