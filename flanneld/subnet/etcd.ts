// The subnet manager over etcd v3, with flannel's keys: <prefix>/config, and <prefix>/subnets/<subnet> for each lease.
//
// A key lives by an etcd lease of 24 h, as flannel's do, which is renewed every 10 s and never revoked: a stopped
// agent, an upgrade and an hour without etcd lose nothing. Whoever holds a key without etcd lease (a reservation) keeps
// it so.

import { type AcquireContext, takeSubnet, type Tenure, writeLease } from './etcd-acquire.ts';
import { readConfig, watchConfig } from './etcd-config.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { keepLeaseAlive } from './etcd-keepalive.ts';
import type { EtcdConfig } from './etcd-options.ts';
import { openSession } from './etcd-session.ts';
import { type Listing, leasesUnder } from './etcd-store.ts';
import { watchLeases } from './etcd-watch.ts';
import { forgottenGrants, type KnownGrants } from './grants.ts';
import type { SubnetManager } from './manager.ts';

/** Seconds a lease lives when nobody renews it: flannel's subnetTTL. */
const LEASE_SECONDS = 86_400;
/** Often enough that a clone of this machine is told within seconds from one that is switched off (etcd-acquire.ts). */
const RENEWAL_MS = 10_000;
const LIVENESS_MS = 60_000;

export interface EtcdOptions {
  readonly etcd: EtcdConfig;
  /** Identity of this node (node-id.ts). */
  readonly nodeId: string;
  /** Minutes of life that the lease should always have left; reported when it has less. */
  readonly renewMarginMinutes: number;
  /** Told of another agent that has our node id. */
  readonly report?: ((trouble: unknown) => void) | undefined;
  /** Those of earlier processes; by default none is known. */
  readonly grants?: KnownGrants | undefined;
  /** Numbers from 0 up to but not including 1: which of the free subnets is taken. */
  readonly random?: (() => number) | undefined;
  /** Other times, for tests. */
  readonly times?:
    | { readonly leaseSeconds?: number; readonly renewalMs?: number; readonly livenessMs?: number }
    | undefined;
}

/** Connects when first used. @throws NetError file-unreadable: a certificate file, naming its flag */
export function openEtcd(options: EtcdOptions): SubnetManager {
  const { etcd, nodeId, renewMarginMinutes, random = Math.random, report = () => {}, times = {} } = options;
  const { leaseSeconds = LEASE_SECONDS, renewalMs = RENEWAL_MS, livenessMs = LIVENESS_MS } = times;
  const session = openSession(etcd);
  const leases = leasesUnder(etcd.prefix);
  const key = `${etcd.prefix}/config`;
  const grants = options.grants ?? forgottenGrants();
  const acquiring: AcquireContext = {
    leases,
    nodeId,
    leaseSeconds,
    renewalMs,
    random,
    report,
    grants,
    spare: undefined,
  };
  let held: Tenure | undefined;
  let seen: Listing | undefined;
  const tenure = () => held;
  const onEntries = (listing: Listing | undefined) => {
    seen = listing;
  };
  const renewedBy = (grant: string) => {
    if (held !== undefined) held = { ...held, grant };
  };

  /** Tries until nobody else wrote in between. */
  async function hold(
    attempt: (connection: EtcdConnection) => Promise<Tenure | undefined>,
    signal: AbortSignal,
  ): Promise<Tenure> {
    for (;;) {
      const taken = await session.use(attempt, signal);
      if (taken === undefined) continue;
      held = taken;
      return taken;
    }
  }

  return {
    networkConfig: (signal) => session.use((connection) => readConfig(connection, key), signal),

    watchConfig: (signal, report) => watchConfig({ session, key, livenessMs }, signal, report),

    async acquire(request, signal) {
      // Thousands of leases take long to read, and whatever is written says what it was decided on.
      let known = seen;
      const attempt = (connection: EtcdConnection) => {
        const listing = known;
        known = undefined;
        return takeSubnet(connection, acquiring, request, listing, signal);
      };
      return (await hold(attempt, signal)).lease;
    },

    async publish(lease, signal) {
      await hold((connection) => writeLease(connection, acquiring, lease, held, signal), signal);
    },

    keepAlive: (signal, report) =>
      keepLeaseAlive({ session, renewalMs, marginMs: renewMarginMinutes * 60_000, tenure }, signal, report),

    watch: (signal, report) =>
      watchLeases({ session, leases, nodeId, livenessMs, tenure, onEntries, renewedBy }, signal, report),

    reconnect: session.renew,

    async close() {
      session.close();
    },
  };
}
