// /metrics: the status in Prometheus' text format (version 0.0.4). Every metric stands once in the table below, which
// docs/metrics.md is made from. Pure.

import { countProbes } from './probe/notes.ts';
import type { AgentStatus } from './agent-status.ts';

/** What the process can say of itself. */
export interface ProcessFacts {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly cpuSeconds: number;
  /** How late the event loop was since it was last asked, in seconds. */
  readonly lag: { readonly p50: number; readonly p99: number; readonly max: number };
}

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number];

interface Metric {
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  /** Names of its labels. */
  readonly labels?: readonly string[];
  samples(status: AgentStatus, facts: ProcessFacts): readonly Sample[];
}

const one = (value: number | undefined): Sample[] => (value === undefined ? [] : [[{}, value]]);
const seconds = (time: string | undefined): number | undefined =>
  time === undefined ? undefined : Date.parse(time) / 1000;
const slowest = (times: readonly number[]): number | undefined =>
  times.length === 0 ? undefined : times.reduce((most, time) => Math.max(most, time)) / 1000;
const PEER_STATES = ['programmed', 'refused', 'failed'] as const;

const gauge = (help: string, samples: Metric['samples'], labels?: readonly string[]): Metric => ({
  type: 'gauge',
  help,
  samples,
  ...(labels && { labels }),
});
const counter = (help: string, samples: Metric['samples'], labels?: readonly string[]): Metric => ({
  ...gauge(help, samples, labels),
  type: 'counter',
});

const METRICS: Readonly<Record<string, Metric>> = {
  flannel_info: gauge(
    'Always 1; what runs here is in the labels.',
    ({ version, backend = '', nodeId = '' }) => [[{ version, backend, node: nodeId }, 1]],
    ['version', 'backend', 'node'],
  ),
  flannel_ready: gauge('1 when pods can be served; /readyz says why not.', ({ ready }) => one(Number(ready))),
  flannel_trouble: gauge(
    '1 while something is the matter with a part of the agent; /status has the words.',
    ({ troubles = {} }) => Object.entries(troubles).map(([part, text]) => [{ part }, Number(text !== undefined)]),
    ['part'],
  ),
  flannel_leases: gauge('Leases that are known, our own included.', ({ peers, families }) =>
    one(peers.length + Number(families.some(({ subnet }) => subnet !== undefined))),
  ),
  flannel_peers: gauge(
    'Other nodes by how they stand: programmed, refused (the lease makes no sense to us), failed (the kernel said no).',
    ({ peers }) => PEER_STATES.map((state) => [{ state }, peers.filter((peer) => peer.state === state).length]),
    ['state'],
  ),
  flannel_probed_peers: gauge(
    'Other nodes by what echoes to them say: reachable, mtu-too-small (packets as large as the MTU of pods are lost), unreachable, unknown (too few yet).',
    ({ peers }) => Object.entries(countProbes(peers)).map(([state, count]) => [{ state }, count]),
    ['state'],
  ),
  flannel_probe_rtt_max_seconds: gauge('Time that the slowest of them takes to answer.', ({ peers }) =>
    one(slowest(peers.flatMap(({ probes = [] }) => probes.flatMap(({ rttMs }) => rttMs ?? [])))),
  ),
  flannel_extension_running: gauge('Commands of the extension backend that run.', ({ extension }) =>
    one(extension?.running),
  ),
  flannel_pod_mtu_bytes: gauge('Largest packet of a pod.', ({ mtu }) => one(mtu)),
  flannel_differences: gauge('Changes that are due on this host at this moment.', ({ differences }) =>
    one(differences.length),
  ),
  flannel_host_settings_wrong: gauge(
    'Settings of this host that keep packets of pods out; /status names each.',
    ({ host }) => one(host?.filter(({ right }) => !right).length),
  ),
  flannel_packet_filter_drops: gauge(
    'Places where packet filters of others drop what is to be forwarded or received; /status names each.',
    ({ firewall }) => one(firewall?.findings.length),
  ),
  flannel_packet_filter_troubles: gauge('What of packet filters could not be read or opened.', ({ firewall }) =>
    one(firewall?.troubles.length),
  ),
  flannel_reconcile_runs_total: counter('Comparisons of what is with what should be.', ({ totals }) =>
    one(totals?.runs),
  ),
  flannel_reconcile_failed_runs_total: counter('Those after which something was still amiss.', ({ totals }) =>
    one(totals?.failedRuns),
  ),
  flannel_reconcile_changes_total: counter('Changes that they found to be made.', ({ totals }) => one(totals?.changes)),
  flannel_reconcile_seconds_total: counter('Time that they took.', ({ totals }) => one(totals?.seconds)),
  flannel_reconcile_last_duration_seconds: gauge('Time that the last took.', ({ lastRun }) =>
    one(lastRun && lastRun.durationMs / 1000),
  ),
  flannel_reconcile_last_timestamp_seconds: gauge('When the last was, in seconds since 1970.', ({ lastRun }) =>
    one(seconds(lastRun?.at)),
  ),
  flannel_cni_requests_total: counter(
    'Requests of CNI clients by verb and how they ended.',
    ({ cni }) =>
      Object.entries(cni?.requests ?? {}).flatMap(([verb, { succeeded, failed, undone }]): Sample[] => [
        [{ verb, result: 'succeeded' }, succeeded],
        [{ verb, result: 'failed' }, failed],
        [{ verb, result: 'undone' }, undone],
      ]),
    ['verb', 'result'],
  ),
  flannel_cni_running: gauge('Requests of CNI clients that are being worked on.', ({ cni }) => one(cni?.running)),
  flannel_cni_waiting: gauge('Requests of CNI clients that wait for their turn.', ({ cni }) => one(cni?.waiting)),
  flannel_policy_synced: gauge('1 once the source of network policies was read whole.', ({ cni }) =>
    one(cni?.policy && Number(cni.policy.synced)),
  ),
  flannel_policy_current: gauge('1 while what the source says is in force.', ({ cni }) =>
    one(cni?.policy && Number(cni.policy.current)),
  ),
  flannel_policies: gauge('Network policies of the cluster.', ({ cni }) => one(cni?.policy?.policies)),
  flannel_policies_invalid: gauge(
    'Those that are not understood in part or whole, which isolate all the same; /status names object and field.',
    ({ cni }) => one(cni?.policy?.invalid.length),
  ),
  flannel_policy_profiles: gauge('Distinct sets of policies of pods of this node, by direction.', ({ cni }) =>
    one(cni?.policy?.profiles),
  ),
  flannel_policy_isolated_pods: gauge('Pods of this node that a policy isolates.', ({ cni }) =>
    one(cni?.policy?.isolatedPods),
  ),
  flannel_policy_commits_total: counter('Transactions on the table of network policies.', ({ cni }) =>
    one(cni?.policy?.transactions),
  ),
  flannel_policy_replacements_total: counter('Those that replaced it whole.', ({ cni }) =>
    one(cni?.policy?.replacements),
  ),
  flannel_policy_last_commit_seconds: gauge(
    'From the moment the last change was known until it was in force.',
    ({ cni }) => one(cni?.policy?.lastMs === undefined ? undefined : cni.policy.lastMs / 1000),
  ),
  flannel_policy_denied_packets_total: counter(
    'Packets that policies have dropped, by the direction in which the pod is isolated; /status has them by pod.',
    ({ cni }) => Object.entries(cni?.policy?.denied.totals ?? {}).map(([direction, value]) => [{ direction }, value]),
    ['direction'],
  ),
  flannel_udp_proxy_running: gauge('1 while the program of the udp backend carries packets.', ({ proxy }) =>
    one(proxy && Number(proxy.trouble === undefined)),
  ),
  flannel_udp_proxy_restarts_total: counter('How often it had to be started again.', ({ proxy }) =>
    one(proxy?.restarts),
  ),
  flannel_udp_proxy_count: gauge(
    'What it has counted since it was last started: packets and bytes carried, and packets dropped by their reason.',
    ({ proxy }) => Object.entries(proxy?.counters ?? {}).map(([what, value]) => [{ what }, value]),
    ['what'],
  ),
  nodejs_eventloop_lag_p50_seconds: gauge('Median lateness of the event loop since the last scrape.', (_, { lag }) =>
    one(lag.p50),
  ),
  nodejs_eventloop_lag_p99_seconds: gauge('The same, 99th percentile.', (_, { lag }) => one(lag.p99)),
  nodejs_eventloop_lag_max_seconds: gauge('The same, largest.', (_, { lag }) => one(lag.max)),
  nodejs_heap_size_used_bytes: gauge('Memory that JavaScript objects take.', (_, { heapBytes }) => one(heapBytes)),
  process_resident_memory_bytes: gauge('Memory of the process (RSS).', (_, { residentBytes }) => one(residentBytes)),
  process_cpu_seconds_total: counter('Processor time of the process, user and system.', (_, { cpuSeconds }) =>
    one(cpuSeconds),
  ),
  process_start_time_seconds: gauge('When the agent was started, in seconds since 1970.', ({ startedAt }) =>
    one(seconds(startedAt)),
  ),
};

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The answer to /metrics. A metric without a value is left out. */
export function metricsText(status: AgentStatus, facts: ProcessFacts): string {
  return Object.entries(METRICS)
    .map(([name, metric]) => ({ name, metric, samples: metric.samples(status, facts) }))
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, metric, samples }) => {
      const lines = samples.map(([labels, value]) => `${name}${labelText(labels)} ${value}\n`);
      return `# HELP ${name} ${metric.help}\n# TYPE ${name} ${metric.type}\n${lines.join('')}`;
    })
    .join('');
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

/** docs/metrics.md: a row for each metric. */
export function metricsReference(): string {
  const rows = Object.entries(METRICS).map(
    ([name, { type, help, labels = [] }]) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(' ')} | ${help} |`,
  );
  return [
    '# Metrics of flanneld',
    '',
    'Made from `flanneld/metrics.ts`; `test/flanneld/metrics.test.ts` holds the two together. Served as `/metrics` in the text',
    'format of Prometheus on `--healthz-port`, and on the status socket:',
    '`curl --unix-socket /run/flannel/subnet.sock http://localhost/metrics`.',
    '',
    '`flannel_trouble` has the parts `store` (who hands out subnets), `config` (a change of the network configuration that is',
    'not in force: /status has the keys that need a restart), `lease` (our own), `interface` (to other nodes), `host`',
    '(what the kernel refused) and `subnet-file`. None of them stops what is in place.',
    '',
    '| metric | type | labels | meaning |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
