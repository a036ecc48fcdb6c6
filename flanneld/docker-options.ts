// `flanneld docker-opts` as values: the options of flannel's mk-docker-opts.sh and the text that it writes. Pure.

import { NetError } from '../model/errors.ts';
import { type Prefix, tryPrefix } from '../model/ip.ts';
import { type Environment, invalid } from './arguments.ts';

export interface DockerOptions {
  /** Path of the subnet file. */
  readonly subnetFile: string;
  /** Path of the file that is written. */
  readonly dockerFile: string;
  /** Write a line for each option. */
  readonly individual: boolean;
  /** Write a line with all of them. */
  readonly combined: boolean;
  /** Name that the combined line begins with. */
  readonly combinedKey: string;
  /** Whether to say anything about masquerading. */
  readonly masquerade: boolean;
}

export const DOCKER_USAGE = `flanneld docker-opts [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Generate Docker daemon options based on flannel env file
OPTIONS:
\t-f\tPath to flannel env file. Defaults to /run/flannel/subnet.env
\t-d\tPath to Docker env file to write to. Defaults to /run/docker_opts.env
\t-i\tOutput each Docker option as individual var. e.g. DOCKER_OPT_MTU=1500
\t-c\tOutput combined Docker options into DOCKER_OPTS var
\t-k\tSet the combined options key to this value (default DOCKER_OPTS=)
\t-m\tDo not output --ip-masq (useful for older Docker version)
`;

/** Letters of options, and whether a value follows. */
const LETTERS: Readonly<Record<string, boolean>> = { f: true, d: true, k: true, i: false, c: false, m: false };
const KEY = /^[A-Za-z_]\w*$/;

/** As getopts reads them: "-ic", "-fPATH" and "-f PATH". @throws NetError invalid-flag */
export function readDockerOptions(argv: readonly string[]): DockerOptions {
  const given = letters(argv);
  const combinedKey = given.get('k') ?? 'DOCKER_OPTS';
  if (!KEY.test(combinedKey)) throw invalid(`-k ${JSON.stringify(combinedKey)}: expected the name of a variable`, '-k');
  const both = !given.has('i') && !given.has('c');
  return {
    subnetFile: given.get('f') ?? '/run/flannel/subnet.env',
    dockerFile: given.get('d') ?? '/run/docker_opts.env',
    individual: both || given.has('i'),
    combined: both || given.has('c'),
    combinedKey,
    masquerade: !given.has('m'),
  };
}

function letters(argv: readonly string[]): Map<string, string> {
  const given = new Map<string, string>();
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (!/^-./.test(word)) throw invalid(`argument ${JSON.stringify(word)}: not expected`, word);
    for (let at = 1; at < word.length; at++) {
      const letter = word[at] as string;
      const takesValue = Object.hasOwn(LETTERS, letter) ? LETTERS[letter] : undefined;
      if (takesValue === undefined) throw invalid(`-${letter}: unknown option`, `-${letter}`);
      if (!takesValue) {
        given.set(letter, '');
        continue;
      }
      const value = word.slice(at + 1) || rest.shift();
      if (value === undefined) throw invalid(`-${letter}: expected a value, got nothing`, `-${letter}`);
      given.set(letter, value);
      break;
    }
  }
  return given;
}

/** What of the subnet file is Docker's business. */
interface SubnetValues {
  readonly subnet: Prefix | undefined;
  readonly mtu: string | undefined;
  readonly masquerade: boolean | undefined;
}

/** @throws NetError decoding naming the variable and its value: it would become a part of somebody's command line */
export function readSubnetValues(text: string): SubnetValues {
  const lines = text.split('\n').flatMap((line) => {
    const [, name, value = ''] = /^\s*(FLANNEL_\w+)=(.*?)\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [[name, value.replace(/^(["'])(.*)\1$/, '$2')] as const];
  });
  const values = new Map(lines.filter(([, value]) => value !== ''));
  const valid = <T>(name: string, read: (value: string) => T | undefined): T | undefined => {
    const value = values.get(name);
    const result = value === undefined ? undefined : read(value);
    if (value !== undefined && result === undefined)
      throw new NetError('decoding', `Invalid value of ${name}: ${value}`);
    return result;
  };
  return {
    subnet: valid('FLANNEL_SUBNET', (value) => (value.includes(':') ? undefined : tryPrefix(value))),
    mtu: valid('FLANNEL_MTU', (value) => (/^\d{1,5}$/.test(value) ? value : undefined)),
    masquerade: valid('FLANNEL_IPMASQ', (value) => (value === 'true' ? true : value === 'false' ? false : undefined)),
  };
}

/**
 * The text of Docker's file. Whatever DOCKER_OPT_* and the combined variable say in the environment is taken in, as the
 * script does: the blanks between are the script's too.
 */
export function formatDockerFile(values: SubnetValues, options: DockerOptions, env: Environment): string {
  const inherited = Object.entries(env).filter(([name]) => name.startsWith('DOCKER_OPT_'));
  const { subnet, mtu, masquerade } = values;
  const ours: Record<string, string> = {
    ...(subnet !== undefined && { DOCKER_OPT_BIP: `--bip=${subnet}` }),
    ...(mtu !== undefined && { DOCKER_OPT_MTU: `--mtu=${mtu}` }),
    // Who masquerades: the agent, or else Docker.
    ...(masquerade !== undefined && options.masquerade && { DOCKER_OPT_IPMASQ: `--ip-masq=${!masquerade}` }),
  };
  const all = Object.entries({ ...Object.fromEntries(inherited), ...ours }).sort(([a], [b]) => (a < b ? -1 : 1));
  const before = env[options.combinedKey] ? `${env[options.combinedKey]} ` : '';
  const combined = before + all.map(([, value]) => ` ${value}`).join('');
  return [
    ...(options.individual ? all.map(([name, value]) => `${name}="${value}"\n`) : []),
    ...(options.combined ? [`${options.combinedKey}="${combined}"\n`] : []),
  ].join('');
}
