// What the agent says of itself: whether the node is ready and why not, what /status answers, and how the node stands
// for the store.

import packageJson from '../package.json' with { type: 'json' };
import type { Ip, Prefix } from '../model/ip.ts';
import { familiesOf } from '../model/lease.ts';
import type { CniStatus } from './cni/service.ts';
import type { ExtensionStatus } from './backend/extension-keeper.ts';
import type { ProxyStatus } from './backend/proxy-keeper.ts';
import type { AgentConfig } from './config.ts';
import { firewallRemarks } from './firewall/findings.ts';
import type { FirewallStatus } from './firewall/hold.ts';
import type { HostSetting } from './host-settings.ts';
import { overlapNotes } from './overlap.ts';
import type { PeerStatus } from './peer-status.ts';
import { probeNotes } from './probe/notes.ts';
import type { Progress, Totals } from './progress.ts';
import type { Run } from './reconcile.ts';
import type { Standing } from './subnet/manager.ts';

/** Why pods can't be served, in one line; undefined when they can. */
export function unreadiness(progress: Progress): string | undefined {
  const { waitingFor, leaseTrouble, subnetTrouble, underlayTrouble, fileTrouble, storeTrouble, run, known } = progress;
  if (waitingFor !== undefined)
    return `waiting for ${waitingFor}${storeTrouble === undefined ? '' : `: ${storeTrouble}`}`;
  if (subnetTrouble !== undefined) return subnetTrouble;
  if (leaseTrouble !== undefined) return leaseTrouble;
  if (underlayTrouble !== undefined) return underlayTrouble;
  if (known === undefined)
    return `waiting for the leases of the other nodes${storeTrouble === undefined ? '' : `: ${storeTrouble}`}`;
  if (run === undefined) return 'waiting for the first comparison of what is with what should be';
  return hostTrouble(progress) ?? fileTrouble;
}

/** What is the matter with this node's own part of the data path. */
const hostTrouble = ({ run, proxy, extension }: Progress): string | undefined =>
  run?.problems[0] ?? proxy?.status().trouble ?? extension?.status().trouble;

/** What is to be known of a node that is ready: it doesn't make it less so, and may still keep packets from arriving. */
export function remarks(progress: Progress): string[] {
  const status = progress.firewall?.status();
  return [...notesOf(progress), ...(status === undefined ? [] : firewallRemarks(status))];
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

/** Parts that something can be the matter with while the rest goes on. */
export type Part = 'store' | 'config' | 'lease' | 'interface' | 'host' | 'subnet-file';

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
  /** What is the matter, by the part of the agent that it is the matter with. */
  readonly troubles?: Readonly<Record<Part, string | undefined>> | undefined;
  /** What is to be known of configuration and peers though pods can be served, a line each. */
  readonly notes?: readonly string[] | undefined;
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
  readonly totals?: Totals | undefined;
  /** Absent where no program carries packets. */
  readonly proxy?: ProxyStatus | undefined;
  /** Absent where no commands of an operator do the forwarding. */
  readonly extension?: ExtensionStatus | undefined;
  /** Settings of this host. Absent before there is a subnet. */
  readonly host?: readonly HostSetting[] | undefined;
  /** Packet filters of others. Absent before the first look. */
  readonly firewall?: FirewallStatus | undefined;
  /** What would be changed right now, as `ip` and `nft` lines. */
  readonly differences: readonly string[];
  /** Absent when no CNI clients are served. */
  readonly cni?: CniStatus | undefined;
  /** There is no subnet manager: only CNI clients are served. */
  readonly cniOnly?: true | undefined;
}

/** The status at a moment; `differences` as printed by difference.ts. */
export function statusOf(
  progress: Progress,
  config: AgentConfig,
  now: number,
  differences: readonly string[],
  host?: readonly HostSetting[],
): AgentStatus {
  const { prepared, run, known, startedAt } = progress;
  const storeTrouble = progress.storeTrouble ?? progress.renewalTrouble;
  const reason = unreadiness(progress);
  const time = (ms: number) => new Date(ms).toISOString();
  return {
    version: packageJson.version,
    pid: process.pid,
    startedAt: time(startedAt),
    ready: reason === undefined,
    reason,
    trouble: storeTrouble,
    troubles: {
      store: storeTrouble,
      config: progress.configTrouble ?? progress.configWatchTrouble,
      lease: progress.subnetTrouble ?? progress.leaseTrouble,
      interface: progress.underlayTrouble,
      host: hostTrouble(progress),
      'subnet-file': progress.fileTrouble,
    },
    notes: notesOf(progress),
    nodeId: prepared?.site.nodeId,
    families: familyStatuses(progress),
    backend: prepared?.backend.type,
    mtu: prepared?.backend.mtu,
    subnetFile: config.subnetFile,
    graceUntil: known !== undefined && known.graceUntil > now ? time(known.graceUntil) : undefined,
    peers: peersOf(progress),
    lastRun: run && {
      at: time(run.at),
      reasons: run.reasons,
      durationMs: run.durationMs,
      changes: run.changes,
      problems: run.problems,
    },
    totals: progress.totals,
    proxy: progress.proxy?.status(),
    extension: progress.extension?.status(),
    host,
    firewall: progress.firewall?.status(),
    differences,
  };
}

/** As the last run left them, with what commands and echoes say. */
function peersOf({ run, extension, prober }: Progress): readonly PeerStatus[] {
  const peers = run?.peers ?? [];
  if (extension === undefined && prober === undefined) return peers;
  const failing = new Map(extension?.status().failing.map(({ key, reason }) => [key, reason]));
  const probes = prober?.findings();
  return peers.map((peer) => {
    const reason = failing.get(peer.key);
    const failed = reason === undefined ? {} : ({ state: 'failed', reason } as const);
    return { ...peer, ...failed, probes: probes?.get(peer.key) };
  });
}

/** Where the store itself is in trouble, that is told already. */
const watchTroubleOf = ({ storeTrouble, configWatchTrouble }: Progress): string | undefined =>
  storeTrouble === undefined ? configWatchTrouble : undefined;

/** How the node stands, for the store. */
export const standingOf = (progress: Progress): Standing => ({
  ready: unreadiness(progress) === undefined,
  peers: peersOf(progress),
  problems: progress.run?.problems ?? [],
  config: progress.configTrouble,
});

/** What configuration and peers have to say, a line each. */
const notesOf = (progress: Progress): string[] => [
  ...(progress.prepared === undefined ? [] : overlapNotes(progress.prepared)),
  ...[progress.configTrouble, watchTroubleOf(progress), progress.prober?.trouble()].filter(
    (text) => text !== undefined,
  ),
  ...probeNotes(peersOf(progress)),
];

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
