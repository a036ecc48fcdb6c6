// npm run bench -- kubernetes: an agent in a cluster of thousands of nodes and ten times as many pods, with a real API server:
// its start, memory, what it receives, and how soon it follows when nodes are replaced. Each contender has a machine and
// a Node of its own, and they take turns.

import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type Cluster, type Node, startCluster, until } from '../examples/cluster/cluster.ts';
import { buildPrograms } from '../test/kubernetes/binaries.ts';
import { type ControlPlane, createAgentRole, startControlPlane } from '../test/kubernetes/control-plane.ts';
import { CONFIG, NETWORK, peerLease } from './agent-leases.ts';
import { milliseconds, startTimed, type Timed } from './agent-timer.ts';
import { build, install } from './build.ts';
import { PODS_ON_NODE } from './kube-objects.ts';
import type { KubeWriterReply, KubeWriterRequest } from './kube-writer.ts';
import type { PeerOptions } from './options.ts';
import { cpuOf, memoryOf } from './process.ts';
import { type FiguresOf, takeTurns } from './rounds.ts';
import { type Figures, shown, table } from './stats.ts';
import { startWriter, type Writer } from './writer.ts';

export interface KubernetesOptions extends PeerOptions {
  /** Numbers of nodes; there are ten pods on each. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Nodes that are replaced, and that report in between. */
  readonly replaced: number;
}

interface Contender {
  readonly name: string;
  readonly node: Node;
  readonly command: readonly string[];
  readonly policy: boolean;
}

/** What one start showed. Times in milliseconds, memory and received in MB. */
interface Round {
  /** Start → the subnet file is there. */
  readonly subnetFile: number;
  /** Start → a route to each peer is there. */
  readonly programmed: number;
  /** Start → all policies are in force. */
  readonly policies: number;
  readonly cpu: number;
  readonly received: number;
  readonly memory: number;
  /** kB received, and processor time, for one report of a node. */
  readonly reportReceived: number;
  readonly reportCpu: number;
  /** From asking for a Node to be replaced → its route is gone, the other's there. */
  readonly follow: readonly number[];
  /** From the first Node that was replaced → all routes are there. */
  readonly rolled: number;
  readonly rollReceived: number;
  /** At the end, and at most. */
  readonly lastMemory: number;
  readonly peakMemory: number;
}

export type KubernetesFigures = FiguresOf<Round> & { readonly contender: string; readonly size: number };

type KubeWriter = Writer<KubeWriterRequest, KubeWriterReply>;

interface Stage {
  readonly options: KubernetesOptions;
  readonly timer: string;
  readonly cluster: Cluster;
  readonly plane: ControlPlane;
  readonly writer: KubeWriter;
  readonly size: number;
}

const SETTLE_MS = 3000;
const PATIENCE_MS = 120_000;
const MEGABYTE = 1e6;
const ANNOTATION = 'flannel.alpha.coreos.com/kube-subnet-manager';

const rest = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function contenders(cluster: Cluster, { root, peers }: KubernetesOptions): Contender[] {
  const ours = install(root);
  const programs = [
    { name: 'ours, policy', program: ours, flags: ['--policy-source=kube'], policy: true },
    { name: 'ours', program: ours, flags: [], policy: false },
    ...peers.map((program) => ({ name: basename(program), program, flags: [], policy: false })),
  ];
  return programs.map(({ name, program, flags, policy }, index) => {
    const node = cluster.nodes[index] as Node;
    const common = [
      '--kube-subnet-mgr',
      `--kubeconfig-file=${cluster.logs}/kubeconfig`,
      `--net-config-path=${cluster.logs}/net-conf.json`,
      '--ip-masq',
    ];
    return { name, node, policy, command: ['/usr/bin/env', `NODE_NAME=${node.name}`, program, ...common, ...flags] };
  });
}

/** With the service account's token, as a pod of the DaemonSet has it. */
async function writeAccess(cluster: Cluster, { url, authority, token }: ControlPlane): Promise<void> {
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server: url, 'certificate-authority': authority } }],
    users: [{ name: 'u', user: { token: await token() } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  };
  writeFileSync(`${cluster.logs}/kubeconfig`, JSON.stringify(kubeconfig));
  writeFileSync(`${cluster.logs}/net-conf.json`, JSON.stringify(CONFIG));
}

/** Everything but the contenders' leases. */
async function load({ options: { progress }, plane, writer, size }: Stage, each: readonly Contender[]): Promise<void> {
  const pods = size * PODS_ON_NODE;
  progress(`${size} Nodes`);
  await writer.ask({ verb: 'nodes', count: size });
  await writer.ask({ verb: 'namespaces', pods: pods + each.length * PODS_ON_NODE });
  progress(`${pods} Pods`);
  await writer.ask({ verb: 'pods', count: pods });
  for (const [index, { node }] of each.entries()) {
    await plane.addNode(node.name);
    // flannel ends with a panic on a Node without any annotation; kubelets give it some.
    await plane.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata: { annotations: { [ANNOTATION]: 'false' } } });
    const [cidr = ''] = await plane.podCidrs(node.name);
    const from = pods + index * PODS_ON_NODE;
    await writer.ask({ verb: 'pods-of', node: node.name, subnet: cidr.replace(/\/.*/, ''), from });
  }
}

/** Bytes on the interface to the API server, headers and all. */
async function receivedBy(node: Node): Promise<number> {
  const links = JSON.parse(await node.must('ip', ['-json', '-statistics', 'link', 'show', 'dev', 'eth0']));
  return links[0].stats64.rx.bytes;
}

/** The table comes with the first whole state: the agent's own status has every peer, and asking for it would be measured. */
async function policiesInForce({ node, policy }: Contender): Promise<void> {
  const inForce = async () => (await node.run('nft', ['list', 'table', 'inet', 'flannel-policy'])).code === 0;
  if (policy) await until('all policies in force', inForce, PATIENCE_MS);
}

/** Numbers of Nodes in order. */
const numbers = (from: number, count: number): number[] => Array.from({ length: count }, (_, at) => from + at);

async function replaceNodes({ writer, size, options }: Stage, timed: Timed) {
  const [leaving, coming] = [numbers(0, options.replaced), numbers(size, options.replaced)];
  const { asked } = await writer.ask({ verb: 'replace', leaving, coming });
  const follow: number[] = [];
  let last = 0;
  for (const [at, time] of asked.entries()) {
    const gone = await timed.when(`delete ${peerLease(leaving[at] as number).subnet}`);
    const there = await timed.when(`add ${peerLease(coming[at] as number).subnet}`);
    follow.push(Math.max(gone, there) - milliseconds(time));
    last = Math.max(last, gone, there);
  }
  return { follow, rolled: last - milliseconds(asked[0] as string) };
}

/** Nodes as they were before they were replaced. */
async function putBack({ writer, size, options }: Stage): Promise<void> {
  await writer.ask({
    verb: 'replace',
    leaving: numbers(size, options.replaced),
    coming: numbers(0, options.replaced),
  });
}

async function round(stage: Stage, contender: Contender, number: number): Promise<Round> {
  const { timer, size, writer, plane, options } = stage;
  const { node, command } = contender;
  const atStart = await receivedBy(node);
  const timed = await startTimed(node, { timer, network: NETWORK.replace(/\/.*/, ''), peers: size, command });
  try {
    const start = await timed.when('start');
    const programmed = (await timed.when('programmed')) - start;
    await policiesInForce(contender);
    const policies = contender.policy ? Number(process.hrtime.bigint()) / 1e6 - start : Number.NaN;
    const subnetFile = (await timed.when('file')) - start;
    await rest(SETTLE_MS);
    const [cpu, received, { now: memory }] = [cpuOf(timed.pid), await receivedBy(node), memoryOf(timed.pid)];
    await writer.ask({ verb: 'heartbeats', count: options.replaced, beat: number });
    await rest(SETTLE_MS);
    const [cpuReported, reported] = [cpuOf(timed.pid), await receivedBy(node)];
    const { follow, rolled } = await replaceNodes(stage, timed);
    await rest(SETTLE_MS);
    const { now: lastMemory, peak: peakMemory } = memoryOf(timed.pid);
    const rolledReceived = await receivedBy(node);
    await putBack(stage);
    return {
      ...{ subnetFile, programmed, policies, cpu, memory, follow, rolled, lastMemory, peakMemory },
      received: (received - atStart) / MEGABYTE,
      reportReceived: (reported - received) / 1000 / options.replaced,
      reportCpu: (cpuReported - cpu) / options.replaced,
      rollReceived: (rolledReceived - reported) / MEGABYTE,
    };
  } finally {
    await timed.stop();
    await node.run('ip', ['link', 'delete', 'flannel.1']);
    await node.must('sh', ['-ec', 'nft flush ruleset; rm -rf /run/flannel /var/lib/flannel']);
    const metadata = { annotations: { [ANNOTATION]: 'false' } };
    await plane.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata });
  }
}

async function benchSize(options: KubernetesOptions, size: number): Promise<KubernetesFigures[]> {
  const cluster = await startCluster({ nodes: options.peers.length + 2 });
  let plane: ControlPlane | undefined;
  try {
    plane = await startControlPlane(cluster, { clusterCidr: NETWORK, serviceCidr: '10.96.0.0/16' });
    await createAgentRole(plane);
    await writeAccess(cluster, plane);
    const access = [plane.url, plane.authority, plane.admin.certificate, plane.admin.key];
    const writer: KubeWriter = startWriter(cluster.etcd, 'kube-writer', access);
    const timer = build(options.root, 'agent-timer');
    const stage: Stage = { options, timer, cluster, plane, writer, size };
    const all = contenders(cluster, options);
    await load(stage, all);
    const figures = await takeTurns(all, options.rounds, (contender, number) => {
      options.progress(`${size} nodes: ${contender.name}, ${number} of ${options.rounds}`);
      return round(stage, contender, number);
    });
    await writer.close();
    return figures.map((each) => ({ size, ...each }));
  } finally {
    await plane?.down();
    await cluster.down();
  }
}

/** Every contender with every number of nodes. @throws Error when one doesn't get there */
export async function benchKubernetes(options: KubernetesOptions): Promise<KubernetesFigures[]> {
  await buildPrograms(['kube-apiserver', 'kube-controller-manager'], options.progress);
  const results: KubernetesFigures[] = [];
  for (const size of options.sizes) results.push(...(await benchSize(options, size)));
  return results;
}

/** The results as tables. */
export function printKubernetes(results: readonly KubernetesFigures[]): string {
  const sizes = [...new Set(results.map(({ size }) => size))];
  return sizes
    .map((size) =>
      sizeTables(
        size,
        results.filter((row) => row.size === size),
      ),
    )
    .join('');
}

function sizeTables(size: number, rows: readonly KubernetesFigures[]): string {
  const cells = (columns: readonly (readonly [value: keyof Round, digits: number, quantile?: keyof Figures])[]) =>
    rows.map((row) => [
      row.contender,
      ...columns.map(([name, digits, quantile = 'median' as const]) => shown(row[name][quantile], digits)),
    ]);
  const started = cells([
    ['subnetFile', 0],
    ['programmed', 0],
    ['policies', 0],
    ['cpu', 0],
    ['received', 1],
    ['memory', 1],
  ]);
  const followed = cells([
    ['follow', 1],
    ['follow', 1, 'p99'],
    ['rolled', 0],
    ['rollReceived', 1],
    ['reportReceived', 1],
    ['reportCpu', 2],
    ['lastMemory', 1],
    ['peakMemory', 1],
  ]);
  const head = ['', 'subnet.env', 'programmed', 'policies', 'CPU', 'MB received', 'MB memory'];
  const then = ['', 'node → route', '99 %', 'all', 'MB received', 'kB a report', 'CPU', 'MB memory', 'MB at most'];
  const title = `${size} nodes, ${size * PODS_ON_NODE} pods`;
  return `${title}, from the start (ms)\n${table(head, started)}${title}, nodes replaced and reporting (ms)\n${table(then, followed)}`;
}
