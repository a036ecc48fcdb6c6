// A node with pods on point-to-point links or on a bridge, in the network namespace of this process: "xa" to "zc" with
// the addresses of the truth tables.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import type { Packet } from '../flanneld/policy/oracle.ts';
import { addressOf } from '../flanneld/policy/truth-tables.ts';
import { makeNamespace } from './namespace.ts';

/** What probes and answers in a pod. */
export interface Prober {
  /** Whether an answer comes within so many milliseconds. */
  probe(to: string, port: number, protocol: Packet['protocol'], patience: number): Promise<boolean>;
  /** Begins a flow that stays, whose answer must come within so many milliseconds. */
  open(to: string, port: number, protocol: 'TCP' | 'UDP', patience: number): Promise<RealFlow>;
  /** Sends something to everybody who has ever asked this pod. */
  shout(): Promise<void>;
}

export interface RealPod extends Prober {
  /** Path of its network namespace. */
  readonly namespace: string;
}

export interface RealFlow {
  readonly title: string;
  readonly opened: boolean;
  /** Sends, and whether anything comes back in time. */
  say(patience: number): Promise<boolean>;
  /** Whether anything comes in time without sending. */
  hear(patience: number): Promise<boolean>;
}

export interface WorldOptions {
  /** How pods are attached; point to point by default. */
  readonly mode?: 'routed' | 'bridge';
  /** Those of the truth tables by default. */
  readonly addresses?: AddressOf;
}

export interface PolicyWorld {
  readonly pods: ReadonlyMap<string, RealPod>;
}

/** Runs in the namespace of a pod. */
export const POLICY_POD = new URL('policy-pod.ts', import.meta.url).pathname;

const sh = (script: string): string => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });

/** As on any node: flows are tracked whether there are policies or not. */
const TRACKING = 'table inet tracking { chain forward { type filter hook forward priority 0; ct state new accept; }; }';

/** Makes the pods; they end with the test. */
export async function policyWorld(
  t: Test,
  names: readonly string[],
  { mode = 'routed', addresses = addressOf }: WorldOptions = {},
): Promise<PolicyWorld> {
  sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1');
  if (mode === 'bridge') sh(BRIDGE);
  execFileSync('nft', ['-f', '-'], { input: TRACKING });
  const link = mode === 'bridge' ? bridgePort : pointToPoint;
  const pods = await Promise.all(
    names.map(async (name) => [name, await startPod(t, name, link(name, addresses))] as const),
  );
  return { pods: new Map(pods) };
}

type AddressOf = (pod: string, family: 4 | 6) => string;
/** Commands that attach a pod's namespace. */
type Link = (namespace: string) => string;

/** The bridge hands its packets to the filter by itself, whatever the sysctl says for others. */
const BRIDGE = `ip link add cni0 type bridge nf_call_iptables 1 nf_call_ip6tables 1
  ip address add 10.1.255.254/16 dev cni0
  ip address add fd00::ffff/64 dev cni0 nodad
  ip link set cni0 up
  sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`;

const bridgePort =
  (name: string, addresses: AddressOf): Link =>
  (namespace) =>
    `ip link add v-${name} type veth peer name eth0 netns ${namespace}
    ip link set v-${name} master cni0 up
    ip -n ${namespace} address add ${addresses(name, 4)}/16 dev eth0
    ip -n ${namespace} address add ${addresses(name, 6)}/64 dev eth0 nodad
    ip -n ${namespace} link set eth0 up
    ip -n ${namespace} route add default via 10.1.255.254
    ip -n ${namespace} route add default via fd00::ffff`;

const pointToPoint =
  (name: string, addresses: AddressOf): Link =>
  (namespace) =>
    `ip link add v-${name} type veth peer name eth0 netns ${namespace}
    ip address add 169.254.1.1/32 dev v-${name}
    ip address add fe80::1/64 dev v-${name} nodad
    ip link set v-${name} up
    ip -n ${namespace} address add ${addresses(name, 4)}/32 dev eth0
    ip -n ${namespace} address add ${addresses(name, 6)}/128 dev eth0 nodad
    ip -n ${namespace} link set eth0 up
    ip -n ${namespace} route add 169.254.1.1 dev eth0
    ip -n ${namespace} route add default via 169.254.1.1
    ip -n ${namespace} route add default via fe80::1 dev eth0
    ip route add ${addresses(name, 4)} dev v-${name}
    ip route add ${addresses(name, 6)} dev v-${name}`;

async function startPod(t: Test, name: string, link: Link): Promise<RealPod> {
  const namespace = makeNamespace(t, name);
  sh(link(namespace.name));
  const child = spawn('nsenter', [`--net=${namespace.path}`, process.execPath, POLICY_POD], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    child.stdin.end();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  return { ...(await proberOf(child)), namespace: namespace.path };
}

/** What a process that runs policy-pod.ts in a namespace can be asked for. @throws Error when it ends at once */
export async function proberOf(child: ChildProcess): Promise<Prober> {
  const waiting = new Map<number, (reached: boolean) => void>();
  const ready = Promise.withResolvers<void>();
  let orders = 0;
  child.once('exit', (code) => ready.reject(new Error(`a pod ended: ${code}`)));
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    if (line === 'ready') return ready.resolve();
    const { id, reached } = JSON.parse(line) as { id: number; reached: boolean };
    waiting.get(id)?.(reached);
    waiting.delete(id);
  });
  await ready.promise;
  function order(fields: object): Promise<boolean> {
    const id = orders++;
    child.stdin?.write(`${JSON.stringify({ id, flow: id, ...fields })}\n`);
    return new Promise((resolve) => waiting.set(id, resolve));
  }
  return {
    probe: (to, port, protocol, patience) => order({ kind: 'probe', to, port, protocol, patience }),
    async open(to, port, protocol, patience) {
      const flow = orders;
      const opened = await order({ kind: 'open', to, port, protocol, patience });
      return {
        title: `${protocol} to ${to}`,
        opened,
        say: (ms) => order({ kind: 'say', flow, protocol, patience: ms }),
        hear: (ms) => order({ kind: 'hear', flow, protocol, patience: ms }),
      };
    },
    shout: async () => void (await order({ kind: 'shout' })),
  };
}
