// Requests of a runtime that are changed at random: in the environment, in the configuration, in its text, in the bytes of
// the message. Paths that the plugin would write to lead nowhere but where the given configuration says.

import { encode, type RequestMessage } from '../../cni-plugin/wire.ts';
import { below } from './seed.ts';

export interface MutatedRequest {
  readonly command: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly input: string;
}

type Next = () => number;

const COMMANDS = ['ADD', 'ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION', 'add', 'FROB', ''];

/** Names and ids that mean something to a file system, a shell, nft, a URL or a terminal. */
const HOSTILE = [
  '',
  '.',
  '..',
  '../../etc/passwd',
  'a/b',
  '/dev/null/x',
  '/proc/nope',
  '-rf',
  '~',
  '*',
  '$(reboot)',
  '`reboot`',
  '"; delete table inet flannel; #',
  '{ }',
  'a b',
  'a\nb',
  'a\tb',
  'a:b',
  '%s%n',
  'é',
  '\u202e',
  '\ud800',
  '\u0085',
  '\u001b[2J',
  'all',
  'default',
  'lo',
  'constructor',
  '__proto__',
  'x'.repeat(15),
  'x'.repeat(16),
  'x'.repeat(300),
  'x'.repeat(70_000),
];

const VALUES: readonly unknown[] = [
  ...HOSTILE,
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e300,
  2 ** 53,
  4095,
  65536,
  [],
  [null],
  {},
  { a: { b: [] } },
  '0.0.0.0/0',
  '10.0.0.0/33',
  '::/0',
  'fe80::1%eth0',
  '256.1.1.1',
  '10.5.16.1',
  '00:00:00:00:00:00',
  'ff:ff:ff:ff:ff:ff',
];

/** Sections and keys that the plugins read, so that mutations hit them. */
const KEYS: readonly (readonly string[])[] = [
  ['name'],
  ['cniVersion'],
  ['type'],
  ['mtu'],
  ['bridge'],
  ['ipMasq'],
  ['hairpinMode'],
  ['mode'],
  ['vlan'],
  ['vlanTrunk'],
  ['dns'],
  ['args', 'cni', 'mac'],
  ['args', 'cni', 'ips'],
  ['prevResult'],
  ['prevResult', 'ips'],
  ['prevResult', 'interfaces'],
  ['delegate'],
  ['delegate', 'bridge'],
  ['delegate', 'mtu'],
  ['delegate', 'hairpinMode'],
  ['delegate', 'type'],
  ['ipam'],
  ['ipam', 'type'],
  ['ipam', 'ranges'],
  ['ipam', 'subnet'],
  ['ipam', 'routes'],
  ['ipam', 'resolvConf'],
  ['runtimeConfig'],
  ['runtimeConfig', 'portMappings'],
  ['runtimeConfig', 'bandwidth'],
  ['runtimeConfig', 'bandwidth', 'ingressRate'],
  ['runtimeConfig', 'ips'],
  ['runtimeConfig', 'mac'],
  ['cni.dev/valid-attachments'],
  ['cni.dev/attachments'],
];

const VARIABLES = ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH', 'CNI_ARGS'];
const ARGS = [
  'IgnoreUnknown=1',
  'K8S_POD_NAME=x',
  'IP=10.5.16.9',
  'IP=x',
  'MAC=x',
  'a=b=c',
  ';;',
  '=',
  'IgnoreUnknown=maybe',
];

type Json = Record<string, unknown>;

function setAt(config: Json, [key = '', ...rest]: readonly string[], value: unknown): Json {
  const inner = config[key];
  if (rest.length === 0) return { ...config, [key]: value };
  const section = typeof inner === 'object' && inner !== null && !Array.isArray(inner) ? (inner as Json) : {};
  return { ...config, [key]: setAt(section, rest, value) };
}

/** The bytes with some of them changed, removed or added. */
function mutatedBytes(bytes: Buffer, next: Next): Buffer {
  let found = bytes;
  for (let left = 1 + below(4, next); left > 0; left--) {
    const at = below(found.length + 1, next);
    const added = Buffer.from(Array.from({ length: below(4, next) }, () => below(256, next)));
    found = Buffer.concat([found.subarray(0, at), added, found.subarray(at + below(4, next))]);
  }
  return keepsPaths(bytes, found) ? found : mutatedBytes(bytes, next);
}

const pathsIn = (bytes: Buffer): string => (bytes.toString('latin1').match(/"\/[^"]*/g) ?? []).join();

/** A path with a letter changed is as good a path as any, and the plugins would write there: outside of the test. */
const keepsPaths = (bytes: Buffer, changed: Buffer): boolean => pathsIn(changed) === pathsIn(bytes);

/** A request for one of the pods, with none to a few changes. */
export function mutatedRequest(base: Json, pods: readonly string[], next: Next): MutatedRequest {
  const pick = <T>(items: readonly T[]): T => items[below(items.length, next)] as T;
  const chance = (of: number): boolean => below(of, next) === 0;
  const command = pick(COMMANDS);
  const id = pick(pods);
  const environment: Record<string, string> = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: `/run/netns/${id}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/nowhere',
    ...(chance(4) && { CNI_ARGS: `${pick(ARGS)};${pick(ARGS)}` }),
  };
  let config = base;
  for (let changes = below(4, next); changes > 0; changes--) {
    if (chance(3)) environment[pick(VARIABLES)] = pick(HOSTILE);
    else config = setAt(config, pick(KEYS), pick(VALUES));
  }
  const text = JSON.stringify(config);
  return { command, environment, input: chance(5) ? mutatedText(text, next) : text };
}

function mutatedText(text: string, next: Next): string {
  switch (below(6, next)) {
    case 0:
      return text.slice(0, below(text.length, next));
    case 1:
      return `${'['.repeat(50_000)}${text}`;
    case 2:
      return `${text}${text}`;
    case 3:
      return text.replace(/^\\{/, `{"x":${'{"x":'.repeat(200)}1${'}'.repeat(200)},`);
    case 4:
      return 'x'.repeat((1 << 20) + 1);
    default:
      return mutatedBytes(Buffer.from(text), next).toString();
  }
}

/** The request as a client sends it, in one of four cases with changed bytes. */
export function wireBytes(message: RequestMessage, next: Next): Buffer {
  const bytes = encode(message);
  return below(4, next) === 0 ? mutatedBytes(bytes, next) : bytes;
}

/** What a client answers that finds no plugin to execute. */
export const NOT_FOUND = encode({
  kind: 'executed',
  status: 1,
  output: '{"cniVersion":"1.1.0","code":7,"msg":"failed to find plugin"}',
  errors: '',
});

/** What is wrong with an answer of a plugin, whatever it was asked; undefined when nothing is. */
export function problemOf(status: number, output: string): string | undefined {
  if (/\n\s+at |node:internal|\.ts:\d+/.test(output)) return 'a stack trace';
  if (status === 0 && output === '') return undefined;
  try {
    const { cniVersion, code, msg } = JSON.parse(output);
    if (status === 0) return undefined;
    const whole = typeof cniVersion === 'string' && Number.isInteger(code) && typeof msg === 'string' && msg !== '';
    return status === 1 && whole && code !== 999 ? undefined : 'no error object';
  } catch {
    return 'no JSON';
  }
}
