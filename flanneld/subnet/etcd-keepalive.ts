// Keeps our etcd lease alive. Renewing it changes no key, so no peer is told anything, and a key whose lease is renewed
// can't expire because a node was slow to write it again.

import { asNetError, describe, NetError } from '../../model/errors.ts';
import { leaseKey } from '../../model/lease.ts';
import { sleep, systemClock } from '../clock.ts';
import type { Tenure } from './etcd-acquire.ts';
import type { EtcdSession } from './etcd-session.ts';
import { NO_GRANT } from './etcd-store.ts';
import { pauses, whenNew } from './pauses.ts';

export interface KeepAliveContext {
  readonly session: EtcdSession;
  /** Milliseconds between two renewals. */
  readonly renewalMs: number;
  /** Milliseconds of life that the lease should always have left. */
  readonly marginMs: number;
  tenure(): Tenure | undefined;
}

/** Resolves when the signal aborts. The etcd lease then lives on for its time. */
export async function keepLeaseAlive(
  context: KeepAliveContext,
  signal: AbortSignal,
  report: (trouble: unknown) => void,
): Promise<void> {
  const trouble = whenNew(report);
  const pause = pauses();
  let troubled = false;
  let expires = Number.POSITIVE_INFINITY;
  while (!signal.aborted) {
    const began = Date.now();
    try {
      expires = await renew(context, signal);
      trouble(undefined);
      if (troubled) report(undefined);
      troubled = false;
      await sleep(systemClock, context.renewalMs * (0.9 + Math.random() / 5), signal);
    } catch (error) {
      if (signal.aborted) return;
      troubled = true;
      trouble(expires - Date.now() < context.marginMs ? shortLived(context, expires, error) : error);
      await sleep(systemClock, pause(Date.now() - began), signal);
    }
  }
}

/** @returns when the etcd lease ends, in milliseconds since 1970 @throws NetError */
async function renew({ session, tenure }: KeepAliveContext, signal: AbortSignal): Promise<number> {
  const held = tenure();
  if (held === undefined || held.grant === NO_GRANT) return Number.POSITIVE_INFINITY;
  const began = Date.now();
  const seconds = await session.use((connection) => connection.keepAlive(held.grant), signal);
  // Gone with its key: the watch says so, and whoever reads it publishes again.
  if (seconds === 0)
    throw new NetError('lease-lost', `lease ${leaseKey(held.lease.subnet)} has expired or was revoked`);
  return began + seconds * 1000;
}

function shortLived({ tenure }: KeepAliveContext, expires: number, cause: unknown): NetError {
  const minutes = Math.max(0, Math.ceil((expires - Date.now()) / 60_000));
  const name = leaseKey(tenure()?.lease.subnet ?? {});
  return new NetError(
    asNetError(cause).code,
    `lease ${name} ends in ${minutes} min and is not renewed: ${describe(cause)}`,
    { cause },
  );
}
