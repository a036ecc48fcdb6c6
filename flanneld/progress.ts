// How far the agent has got: what its parts know, each keeping its own up to date.

import type { Lease } from '../model/lease.ts';
import type { ExtensionKeeper } from './backend/extension-keeper.ts';
import type { ProxyKeeper } from './backend/proxy-keeper.ts';
import type { FirewallKeeper } from './firewall/keeper.ts';
import type { KnownPeers } from './known-peers.ts';
import type { Prepared } from './prepare.ts';
import type { Prober } from './probe/prober.ts';
import type { Run } from './reconcile.ts';
import type { Assignment } from './subnet/manager.ts';

/** Filled in as the agent goes. */
export interface Progress {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** What the start is waiting for; undefined once the loop runs. */
  waitingFor: string | undefined;
  /** What is the matter with our own lease: not ready, the data path stays. */
  leaseTrouble: string | undefined;
  /** Why the node doesn't use the subnet that it is assigned. */
  subnetTrouble: string | undefined;
  /** Why the interface to other nodes can't be told any more: not ready, the data path stays. */
  underlayTrouble: string | undefined;
  /** Why the subnet file could not be written. */
  fileTrouble: string | undefined;
  /** Why the network configuration, as it is now, is not the one in force. */
  configTrouble: string | undefined;
  /** Why its changes are not seen; passes with the next that is. */
  configWatchTrouble: string | undefined;
  /** What the lease store last reported; passes with the next snapshot. The data path doesn't depend on it. */
  storeTrouble: string | undefined;
  /** Why our lease is not renewed; passes with a renewal. It lives for hours without. */
  renewalTrouble: string | undefined;
  prepared: Prepared | undefined;
  lease: Lease | undefined;
  /** Where subnets are assigned: what this node has by the last snapshot. */
  assignment: Assignment | undefined;
  known: KnownPeers | undefined;
  run: Run | undefined;
  totals: Totals;
  /** The udp backend's program. */
  proxy: ProxyKeeper | undefined;
  /** The extension backend's commands. */
  extension: ExtensionKeeper | undefined;
  /** Echoes to the peers; undefined while they are off. */
  prober: Prober | undefined;
  firewall: FirewallKeeper | undefined;
}

/** Of all runs since the start. */
export interface Totals {
  readonly runs: number;
  /** Runs after which something was still amiss. */
  readonly failedRuns: number;
  readonly changes: number;
  readonly seconds: number;
}

/** The totals with one more run. */
export const addRun = (totals: Totals, { problems, peers, changes, durationMs }: Run): Totals => ({
  runs: totals.runs + 1,
  failedRuns: totals.failedRuns + Number(problems.length > 0 || peers.some(({ state }) => state === 'failed')),
  changes: totals.changes + changes,
  seconds: totals.seconds + durationMs / 1000,
});

/** `startedAt`: milliseconds since the epoch. */
export const newProgress = (startedAt: number): Progress => ({
  startedAt,
  waitingFor: 'the network configuration',
  leaseTrouble: undefined,
  subnetTrouble: undefined,
  underlayTrouble: undefined,
  fileTrouble: undefined,
  configTrouble: undefined,
  configWatchTrouble: undefined,
  storeTrouble: undefined,
  renewalTrouble: undefined,
  prepared: undefined,
  lease: undefined,
  assignment: undefined,
  known: undefined,
  run: undefined,
  totals: { runs: 0, failedRuns: 0, changes: 0, seconds: 0 },
  proxy: undefined,
  extension: undefined,
  prober: undefined,
  firewall: undefined,
});
