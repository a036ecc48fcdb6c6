// The practice cluster: an underlay switch, an etcd server, a router to the outside and some nodes, each a machine of its
// own on this one. Address plan, the same for the demonstration and the tests:
//
//   underlay   192.168.50.0/24, fd00:50::/64    node i at .i, etcd at .250 (.249, .248), router at .254
//   outside    203.0.113.10, 2001:db8:ffff::10  on the router; knows no way back to pods
//   pods       10.244.0.0/16, fd00:244::/48     whatever flanneld leases

import type { ChildProcess } from 'node:child_process';
import { request } from 'node:http';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '../../flanneld/agent-status.ts';
import { type EtcdMember, type EtcdSetup, etcdAddress, etcdServers } from './etcd.ts';
import { endChild, type Machine, type MachineOptions, startMachine } from './machine.ts';
import { patience } from './patience.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export const OUTSIDE = { 4: '203.0.113.10', 6: '2001:db8:ffff::10' } as const;
export const ETCD = `http://${etcdAddress(0)}:2379`;
export const PREFIX = '/coreos.com/network';
/** What pods are given addresses of, without a backend. */
export const DUAL_NETWORK = { Network: '10.244.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:244::/48' } as const;
const UNDERLAY_MTU = 1500;

export interface ClusterOptions {
  readonly nodes: number;
  /** One plain server when undefined. */
  readonly etcd?: EtcdSetup | undefined;
  /** Outlives this process. */
  readonly keep?: boolean | undefined;
  /** Nodes have process namespaces of their own. */
  readonly ownProcesses?: boolean | undefined;
  /** Told about each step as it starts. */
  readonly progress?: ((step: string) => void) | undefined;
}

export interface Node extends Machine {
  /** From 1. */
  readonly number: number;
  readonly underlay: { readonly 4: string; readonly 6: string };
}

export interface AgentOptions {
  /** Of its log, where a node runs several. */
  readonly name?: string | undefined;
  /** The executable; build/bin/flanneld of the tree when undefined. */
  readonly program?: string | undefined;
}

export interface Cluster {
  readonly nodes: readonly Node[];
  /** Of the first etcd server. */
  readonly etcd: Machine;
  readonly members: readonly EtcdMember[];
  readonly router: Machine;
  /** With one port for each machine, named after it. */
  readonly underlay: Machine;
  readonly machines: readonly Machine[];
  /** Where agents and etcd log. */
  readonly logs: string;
  /** The running etcd server, for tests that kill it. */
  readonly etcdProcess: ChildProcess;
  /** Starts every etcd server that doesn't run, and waits until all answer. */
  startEtcd(): Promise<void>;
  etcdctl(...args: string[]): Promise<string>;
  putConfig(config: unknown): Promise<void>;
  /** Starts flanneld on a node; `flags` come after the usual ones. */
  startAgent(node: Node, flags?: readonly string[], options?: AgentOptions): ChildProcess;
  agentLog(node: Node, name?: string): string;
  down(): Promise<void>;
}

export const underlayOf = (host: number) => ({ 4: `192.168.50.${host}`, 6: `fd00:50::${host}` }) as const;

/** Builds the machines and starts etcd. Whatever fails, nothing stays. @throws Error */
export async function startCluster({
  nodes: count,
  etcd: setup = {},
  keep = false,
  ownProcesses = false,
  progress = () => undefined,
}: ClusterOptions): Promise<Cluster> {
  const machines: Machine[] = [];
  const logs = mkdtempSync(`${tmpdir()}/flannel-cluster-`);
  const make = async (name: string, options: MachineOptions = {}) => {
    const machine = await startMachine(name, { keep, ...options });
    machines.push(machine);
    return machine;
  };
  const down = async () => {
    await Promise.all(machines.map((machine) => machine.stop()));
    rmSync(logs, { recursive: true, force: true });
  };
  try {
    progress('underlay switch');
    const underlay = await make('underlay');
    await underlay.must('ip', ['link', 'add', 'switch0', 'mtu', String(UNDERLAY_MTU), 'up', 'type', 'bridge']);
    const plug = async (name: string, host: number, options?: MachineOptions) => {
      const machine = await make(name, options);
      await connect(underlay, machine, name, host);
      return machine;
    };
    progress('router');
    const router = await plug('router', 254);
    await becomeRouter(router);
    progress('etcd server');
    const servers: Machine[] = [];
    for (let member = 0; member < (setup.members ?? 1); member++)
      servers.push(await plug(member === 0 ? 'etcd' : `etcd${member}`, 250 - member));
    const nodes: Node[] = [];
    for (let number = 1; number <= count; number++) {
      progress(`node n${number}`);
      const machine = await plug(`n${number}`, number, { ownProcesses });
      nodes.push({ ...machine, number, underlay: underlayOf(number) });
    }
    const cluster = clusterOf({ nodes, router, underlay, machines, logs, down }, servers, setup);
    await cluster.startEtcd();
    return cluster;
  } catch (error) {
    await down();
    throw error;
  }
}

async function connect(underlay: Machine, machine: Machine, name: string, host: number): Promise<void> {
  const address = underlayOf(host);
  const pair = [
    'link',
    'add',
    name,
    'mtu',
    String(UNDERLAY_MTU),
    'master',
    'switch0',
    'up',
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
  ];
  await underlay.must('ip', [...pair, 'mtu', String(UNDERLAY_MTU), 'netns', String(machine.pid)]);
  await machine.must('sh', [
    '-ec',
    `ip link set eth0 up; ip addr add ${address[4]}/24 dev eth0; ip addr add ${address[6]}/64 dev eth0 nodad`,
  ]);
  if (host === 254) return;
  await machine.must('sh', [
    '-ec',
    'ip route add default via 192.168.50.254; ip -6 route add default via fd00:50::254',
  ]);
}

async function becomeRouter(router: Machine): Promise<void> {
  await router.must('sh', ['-ec', `ip addr add ${OUTSIDE[4]}/32 dev lo; ip addr add ${OUTSIDE[6]}/128 dev lo nodad`]);
}

type Parts = Pick<Cluster, 'nodes' | 'router' | 'underlay' | 'machines' | 'logs' | 'down'>;

function clusterOf(parts: Parts, servers: readonly Machine[], setup: EtcdSetup): Cluster {
  const { logs } = parts;
  const logged = (file: string, start: (log: number) => ChildProcess): ChildProcess => {
    mkdirSync(logs, { recursive: true });
    const log = openSync(`${logs}/${file}`, 'a');
    const child = start(log);
    closeSync(log);
    return child;
  };
  const { members, agentFlags, etcdctl } = etcdServers(servers, setup, (machine, file, command, args) =>
    logged(file, (log) => machine.start(command, args, { log })),
  );
  const cluster: Cluster = {
    ...parts,
    etcd: servers[0] as Machine,
    members,
    get etcdProcess() {
      return members[0]?.process as ChildProcess;
    },
    async startEtcd() {
      for (const { process, start } of members) if (!isRunning(process)) start();
      await Promise.all(members.map(({ isHealthy }) => until('etcd answers', isHealthy)));
    },
    etcdctl,
    async putConfig(config) {
      await cluster.etcdctl('put', `${PREFIX}/config`, JSON.stringify(config));
    },
    startAgent: (node, flags = [], { name = 'flanneld', program = `${ROOT}build/bin/flanneld` } = {}) =>
      logged(`${node.name}-${name}.log`, (log) => node.start(program, [...agentFlags, '--ip-masq', ...flags], { log })),
    agentLog: (node, name = 'flanneld') => readFileSync(`${logs}/${node.name}-${name}.log`, 'utf8'),
  };
  return cluster;
}

const isRunning = (child: ChildProcess | undefined): boolean =>
  child !== undefined && child.exitCode === null && child.signalCode === null;

/** Waits for a condition. @throws Error naming it after `timeoutMs`, or as much longer as the machine is overloaded */
export async function until(what: string, condition: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const began = Date.now();
  while (!(await condition())) {
    const passed = Date.now() - began;
    if (passed > timeoutMs * patience()) throw new Error(`${what}: not within ${Math.round(passed / 1000)} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Stops an agent as an init system does. @throws Error when it doesn't exit with 0 */
export async function stopAgent(agent: ChildProcess): Promise<void> {
  const code = await endChild(agent);
  if (code !== 0) throw new Error(`flanneld ended with exit code ${code}`);
}

/** What the node's agent says of itself, asked over its status socket; undefined while nobody answers. */
export function agentStatus(node: Node): Promise<AgentStatus | undefined> {
  const socketPath = `/proc/${node.pid}/root/run/flannel/subnet.sock`;
  return new Promise((resolve) => {
    const call = request({ socketPath, path: '/status', timeout: 2000 }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('error', () => resolve(undefined));
      response.on('end', () => resolve(JSON.parse(text) as AgentStatus));
    });
    call.on('error', () => resolve(undefined));
    call.on('timeout', () => call.destroy());
    call.end();
  });
}

/** Whether the node's agent is ready and has programmed so many peers. */
export async function hasPeers(node: Node, count: number, backend?: string): Promise<boolean> {
  const status = await agentStatus(node);
  if (status === undefined || (backend !== undefined && status.backend !== backend)) return false;
  return (
    status.ready &&
    status.peers.filter(({ state }) => state === 'programmed').length === count &&
    status.peers.length === count
  );
}

/** Whether the node's agent has written its subnet file. */
export const hasSubnet = async (node: Node): Promise<boolean> =>
  (await node.run('test', ['-s', '/run/flannel/subnet.env'])).code === 0;
