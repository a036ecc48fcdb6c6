// Our own lease in the store, put right whenever a snapshot shows it missing or different: written again, for as long as it
// takes. What another node has taken stays with it; then the agent says so, and leaves the data path as it is.

import { asNetError, describe } from '../model/errors.ts';
import { type Lease, leaseChanges } from '../model/lease.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';
import { retry } from './retry.ts';
import type { SubnetManager } from './subnet/manager.ts';

export interface OwnLeaseOptions {
  readonly manager: Pick<SubnetManager, 'publish'>;
  /** What it should say now. */
  readonly lease: () => Lease;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Told what is the matter with the lease, and undefined when nothing is. */
  readonly onTrouble: (trouble: string | undefined) => void;
}

/** A function that is given what each snapshot has as our own lease. */
export function ownLeaseKeeper({
  manager,
  lease,
  clock,
  log,
  signal,
  onTrouble,
}: OwnLeaseOptions): (stored: Lease | undefined) => void {
  let publishing = false;

  const publish = async () => {
    publishing = true;
    try {
      // While it was written, it may have had to say something else.
      for (let written: Lease | undefined; written !== lease(); ) {
        const publishNow = async () => {
          written = lease();
          await manager.publish(written, signal);
        };
        await retry(publishNow, {
          clock,
          log,
          signal,
          what: 'write our lease again',
          onTrouble: (error) => onTrouble(error === undefined ? undefined : describe(error)),
        });
      }
    } catch (error) {
      if (signal.aborted) return;
      log.error({}, `write our lease again: ${describe(asNetError(error))}`);
      onTrouble(describe(error));
    } finally {
      publishing = false;
    }
  };

  return (stored) => {
    if (stored !== undefined && leaseChanges([stored], [lease()]).changed.length === 0)
      return publishing ? undefined : onTrouble(undefined);
    if (publishing) return;
    const problem = stored === undefined ? 'our lease is not in the store' : 'our lease in the store differs';
    log.warn({}, `${problem}: writing it again`);
    onTrouble(problem);
    void publish();
  };
}
