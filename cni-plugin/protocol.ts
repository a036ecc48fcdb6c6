// What a runtime hands to a plugin: CNI_* variables and a network configuration on standard input. Rules, their order
// and the words of the errors are those of the reference implementation (containernetworking/cni pkg/skel, pkg/utils),
// since runtimes and test suites compare them.

import { isObject, object, optional, parse, string } from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import type { PodName } from './names.ts';
import { atLeast, type CniVersion, cniVersion } from './versions.ts';

/** Standard input beyond this many bytes is refused; a real configuration has a few thousand. */
export const MAX_INPUT_BYTES = 1 << 20;
/** Deeper JSON is refused: what walks it later is recursive. */
const MAX_DEPTH = 64;

const REQUIRED = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  GC: ['CNI_PATH'],
  STATUS: ['CNI_PATH'],
  VERSION: [],
} as const;

/** The version with which a command came. */
const SINCE: Partial<Record<Command, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

export type Command = keyof typeof REQUIRED;
export type Environment = Readonly<Record<string, string | undefined>>;

/** The CNI_* variables, checked. What is absent is empty. */
export interface Invocation {
  readonly command: Command;
  readonly containerId: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  readonly ifname: string;
  /** Directories to look for other plugins in. */
  readonly path: readonly string[];
  /** CNI_ARGS as given: "K=V;K2=V2". */
  readonly args: string;
  /** How many plugins of this project this one is executed by, through others. */
  readonly depth: number;
}

/** Invocation and configuration. */
export interface Request extends Invocation {
  readonly cniVersion: CniVersion;
  /** Name of the network. */
  readonly network: string;
  /** The whole configuration, decoded. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The same as it came. */
  readonly input: string;
}

/** Tells a plugin of this project that another one is behind whoever executes it. */
export const DEPTH_VARIABLE = 'CNI_FLANNEL_DEPTH';
/** Plugins that execute each other in a circle must come to an end. */
export const MOST_DEEP = 4;

const isCommand = (text: string): text is Command => Object.hasOwn(REQUIRED, text);

/** @throws NetError invalid-environment naming the variables that are missing or the value that is wrong */
export function parseEnvironment(env: Environment): Invocation {
  const given = (name: string): string => env[name] ?? '';
  const command = given('CNI_COMMAND');
  const required: readonly string[] = isCommand(command) ? REQUIRED[command] : [];
  if (required.includes('CNI_CONTAINERID')) checkContainerId(given('CNI_CONTAINERID'));
  if (required.includes('CNI_IFNAME')) checkIfname(given('CNI_IFNAME'));
  const missing = ['CNI_COMMAND', ...required].filter((name) => given(name) === '');
  if (missing.length > 0) throw environmentError(`required env variables [${missing.join(',')}] missing`);
  if (!isCommand(command)) throw environmentError(`unknown CNI_COMMAND: ${command.slice(0, 64)}`);
  return {
    command,
    containerId: given('CNI_CONTAINERID'),
    netns: given('CNI_NETNS'),
    ifname: given('CNI_IFNAME'),
    path: given('CNI_PATH').split(':').filter(Boolean),
    args: given('CNI_ARGS'),
    depth: depthOf(given(DEPTH_VARIABLE)),
  };
}

function depthOf(text: string): number {
  if (text === '') return 0;
  if (/^\d$/.test(text) && Number(text) <= MOST_DEEP) return Number(text);
  throw environmentError(
    `${DEPTH_VARIABLE}: expected a number up to ${MOST_DEEP}, got ${JSON.stringify(text.slice(0, 64))}`,
  );
}

const environmentError = (message: string, details?: string): NetError =>
  new NetError('invalid-environment', message, { details });

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** Empty counts as missing, which is reported with all that is missing. */
function checkContainerId(id: string): void {
  if (id !== '' && !NAME.test(id)) throw environmentError('invalid characters in containerID', id.slice(0, 256));
}

function checkIfname(name: string): void {
  const problem = name === '' ? undefined : ifnameProblem(name);
  if (problem !== undefined) throw environmentError(...problem);
}

/** What is wrong with a name for a network interface, as message and details; undefined when nothing is. */
export function ifnameProblem(name: string): [message: string, details?: string] | undefined {
  if (name === '') return ['interface name is empty'];
  if (Buffer.byteLength(name) > 15) {
    return ['interface name is too long', 'interface name should be less than 16 characters'];
  }
  if (name === '.' || name === '..') return ['interface name is . or ..'];
  // A device's settings are in a directory of its name, beside these (net/core/dev.c, devinet_init_net).
  if (name === 'all' || name === 'default') return [`interface name is ${name}, which is reserved by the kernel`];
  // What Go's unicode.IsSpace takes for white space; \s lacks U+0085 and has U+FEFF besides.
  if (/[/:\s\u0085]/.test(name)) return ['interface name contains / or : or whitespace characters'];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f%]/.test(name)) return ['interface name contains % or control characters'];
  return undefined;
}

const CONFIG = object({ name: optional(string), cniVersion: optional(string) }, { anyCase: true });

/**
 * The request of an invocation and its standard input.
 * @throws NetError decoding, invalid-config (network name), incompatible-version
 */
export function parseRequest(invocation: Invocation, input: string): Request {
  const config = decode(input);
  const { name, cniVersion: version } = parse(config, CONFIG, 'error unmarshall network config', 'decoding');
  checkNetworkName(name ?? '');
  const known = cniVersion(version ?? '');
  const since = SINCE[invocation.command];
  if (since !== undefined && !atLeast(known, since)) {
    throw new NetError('incompatible-version', `config version does not allow ${invocation.command}`);
  }
  return { ...invocation, cniVersion: known, network: name as string, config, input };
}

function checkNetworkName(name: string): void {
  if (name === '') throw new NetError('invalid-config', 'missing network name');
  if (NAME.test(name)) return;
  throw new NetError('invalid-config', 'invalid characters found in network name', { details: name.slice(0, 256) });
}

function decode(input: string): Record<string, unknown> {
  const fail = (why: string) => new NetError('decoding', `error unmarshall network config: ${why}`);
  if (Buffer.byteLength(input) > MAX_INPUT_BYTES) throw fail(`more than ${MAX_INPUT_BYTES} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(input);
  } catch (cause) {
    throw fail((cause as Error).message.slice(0, 200));
  }
  if (!isObject(value)) throw fail('not an object');
  if (isDeep(value, MAX_DEPTH)) throw fail(`nested more than ${MAX_DEPTH} deep`);
  return value;
}

const isDeep = (value: unknown, left: number): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (left === 0 || Object.values(value).some((inner) => isDeep(inner, left - 1)));

/** Keys of CNI_ARGS that plugins of this project read; the rest must be allowed by IgnoreUnknown. */
const KNOWN_ARGS = ['IgnoreUnknown', 'IP', 'GATEWAY', 'MAC'];

/**
 * CNI_ARGS as a map. Kubernetes always sends IgnoreUnknown=1 with its own keys.
 * @throws NetError invalid-environment for a pair without exactly one "=", or a key nobody reads
 */
export function parseArgs(text: string): ReadonlyMap<string, string> {
  const pairs = text === '' ? [] : text.split(';').map((pair) => pair.split('='));
  const broken = pairs.find((parts) => parts.length !== 2);
  if (broken !== undefined)
    throw environmentError(`ARGS: invalid pair ${JSON.stringify(broken.join('=').slice(0, 64))}`);
  const args = new Map(pairs as [string, string][]);
  const unknown = [...args.keys()].filter((key) => !KNOWN_ARGS.includes(key));
  if (unknown.length === 0 || truth(args.get('IgnoreUnknown') ?? 'false')) return args;
  throw environmentError(`ARGS: unknown args ${JSON.stringify(unknown.slice(0, 20))}`);
}

/** The pod that Kubernetes' runtimes name in CNI_ARGS; undefined for any other container. */
export function podOfArgs(text: string): PodName | undefined {
  const args = parseArgs(text);
  const [namespace, name, uid = ''] = [
    args.get('K8S_POD_NAMESPACE'),
    args.get('K8S_POD_NAME'),
    args.get('K8S_POD_UID'),
  ];
  return namespace && name ? { namespace, name, ...(UID.test(uid) && { uid }) } : undefined;
}

/** As the API server makes them. Of a static pod the kubelet gives a hash, which nobody else knows the pod by. */
const UID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function truth(text: string): boolean {
  if (/^(1|true)$/i.test(text)) return true;
  if (/^(0|false)$/i.test(text)) return false;
  throw environmentError(`ARGS: IgnoreUnknown: expected 1, true, 0 or false, got ${JSON.stringify(text.slice(0, 64))}`);
}
