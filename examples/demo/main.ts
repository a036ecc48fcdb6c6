// npm run demo: a pod network from nothing to traffic to nothing, on this machine.

import type { ChildProcess } from 'node:child_process';
import { type Cluster, DUAL_NETWORK, hasPeers, PREFIX, startCluster, stopAgent, until } from '../cluster/cluster.ts';
import { type Pod, startPod } from '../cluster/pod.ts';
import { type Check, holds, outsideCheck, podMatrix } from './checks.ts';
import { remember, removeKept } from './kept.ts';
import { type Backend, type DemoOptions, HELP, parseOptions } from './options.ts';
import { bad, block, good, heading, matrix, print, step } from './report.ts';

async function startAgents(cluster: Cluster, backend: Backend): Promise<ChildProcess[]> {
  const agents = cluster.nodes.map((node) => cluster.startAgent(node));
  const peers = cluster.nodes.length - 1;
  await Promise.all(
    cluster.nodes.map((node) =>
      until(`${node.name}: ready, with ${peers} peers over ${backend}`, () => hasPeers(node, peers, backend)),
    ),
  );
  return agents;
}

async function startPods(cluster: Cluster, perNode: number): Promise<Pod[]> {
  const wanted = cluster.nodes.flatMap((node) =>
    Array.from({ length: perNode }, (_, index) => ({ node, name: `${node.name}-${String.fromCharCode(97 + index)}` })),
  );
  return Promise.all(wanted.map(({ node, name }) => startPod(node, { name })));
}

const ROUTES = 'ip route show proto 251; ip -6 route show proto 251';
const TUNNELS = ['flannel.1', 'flannel-v6.1']
  .map((device) => `bridge fdb show dev ${device}; ip neigh show dev ${device} nud permanent`)
  .join('; ');

async function showDataPath(cluster: Cluster, backend: Backend): Promise<void> {
  const command = backend === 'vxlan' ? `${ROUTES}; ${TUNNELS}` : ROUTES;
  for (const node of cluster.nodes) block(`${node.name}: ${command}`, await node.must('sh', ['-c', command]));
}

async function showChecks(pods: readonly Pod[]): Promise<Check[]> {
  const checks = await step('pod × pod', () => podMatrix(pods));
  const names = pods.map(({ name }) => name);
  for (const check of checks) matrix(check.name, names, check.cells);
  const outside = await step('to the outside', () => outsideCheck(pods));
  block(
    outside.name,
    pods
      .map(
        ({ name }, index) =>
          `${name.padEnd(8)} ${(outside.cells[index] ?? []).map((cell) => (cell === 'ok' ? good('ok') : bad(cell))).join('  ')}`,
      )
      .join('\n'),
  );
  return [...checks, outside];
}

async function showBackend(cluster: Cluster, backend: Backend, perNode: number, last: boolean): Promise<Check[]> {
  heading(`Backend ${backend}`);
  await step('network configuration into etcd', () =>
    cluster.putConfig({ ...DUAL_NETWORK, Backend: { Type: backend } }),
  );
  const agents = await step(`flanneld on ${cluster.nodes.length} nodes, until every peer is routed`, () =>
    startAgents(cluster, backend),
  );
  block('etcd: leases', await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`));
  await showDataPath(cluster, backend);
  const pods = await step(`${cluster.nodes.length * perNode} pods, by executing the CNI plugin`, () =>
    startPods(cluster, perNode),
  );
  block('addresses', pods.map(({ name, ips }) => `${name.padEnd(8)} ${ips.join('  ')}`).join('\n'));
  const checks = await showChecks(pods);
  if (last) return checks;
  await step('pods deleted', () => Promise.all(pods.map((pod) => pod.remove())));
  await step('flanneld stopped', () => Promise.all(agents.map(stopAgent)));
  return checks;
}

async function show({ nodes, pods, backends, mode }: DemoOptions): Promise<boolean> {
  const keep = mode === 'keep';
  const started = performance.now();
  heading(`A pod network of ${nodes} nodes on this machine`);
  const cluster = await step('machines: underlay, router, etcd, nodes', () => startCluster({ nodes, keep }));
  const interrupted = () => void cluster.down().then(() => process.exit(130));
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  const checks: Check[] = [];
  try {
    for (const [index, backend] of backends.entries()) {
      checks.push(...(await showBackend(cluster, backend, pods, index === backends.length - 1)));
    }
  } finally {
    if (keep) remember(cluster);
    else await step('everything removed', () => cluster.down());
  }
  const failed = checks.filter((check) => !holds(check));
  heading(
    failed.length === 0
      ? good('Everything held')
      : bad(`${failed.length} of ${checks.length} checks failed: ${failed.map(({ name }) => name).join('; ')}`),
  );
  print(`  ${checks.length} checks, ${((performance.now() - started) / 1000).toFixed(1)} s`);
  if (keep) lookAround(cluster);
  return failed.length === 0;
}

function lookAround(cluster: Cluster): void {
  heading('The cluster stays up. To look around:');
  for (const { name, pid } of cluster.machines) print(`  ${name.padEnd(9)} nsenter -t ${pid} -m -n -u bash`);
  print(`  in a node: flanneld status; ip netns exec n1-a ping …; logs in ${cluster.logs}`);
  print('  to remove it: npm run demo -- --down');
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.mode === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (process.getuid?.() !== 0) throw new Error('the demonstration makes network namespaces: run it as root');
  const left = await removeKept();
  if (options.mode === 'down') {
    print(left === 0 ? 'no cluster was kept' : `removed a cluster of ${left} machines`);
    return 0;
  }
  return (await show(options)) ? 0 : 1;
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
