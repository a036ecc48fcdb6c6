// A host for the CNI server: a machine of its own, pods, the C client, and agents that are started and killed. Executions
// go through bench/exec-timer, as a container runtime does them: many at once, and timed.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Machine } from '../../examples/cluster/machine.ts';
import { startMachine } from '../../examples/cluster/machine.ts';
import { type AgentProcess, type AgentStatus, agentProcess, askStatus } from './agent-process.ts';
import { compileClient } from './cni-client.ts';
import type { CniOutput } from './cni.ts';
import { until } from './cni-host-checks.ts';
import { temporaryDirectory } from './temporary.ts';

const ROOT = join(import.meta.dirname, '../..');
export const NODE = join(ROOT, 'node_modules/.bin/node');
export const SOCKET = '/run/flannel/cni.sock';
export const SPOOL = '/var/lib/cni/flannel/.spool';

/** Which attachment, and what of it is not as usual. */
export interface Verb {
  readonly command: string;
  readonly id: string;
  readonly netns?: string;
  readonly plugin?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface Outcome {
  readonly status: number;
  /** A result or an error object. */
  readonly output: CniOutput;
  /** From before the start to after the end. */
  readonly ms: number;
}

export interface AgentOptions {
  readonly flags?: readonly string[];
  /** Whether to wait until it serves clients. */
  readonly serving?: boolean;
  /** What executes it, as words. */
  readonly through?: readonly string[];
}

export interface CniHost {
  readonly machine: Machine;
  /** Directory of the test's own, outside the machine too. */
  readonly directory: string;
  /** A path as it is seen from outside the machine. */
  path(inside: string): string;
  /** Starts an agent; by default waits until it serves. */
  startAgent(options?: AgentOptions): Promise<AgentProcess>;
  /** A command of flanneld's, as program and arguments. */
  flanneld(...words: string[]): [string, string[]];
  /** Makes namespaces of pods named so. */
  addPods(ids: readonly string[]): Promise<void>;
  run(verbs: readonly Verb[], parallel?: number): Promise<Outcome[]>;
  one(command: string, id: string, more?: Partial<Verb>): Promise<Outcome>;
  /** The environment and standard input of a verb. */
  call(verb: Verb): { readonly environment: Record<string, string>; readonly input: string };
  status(): Promise<AgentStatus>;
  /** Devices of the host, by name. */
  links(): Promise<string[]>;
  /** Records and reservations. */
  files(): string[];
}

const SUBNET = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.16.1/20
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`;

export const CONFIG = {
  cniVersion: '1.1.0',
  name: 'cbr0',
  type: 'flannel',
  delegate: { hairpinMode: true, isDefaultGateway: true },
};

/** What leaves something in every place: masquerading, a port of the host, limits in both directions. */
export const fullChain = (hostPort = 8080): Readonly<Record<string, unknown>> => ({
  delegate: { isDefaultGateway: true, ipMasq: true },
  runtimeConfig: {
    portMappings: [{ hostPort, containerPort: 80, protocol: 'udp' }],
    bandwidth: { ingressRate: 1e9, ingressBurst: 1e8, egressRate: 1e9, egressBurst: 1e8 },
  },
});

/** So that a test can write to /etc without touching the machine it runs on. */
const OWN_ETC = 'mkdir /run/etc && cp -a /etc/. /run/etc && mount --bind /run/etc /etc && mkdir -p /etc/cni/net.d';

/** Compiles the client under all its names, and exec-timer; the directory is there until the test is over. */
export function compilePrograms(t: Test): string {
  const bin = compileClient(t);
  execFileSync('cc', ['-O2', '-o', join(bin, 'exec-timer'), join(ROOT, 'bench/exec-timer.c')]);
  return bin;
}

/** `bin`: of compilePrograms. `expected`: the seconds that clients wait for an agent; undefined when none is expected. */
export async function makeHost(t: Test, bin: string, expected?: number): Promise<CniHost> {
  const directory = temporaryDirectory(t);
  const machine = await startMachine('host');
  t.teardown(() => machine.stop());
  await machine.must('sh', ['-ec', `${OWN_ETC}; mkdir -m 755 /run/flannel`]);
  const path = (inside: string): string => `/proc/${machine.pid}/root${inside}`;
  writeFileSync(path('/run/flannel/subnet.env'), SUBNET);
  if (expected !== undefined) writeFileSync(path('/run/etc/cni/net.d/.flannel-agent'), String(expected));
  let series = 0;

  const call: CniHost['call'] = ({ command, id, netns, plugin = 'flannel', config = {}, environment = {} }) => ({
    environment: {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: command,
      CNI_CONTAINERID: id,
      CNI_NETNS: netns ?? `/run/netns/${id}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: bin,
      FLANNEL_CNI_SOCKET: SOCKET,
      ...environment,
    },
    input: JSON.stringify({ ...CONFIG, type: plugin, ...config }),
  });

  async function run(verbs: readonly Verb[], parallel = 1): Promise<Outcome[]> {
    const scratch = join(directory, String(series++));
    mkdirSync(scratch);
    const jobs = verbs.flatMap((verb, index) => {
      const { environment, input } = call(verb);
      writeFileSync(`${scratch}/in.${index}`, input);
      const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
      const program = join(bin, verb.plugin ?? 'flannel');
      return [
        `${scratch}/in.${index}`,
        `${scratch}/out.${index}`,
        '1',
        program,
        String(variables.length),
        ...variables,
      ];
    });
    const text = await machine.must(join(bin, 'exec-timer'), [], {
      input: [String(parallel), ...jobs].map((word) => `${word}\0`).join(''),
      timeoutMs: 300_000,
    });
    const outcomes: Outcome[] = [];
    for (const line of text.trim().split('\n')) {
      const [index = 0, ns = 0, , , status = 0] = line.split(' ').map(Number);
      const output = JSON.parse(readFileSync(`${scratch}/out.${index}`, 'utf8') || '{}') as CniOutput;
      outcomes[index] = { status, output, ms: ns / 1e6 };
    }
    rmSync(scratch, { recursive: true });
    return outcomes;
  }

  return {
    machine,
    directory,
    path,
    call,
    run,
    async one(command, id, more = {}) {
      const [outcome] = await run([{ command, id, ...more }]);
      return outcome as Outcome;
    },
    flanneld,
    async startAgent({ flags = ['--cni-only'], serving = true, through = [] } = {}) {
      const [program, words] = flanneld(...flags);
      const agent = agentProcess(machine, [...through, program, ...words]);
      if (serving)
        await until(
          () => agent.log().includes('serving CNI clients'),
          () => agent.log(),
        );
      return agent;
    },
    async addPods(ids) {
      await machine.must('sh', ['-ec', 'for id; do ip netns add "$id"; done', 'sh', ...ids], { timeoutMs: 120_000 });
    },
    status: () => askStatus(path('/run/flannel/subnet.sock')),
    async links() {
      const text = await machine.must('ip', ['-j', 'link', 'show']);
      return (JSON.parse(text) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
    },
    files: () => ['/var/lib/cni/flannel', '/var/lib/cni/networks'].flatMap((root) => filesBelow(path(root))),
  };
}

function filesBelow(root: string): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/^(last_reserved_ip|lock$)/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}

const flanneld = (...words: string[]): [string, string[]] => [NODE, [join(ROOT, 'flanneld/main.ts'), ...words]];
