// A pod of the practice cluster: a network namespace attached by executing the CNI plugin as a runtime does.

import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import { type Ip, addressOf, prefix } from '../../model/ip.ts';
import { endChild, type Machine, type Outcome } from './machine.ts';
import type { ProbeReply, ProbeRequest } from './pod-agent.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const AGENT = fileURLToPath(new URL('./pod-agent.ts', import.meta.url));

export interface PodOptions {
  readonly name: string;
  /** Directory of the CNI executables; build/bin of the tree when undefined. */
  readonly cniBin?: string | undefined;
  /** The network configuration; flannel's usual one when undefined. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
}

export interface Pod {
  readonly name: string;
  readonly node: Machine;
  readonly ips: readonly Ip[];
  /** The plugin's result. */
  readonly result: CniResult;
  probe(request: Omit<ProbeRequest, 'id'>): Promise<ProbeReply>;
  /** Executes the plugin again with another verb. */
  cni(verb: string): Promise<Outcome>;
  /** DEL, then the namespace. @throws Error when DEL fails */
  remove(): Promise<void>;
}

export interface CniResult {
  readonly interfaces: readonly { readonly name: string; readonly mtu?: number }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string }[];
}

/** What a node's /etc/cni/net.d usually says. */
export const FLANNEL_CONFIG = {
  cniVersion: '1.1.0',
  name: 'cbr0',
  type: 'flannel',
  delegate: { hairpinMode: true, isDefaultGateway: true },
};

/** Executes a CNI plugin in a machine, with the environment and standard input that a runtime gives it. */
export function executeCni(
  node: Machine,
  verb: string,
  { name, cniBin = `${ROOT}build/bin`, config = FLANNEL_CONFIG }: PodOptions,
): Promise<Outcome> {
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: name,
    CNI_NETNS: `/run/netns/${name}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: cniBin,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`,
  };
  return node.run(`${cniBin}/${String(config.type)}`, [], { env, input: JSON.stringify(config) });
}

/** Makes a namespace, attaches it and starts its server. @throws Error with the plugin's answer when ADD fails */
export async function startPod(node: Machine, options: PodOptions): Promise<Pod> {
  const { name } = options;
  await node.must('ip', ['netns', 'add', name]);
  const added = await executeCni(node, 'ADD', options);
  if (added.code !== 0) throw new Error(`${node.name}: ADD ${name}: ${(added.stdout + added.stderr).trim()}`);
  const result = JSON.parse(added.stdout) as CniResult;
  const agent = node.start('nsenter', [`--net=/run/netns/${name}`, process.execPath, AGENT, name]);
  const waiting = new Map<number, (reply: ProbeReply) => void>();
  const lines = createInterface({ input: agent.stdout as NodeJS.ReadableStream });
  await Promise.race([
    once(lines, 'line'),
    once(agent, 'exit').then(() => Promise.reject(new Error(`${name}: its server ended`))),
  ]);
  lines.on('line', (line) => {
    const reply = JSON.parse(line) as ProbeReply;
    waiting.get(reply.id)?.(reply);
    waiting.delete(reply.id);
  });
  agent.stdin?.on('error', () => undefined);

  let next = 0;
  return {
    name,
    node,
    result,
    ips: result.ips.map(({ address }) => addressOf(prefix(address))),
    probe(request) {
      const id = next++;
      agent.stdin?.write(`${JSON.stringify({ ...request, id })}\n`);
      return new Promise((resolve) => waiting.set(id, resolve));
    },
    cni: (verb) =>
      executeCni(
        node,
        verb,
        verb === 'CHECK'
          ? { ...options, config: { ...(options.config ?? FLANNEL_CONFIG), prevResult: result } }
          : options,
      ),
    async remove() {
      await endChild(agent);
      const deleted = await executeCni(node, 'DEL', options);
      await node.must('ip', ['netns', 'delete', name]);
      if (deleted.code !== 0) throw new Error(`${node.name}: DEL ${name}: ${(deleted.stdout + deleted.stderr).trim()}`);
    },
  };
}
