// A node for CNI tests, a network namespace with state directories of its own, and plugins executed in it exactly as a
// runtime executes them: environment and standard input in, exit status and standard output out.

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { makeNamespace, type TestNamespace } from './namespace.ts';
import { temporaryDirectory } from './temporary.ts';

const OURS = join(import.meta.dirname, '../../build/bin');
/** Where Debian's package containernetworking-plugins puts the reference plugins. */
export const REFERENCE = '/usr/lib/cni';

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'VERSION';

export interface Call {
  readonly config: Readonly<Record<string, unknown>>;
  readonly containerId?: string;
  /** Path; empty: none is given. */
  readonly netns: string;
  readonly ifname?: string;
  readonly args?: string;
}

/** A result or an error object: whichever it is, its fields are there. */
export interface CniOutput {
  readonly cniVersion: string;
  readonly interfaces: readonly { readonly name: string; readonly mac: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway: string }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
  readonly code: number;
  readonly msg: string;
}

/** What a plugin answered: its exit status and the JSON it printed. */
export interface CniAnswer {
  readonly status: number | null;
  readonly output: CniOutput;
  readonly stderr: string;
}

export interface CniNode {
  readonly namespace: TestNamespace;
  readonly directory: string;
  readonly subnetFile: string;
  /** flannel's usual configuration, its state kept in this node's directory. */
  config(changes?: Readonly<Record<string, unknown>>): Record<string, unknown>;
  /** Executes the plugin of the configuration's type. Found in our directory unless `bin` says otherwise. */
  cni(verb: Verb, call: Call, bin?: string): CniAnswer;
  /** Starts our plugin without waiting for it. */
  start(verb: Verb, call: Call): ChildProcess;
  /** Files below the node's directory that ADD makes and DEL removes. */
  files(): string[];
}

const SUBNET_FILE: Readonly<Record<string, string>> = {
  FLANNEL_NETWORK: '10.5.0.0/16',
  FLANNEL_SUBNET: '10.5.1.1/24',
  FLANNEL_IPV6_NETWORK: 'fd00:5::/48',
  FLANNEL_IPV6_SUBNET: 'fd00:5:0:1::1/64',
  FLANNEL_MTU: '1450',
  FLANNEL_IPMASQ: 'true',
};

const environment = (verb: Verb, { containerId = 'pod1', netns, ifname = 'eth0', args = '' }: Call) => ({
  PATH: process.env.PATH ?? '',
  CNI_COMMAND: verb,
  CNI_CONTAINERID: containerId,
  CNI_NETNS: netns,
  CNI_IFNAME: ifname,
  CNI_ARGS: args,
  CNI_PATH: `${OURS}:${REFERENCE}`,
});

/** Makes a node. `families` says which lines its subnet file has. */
export function makeNode(t: Test, families: readonly (4 | 6)[] = [4, 6]): CniNode {
  const directory = temporaryDirectory(t);
  const namespace = makeNamespace(t, 'node');
  const subnetFile = join(directory, 'subnet.env');
  const lines = Object.entries(SUBNET_FILE).filter(
    ([key]) => !/NETWORK|SUBNET/.test(key) || families.includes(key.includes('IPV6') ? 6 : 4),
  );
  writeFileSync(subnetFile, lines.map(([key, value]) => `${key}=${value}\n`).join(''));
  const base = {
    cniVersion: '1.1.0',
    name: 'cbr0',
    type: 'flannel',
    dataDir: join(directory, 'flannel'),
    subnetFile,
    ipam: { dataDir: join(directory, 'networks') },
    delegate: { hairpinMode: true, isDefaultGateway: true },
  };
  return {
    namespace,
    directory,
    subnetFile,
    config: (changes) => ({ ...base, ...changes }),
    cni(verb, call, bin = OURS) {
      const input = JSON.stringify(call.config);
      const ran = namespace.run(join(bin, String(call.config.type)), [], { env: environment(verb, call), input });
      return { status: ran.status, output: JSON.parse(ran.stdout || '{}'), stderr: ran.stderr };
    },
    start(verb, call) {
      const program = join(OURS, String(call.config.type));
      const child = spawn('nsenter', [`--net=${namespace.path}`, program], {
        env: environment(verb, call),
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(JSON.stringify(call.config));
      return child;
    },
    files: () =>
      readdirSync(directory, { recursive: true, withFileTypes: true })
        .filter(
          (entry) => entry.isFile() && entry.name !== 'subnet.env' && !/^(last_reserved_ip|lock$)/.test(entry.name),
        )
        .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
        .sort(),
  };
}

/** A pod in a namespace of its own, attached to the node, and what ADD answered. @throws Error when ADD fails */
export function attach(
  t: Test,
  node: CniNode,
  containerId: string,
  changes: Readonly<Record<string, unknown>> = {},
): [TestNamespace, CniOutput] {
  const pod = makeNamespace(t, containerId);
  const { status, output } = node.cni('ADD', { config: node.config(changes), containerId, netns: pod.path });
  if (status !== 0) throw new Error(`ADD ${containerId}: ${JSON.stringify(output)}`);
  return [pod, output];
}

/**
 * The node's uplink to a machine that knows no way to the pods: 192.0.2.1 and 2001:db8::1 are the node's, .2 and ::2 the
 * machine's.
 */
export function outside(t: Test, node: CniNode): TestNamespace {
  const machine = makeNamespace(t, 'outside');
  node.namespace.must(`ip link add up0 type veth peer name up0 netns ${machine.name}`);
  for (const [where, last] of [
    [node.namespace, 1],
    [machine, 2],
  ] as const) {
    where.must('sysctl -qw net.ipv6.conf.up0.accept_dad=0');
    where.must(`ip address add 192.0.2.${last}/24 dev up0`);
    where.must(`ip address add 2001:db8::${last}/64 dev up0 nodad`);
    where.must('ip link set up0 up');
  }
  return machine;
}
