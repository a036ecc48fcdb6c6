// A command line and an environment as values of the flags. Go's conventions: one dash or two, `--flag value` or
// `--flag=value`, a switch takes its value only with `=`; FLANNELD_* fills in what the command line leaves out.

import { NetError } from '../model/errors.ts';
import type { Flag } from './flag-kinds.ts';
import { FLAGS, type FlagName, type FlagValues, variableOf } from './flags.ts';

export interface Arguments {
  readonly values: FlagValues;
  /** Flags that were given, on the command line or in the environment. */
  readonly given: ReadonlySet<FlagName>;
  /** Those of the command line. */
  readonly onLine: ReadonlySet<FlagName>;
  /** What is not a flag: the command. */
  readonly words: readonly string[];
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws NetError invalid-flag naming the flag or variable and the value */
export function readArguments(argv: readonly string[], env: Environment): Arguments {
  const { texts, words } = split(argv);
  const values: Partial<Record<FlagName, unknown>> = {};
  const given = new Set<FlagName>();
  for (const [name, flag] of Object.entries(FLAGS) as [FlagName, Flag<unknown>][]) {
    const onLine = texts.get(name);
    const [variable, inherited] = fromEnvironment(name, flag, env);
    const sources = onLine ?? (inherited === undefined ? [] : [inherited]);
    if (sources.length > 0) given.add(name);
    values[name] = lastValue(flag, onLine ? dashed(name) : variable, sources);
  }
  return { values: values as FlagValues, given, onLine: new Set(texts.keys()), words };
}

/** The variable that a flag is read from, and its text. An empty one is none, but for a flag of a shared variable. */
function fromEnvironment(name: FlagName, flag: Flag<unknown>, env: Environment): [string, string | undefined] {
  const own = variableOf(name, flag);
  if (own === undefined) return [name, undefined];
  if (flag.shared === undefined) return [own, env[own] || undefined];
  return env[own] === undefined ? [flag.shared, env[flag.shared]] : [own, env[own]];
}

/** The last text's value; a list has the values of all. */
function lastValue(flag: Flag<unknown>, label: string, sources: readonly string[]): unknown {
  const values = sources.map((source) => {
    const value = flag.read(source);
    if (value === undefined) throw invalid(`${label} ${JSON.stringify(source)}: expected ${flag.expected}`, label);
    return value;
  });
  if (flag.kind === 'list') return values.flat();
  return values.at(-1) ?? flag.initial;
}

interface Split {
  readonly texts: ReadonlyMap<FlagName, readonly string[]>;
  readonly words: readonly string[];
}

function split(argv: readonly string[]): Split {
  const texts = new Map<FlagName, string[]>();
  const words: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] as string;
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) {
      if (/^-./.test(word) && word !== '--') throw invalid(`${word}: not a flag`, word);
      if (word !== '--') words.push(word);
      continue;
    }
    const name = flagNamed(match[1] as string);
    const attached = match[2] ?? (FLAGS[name].kind === 'switch' ? 'true' : undefined);
    const value = attached ?? argv[++index];
    if (value === undefined)
      throw invalid(`${dashed(name)}: expected ${FLAGS[name].expected}, got nothing`, dashed(name));
    texts.set(name, [...(texts.get(name) ?? []), value]);
  }
  return { texts, words };
}

function flagNamed(name: string): FlagName {
  const known = name === 'h' ? 'help' : name;
  if (!Object.hasOwn(FLAGS, known)) throw invalid(`${dashed(name)}: unknown flag`, dashed(name));
  return known as FlagName;
}

const dashed = (name: string): string => (name.length === 1 ? `-${name}` : `--${name}`);

/** The error for a flag. */
export const invalid = (message: string, subject: string): NetError =>
  new NetError('invalid-flag', message, { subject });
