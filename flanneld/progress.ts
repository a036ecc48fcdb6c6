// How far the agent has got, and the same for people and machines: what /readyz and /status answer.

import packageJson from '../package.json' with { type: 'json' };
import type { Ip, Prefix } from '../model/ip.ts';
import { familiesOf, type Lease } from '../model/lease.ts';
import type { AgentConfig } from './config.ts';
import type { KnownPeers } from './known-peers.ts';
import type { PeerStatus } from './peer-status.ts';
import type { Prepared } from './prepare.ts';
import type { Run } from './reconcile.ts';

/** Filled in as the agent goes. */
export interface Progress {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** What the start is waiting for; undefined once the loop runs. */
  waitingFor: string | undefined;
  /** What is the matter with our own lease: not ready, the data path stays. */
  leaseTrouble: string | undefined;
  /** Why the subnet file could not be written. */
  fileTrouble: string | undefined;
  /** What the lease store last reported; passes with the next snapshot. The data path doesn't depend on it. */
  storeTrouble: string | undefined;
  prepared: Prepared | undefined;
  lease: Lease | undefined;
  known: KnownPeers | undefined;
  run: Run | undefined;
}

export const newProgress = (startedAt: number): Progress => ({
  startedAt,
  waitingFor: 'the network configuration',
  leaseTrouble: undefined,
  fileTrouble: undefined,
  storeTrouble: undefined,
  prepared: undefined,
  lease: undefined,
  known: undefined,
  run: undefined,
});

/** Why pods can't be served, in one line; undefined when they can. */
export function unreadiness({
  waitingFor,
  leaseTrouble,
  fileTrouble,
  storeTrouble,
  run,
  known,
}: Progress): string | undefined {
  if (waitingFor !== undefined)
    return `waiting for ${waitingFor}${storeTrouble === undefined ? '' : `: ${storeTrouble}`}`;
  if (leaseTrouble !== undefined) return leaseTrouble;
  if (known === undefined)
    return `waiting for the leases of the other nodes${storeTrouble === undefined ? '' : `: ${storeTrouble}`}`;
  if (run === undefined) return 'waiting for the first comparison of what is with what should be';
  return run.problems[0] ?? fileTrouble;
}

/** One family of the node. */
export interface FamilyStatus {
  readonly family: 4 | 6;
  readonly network: Prefix;
  readonly subnet: Prefix | undefined;
  readonly publicIp: Ip;
  readonly device: string;
  /** Of the device, in bytes. */
  readonly deviceMtu: number;
}

/** What /status answers. */
export interface AgentStatus {
  readonly version: string;
  readonly pid: number;
  /** ISO 8601, as every time here. */
  readonly startedAt: string;
  readonly ready: boolean;
  /** Why it isn't ready. */
  readonly reason?: string | undefined;
  /** What the lease store last reported. */
  readonly trouble?: string | undefined;
  readonly nodeId?: string | undefined;
  readonly families: readonly FamilyStatus[];
  readonly backend?: string | undefined;
  /** Largest packet of a pod, in bytes. */
  readonly mtu?: number | undefined;
  readonly subnetFile: string;
  /** Until when nothing is removed, because our own lease was missing; absent outside of such a time. */
  readonly graceUntil?: string | undefined;
  readonly peers: readonly PeerStatus[];
  readonly lastRun?: (Omit<Run, 'at' | 'peers'> & { readonly at: string }) | undefined;
  /** What would be changed right now, as `ip` and `nft` lines. */
  readonly differences: readonly string[];
}

/** The status at a moment; `differences` as printed by difference.ts. */
export function statusOf(
  progress: Progress,
  config: AgentConfig,
  now: number,
  differences: readonly string[],
): AgentStatus {
  const { prepared, run, known, startedAt, storeTrouble } = progress;
  const reason = unreadiness(progress);
  const time = (ms: number) => new Date(ms).toISOString();
  return {
    version: packageJson.version,
    pid: process.pid,
    startedAt: time(startedAt),
    ready: reason === undefined,
    reason,
    trouble: storeTrouble,
    nodeId: prepared?.site.nodeId,
    families: familyStatuses(progress),
    backend: prepared?.backend.type,
    mtu: prepared?.backend.mtu,
    subnetFile: config.subnetFile,
    graceUntil: known !== undefined && known.graceUntil > now ? time(known.graceUntil) : undefined,
    peers: run?.peers ?? [],
    lastRun: run && {
      at: time(run.at),
      reasons: run.reasons,
      durationMs: run.durationMs,
      changes: run.changes,
      problems: run.problems,
    },
    differences,
  };
}

function familyStatuses({ prepared, lease }: Progress): FamilyStatus[] {
  if (prepared === undefined) return [];
  const { networks, underlay } = prepared.site;
  return familiesOf(networks).flatMap((family) => {
    const [network, under] = [networks[family], underlay[family]];
    if (network === undefined || under === undefined) return [];
    return [
      {
        family,
        network,
        subnet: lease?.subnet[family],
        publicIp: under.publicIp,
        device: under.device,
        deviceMtu: under.mtu,
      },
    ];
  });
}
