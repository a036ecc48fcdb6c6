// The agent's configuration: command line and environment as one checked value. Pure: files that it names are read
// later.

import packageJson from '../package.json' with { type: 'json' };
import type { NetError } from '../model/errors.ts';
import type { Ip, Prefix } from '../model/ip.ts';
import type { PerFamily } from '../model/lease.ts';
import { type Arguments, type Environment, invalid, readArguments } from './arguments.ts';
import type { ChecksumChoice } from './checksum-offload.ts';
import { DOCKER_USAGE, type DockerOptions, readDockerOptions } from './docker-options.ts';
import { type Command, heeders, isTruth } from './flag-kinds.ts';
import { FLAGS, type FlagName, type FlagValues, INSTALLATION } from './flags.ts';
import {
  accessConfig,
  type KubeAccessConfig,
  type KubeConfig,
  kubeConfig,
  type NodeChoice,
  nodeIfNamed,
} from './kube/options.ts';
import { type PolicyCommand, POLICY_USAGE, readPolicyCommand } from './policy/command.ts';
import { type EtcdConfig, etcdConfig } from './subnet/etcd-options.ts';
import { usage } from './usage.ts';

/**
 * How the interface to other nodes is found: names in their order, then expressions, then the route; else the default
 * route.
 */
export interface InterfaceChoice {
  readonly names: readonly string[];
  readonly expressions: readonly RegExp[];
  readonly canReach: Ip | undefined;
}

/** Paths of the file subnet manager. */
export interface FileStoreConfig {
  /** The network configuration. */
  readonly networkConfig: string;
  readonly leases: string;
}

export interface CniConfig {
  /** Path of the socket for CNI clients; undefined when none are served. */
  readonly socket: string | undefined;
  /** Nothing but them. */
  readonly only: boolean;
  /** Path of the list that the agent puts in place; undefined when it doesn't. */
  readonly list: string | undefined;
  /** Directories of lists and of executables. */
  readonly configuration: string;
  readonly executables: string;
  /** Seconds that clients wait for an agent. */
  readonly graceSeconds: number;
}

export interface PolicyConfig {
  /** Path of a directory of manifests, or how the API server is reached. */
  readonly source: { readonly directory: string } | { readonly kube: KubeAccessConfig };
  readonly established: 'cut' | 'keep';
  readonly unknownPod: 'closed' | 'open';
  /** Which node this is; undefined where the environment doesn't say. */
  readonly node: NodeChoice | undefined;
  /** Whether samples of dropped packets are logged. */
  readonly logDenied: boolean;
}

export interface AgentConfig {
  readonly etcd: EtcdConfig;
  /** Files in place of etcd; undefined when etcd hands out subnets. */
  readonly fileStore: FileStoreConfig | undefined;
  /** Kubernetes in place of etcd. */
  readonly kube: KubeConfig | undefined;
  readonly interface: InterfaceChoice;
  /** Addresses to publish instead of the interface's. */
  readonly publicIp: PerFamily<Ip>;
  readonly subnetFile: string;
  readonly nodeIdFile: string;
  /** Minutes of life below which the lease must not fall. */
  readonly renewMarginMinutes: number;
  readonly masquerade: boolean;
  /** Whether masqueraded ports are chosen at random. */
  readonly masqueradeFullyRandom: boolean;
  /** Destinations to which it isn't masqueraded, each once. */
  readonly unmasqueraded: readonly Prefix[];
  /** Whether forwarded traffic of the network is accepted by a rule. */
  readonly forwardRules: boolean;
  readonly blackholeRoute: boolean;
  /** Seconds within which every peer is probed once; 0: none is. */
  readonly probeSeconds: number;
  /** Of VXLAN devices. */
  readonly txChecksum: ChecksumChoice;
  /** Seconds between two periodic comparisons of what is with what should be. */
  readonly resyncSeconds: number;
  /** Where /healthz, /readyz and /status are served; undefined when they are not. */
  readonly health: { readonly address: Ip; readonly port: number } | undefined;
  readonly cni: CniConfig;
  /** Undefined: no network policy is enforced. */
  readonly policy: PolicyConfig | undefined;
  readonly dryRun: boolean;
  /** klog's level; from 1 on, details are logged too. */
  readonly verbosity: number;
}

export type Invocation =
  | { readonly command: Exclude<Command, 'status'>; readonly config: AgentConfig }
  | { readonly command: 'status'; readonly config: AgentConfig; readonly json: boolean }
  | { readonly command: 'docker-opts'; readonly options: DockerOptions }
  | { readonly command: 'policy'; readonly ask: PolicyCommand }
  | { readonly command: 'help' | 'version'; readonly text: string };

const COMMANDS: readonly Command[] = ['run', 'status', 'cleanup', 'install-cni', 'uninstall-cni'];
/** Commands with flags of their own, which follow them. */
const APART = ['policy', 'docker-opts'];
/** What a command line may begin with in place of flags. */
export const COMMAND_WORDS: readonly string[] = [...COMMANDS.filter((command) => command !== 'run'), ...APART];

/**
 * What the command line asks for. `argv` without node and script.
 * @throws NetError invalid-flag: one line naming the flag or variable and its value
 */
export function parseArguments(argv: readonly string[], env: Environment): Invocation {
  if (argv[0] === 'docker-opts') return dockerInvocation(argv.slice(1));
  if (argv[0] === 'policy') return policyInvocation(argv.slice(1), env);
  const parsed = readArguments(argv, env);
  const command = commandOf(parsed.words);
  if (parsed.values.help) return { command: 'help', text: usage(command) };
  if (parsed.values.version) return { command: 'version', text: `flanneld ${packageJson.version}` };
  refuseOthers(parsed, command);
  const config = agentConfig(parsed, command, env);
  return command === 'status' ? { command, config, json: parsed.values.json } : { command, config };
}

/** A flag of another command is a mistake; one of the environment, which serves all commands, is not. */
function refuseOthers({ onLine }: Arguments, command: Command): void {
  for (const name of onLine) {
    const by = heeders(FLAGS[name]);
    if (by.includes('run') || by.includes(command)) continue;
    throw invalid(`--${name}: a flag of ${by.map((each) => `flanneld ${each}`).join(' and ')} only`, `--${name}`);
  }
}

/** It has flannel's mk-docker-opts.sh's options, and none of the agent's. */
const dockerInvocation = (argv: readonly string[]): Invocation =>
  ['-h', '-?', '--help'].includes(argv[0] ?? '')
    ? { command: 'help', text: DOCKER_USAGE }
    : { command: 'docker-opts', options: readDockerOptions(argv) };

/** Some of the agent's flags would mean nothing here. */
const policyInvocation = (argv: readonly string[], env: Environment): Invocation =>
  argv.some((word) => ['-h', '-help', '--help'].includes(word))
    ? { command: 'help', text: POLICY_USAGE }
    : { command: 'policy', ask: readPolicyCommand(argv, env) };

function commandOf(words: readonly string[]): Command {
  const [word = 'run', extra] = words;
  const command = COMMANDS.find((name) => name === word);
  if (command === undefined) throw misplaced(word, command);
  if (extra !== undefined) throw misplaced(extra, command);
  return command;
}

function misplaced(word: string, command: Command | undefined): NetError {
  const problem = isTruth(word)
    ? 'not expected (a switch takes its value as --flag=false)'
    : APART.includes(word)
      ? 'expected before all flags'
      : command === undefined
        ? `no command; there are ${COMMAND_WORDS.join(', ')}`
        : 'not expected';
  return invalid(`argument ${JSON.stringify(word)}: ${problem}`, word);
}

function agentConfig({ values, given }: Arguments, command: Command, env: Environment): AgentConfig {
  // Of the environment too: who asks for it wants nothing changed.
  if (values['dry-run'] && INSTALLATION.includes(command))
    throw invalid(`--dry-run: flanneld ${command} has none; nothing was changed`, '--dry-run');
  const manager = values['kube-subnet-mgr'] ? 'kube' : values['subnet-mgr'];
  if (values['kube-subnet-mgr'] && given.has('subnet-mgr') && values['subnet-mgr'] !== 'kube')
    throw invalid(`--kube-subnet-mgr: expected no --subnet-mgr=${values['subnet-mgr']} with it`, '--kube-subnet-mgr');
  return {
    etcd: etcdConfig(values),
    fileStore:
      manager === 'file'
        ? { networkConfig: path(values, given, 'net-config-path'), leases: path(values, given, 'leases-file') }
        : undefined,
    // The other commands reach no server, and need none of what says where it is.
    kube:
      manager === 'kube' && command === 'run' && !values['cni-only']
        ? kubeConfig(values, env, path(values, given, 'net-config-path'))
        : undefined,
    interface: {
      names: values.iface,
      expressions: values['iface-regex'],
      canReach: values['iface-can-reach'] || undefined,
    },
    publicIp: { 4: values['public-ip'] || undefined, 6: values['public-ipv6'] || undefined },
    subnetFile: path(values, given, 'subnet-file'),
    nodeIdFile: path(values, given, 'node-id-file'),
    renewMarginMinutes: values['subnet-lease-renew-margin'],
    masquerade: values['ip-masq'],
    masqueradeFullyRandom: !values['ip-masq-fully-random-disable'],
    unmasqueraded: [...new Set(values['non-masquerade-cidrs'])],
    forwardRules: values['iptables-forward-rules'],
    blackholeRoute: values['ip-blackhole-route'],
    probeSeconds: values['peer-probe-interval'],
    txChecksum: values['vxlan-tx-checksum'],
    resyncSeconds: values['iptables-resync'],
    health:
      values['healthz-port'] === 0 ? undefined : { address: values['healthz-ip'] || ANY, port: values['healthz-port'] },
    cni: cniConfig(values, given),
    policy: policyConfig(values, command, env),
    dryRun: values['dry-run'],
    verbosity: values.v,
  };
}

const ANY = '0.0.0.0' as Ip;
/** Of the path of a socket: sockaddr_un has 108, the last of them for the end (unix(7)). */
export const MOST_SOCKET_BYTES = 107;

function cniConfig(values: FlagValues, given: ReadonlySet<FlagName>): CniConfig {
  const { 'cni-socket': socket, 'cni-only': only, 'dry-run': dryRun } = values;
  const fits = socket === '' || (socket.startsWith('/') && Buffer.byteLength(socket) <= MOST_SOCKET_BYTES);
  if (!fits) {
    const expected = `an absolute path of at most ${MOST_SOCKET_BYTES} bytes, or nothing`;
    throw invalid(`--cni-socket ${JSON.stringify(socket)}: expected ${expected}`, '--cni-socket');
  }
  if (only && socket === '') throw invalid('--cni-only: expected --cni-socket with it', '--cni-only');
  if (only && dryRun) throw invalid('--cni-only: nothing would be changed, so there is no --dry-run', '--dry-run');
  return {
    socket: socket || undefined,
    only,
    list: path(values, given, 'cni-list') || undefined,
    configuration: path(values, given, 'cni-conf-dir'),
    executables: path(values, given, 'cni-bin-dir'),
    graceSeconds: values['cni-grace'],
  };
}

/** Pods are admitted, and their addresses known, through the socket: without it nothing could be enforced. */
function policyConfig(values: FlagValues, command: string, env: Environment): PolicyConfig | undefined {
  const source = values['policy-source'];
  // The other commands enforce nothing, and need none of what says where the server is.
  if (source === 'off' || command !== 'run') return undefined;
  if (values['cni-socket'] === '')
    throw invalid(`--policy-source=${source}: expected --cni-socket with it`, '--policy-source');
  return {
    source:
      source === 'kube'
        ? { kube: accessConfig(values, env, '--policy-source=kube') }
        : { directory: source.slice('dir:'.length) },
    established: values['policy-established'],
    unknownPod: values['policy-unknown-pod'],
    node: nodeIfNamed(env),
    logDenied: values['policy-log-denied'],
  };
}

type PathFlag =
  | 'subnet-file'
  | 'node-id-file'
  | 'net-config-path'
  | 'leases-file'
  | 'cni-list'
  | 'cni-conf-dir'
  | 'cni-bin-dir';

function path(values: FlagValues, given: ReadonlySet<FlagName>, name: PathFlag): string {
  if (given.has(name) && !values[name].startsWith('/')) {
    throw invalid(`--${name} ${JSON.stringify(values[name])}: expected an absolute path`, `--${name}`);
  }
  return values[name];
}
