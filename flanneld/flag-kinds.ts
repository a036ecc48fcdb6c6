// What a flag is, and the kinds of values that flags have. Pure.

import { type Family, familyOf, hostPrefix, type Ip, networkOf, type Prefix, tryIp, tryPrefix } from '../model/ip.ts';

/** What flanneld is told to do, besides running. */
export type Command = 'run' | 'status' | 'cleanup' | 'install-cni' | 'uninstall-cni';

/**
 * How a flag is written: `--name value`, `--name` alone (or --name=false), or a value that may be given several times.
 */
export type FlagKind = 'value' | 'switch' | 'list';

export interface Flag<T> {
  readonly kind: FlagKind;
  readonly initial: T;
  /** The value of a text; undefined when the text doesn't fit. A list's texts are read one by one. */
  readonly read: (text: string) => T | undefined;
  /** What fits, for the message when it doesn't: "an IPv4 address". */
  readonly expected: string;
  /** Word that stands for the value in --help; empty for a switch. */
  readonly placeholder: string;
  readonly help: string;
  /** What heeds it; undefined: running, and nothing else. See {@link heeders}. */
  readonly heededBy?: readonly Command[] | undefined;
  /**
   * An action rather than a setting: not read from the environment, where FLANNELD_VERSION often is an image's label.
   */
  readonly action?: true | undefined;
  /** Not a flag of flannel. */
  readonly ours?: true | undefined;
  /** Another variable it is read from, where its own is not set; in either, nothing is a value too. */
  readonly shared?: string | undefined;
}

/**
 * The commands that heed a flag. One that running heeds is taken by every command, so that one environment file serves all;
 * another one is a mistake where it isn't heeded.
 */
export const heeders = ({ heededBy = ['run'] }: Pick<Flag<unknown>, 'heededBy'>): readonly Command[] => heededBy;

/** A flag that these commands heed. */
export const heeded = <T>(flag: Flag<T>, ...heededBy: readonly Command[]): Flag<T> => ({ ...flag, heededBy });

/** A value of any kind. */
export const value = <T>(
  initial: T,
  placeholder: string,
  expected: string,
  read: Flag<T>['read'],
  help: string,
): Flag<T> => ({
  kind: 'value',
  initial,
  read,
  expected,
  placeholder,
  help,
});

/** Whatever is given. */
export const text = (initial: string, placeholder: string, help: string): Flag<string> =>
  value(initial, placeholder, 'a text', (given) => given, help);

/** The words of Go's strconv.ParseBool. */
const TRUE: readonly string[] = ['1', 't', 'T', 'true', 'TRUE', 'True'];
const FALSE: readonly string[] = ['0', 'f', 'F', 'false', 'FALSE', 'False'];

/** Whether it is the value of a switch. */
export const isTruth = (word: string): boolean => TRUE.includes(word) || FALSE.includes(word);

/** On or off. */
export const toggle = (initial: boolean, help: string): Flag<boolean> => ({
  kind: 'switch',
  initial,
  read: (given) => (TRUE.includes(given) ? true : FALSE.includes(given) ? false : undefined),
  expected: 'true or false',
  placeholder: '',
  help,
});

/** A whole number from `min` to `max`. */
export const whole = (min: number, max: number, initial: number, placeholder: string, help: string): Flag<number> =>
  value(initial, placeholder, `a whole number from ${min} to ${max}`, (given) => wholeNumber(given, min, max), help);

function wholeNumber(given: string, min: number, max: number): number | undefined {
  const number = /^\d{1,9}$/.test(given) ? Number(given) : Number.NaN;
  return number >= min && number <= max ? number : undefined;
}

/** An address of the family (any family when undefined); empty means none, as in flannel. */
export const address = (family: Family | undefined, help: string, initial: Ip | '' = ''): Flag<Ip | ''> =>
  value<Ip | ''>(
    initial,
    'IP',
    `an IP${family === undefined ? '' : `v${family}`} address`,
    (given) => {
      const ip = tryIp(given);
      if (ip === undefined) return given === '' ? '' : undefined;
      return family === undefined || familyOf(ip) === family ? ip : undefined;
    },
    help,
  );

/** A flag that may be given several times; each text is read by `read`. */
export const list = <T>(
  placeholder: string,
  expected: string,
  read: (text: string) => T | undefined,
  help: string,
): Flag<T[]> => ({
  kind: 'list',
  initial: [],
  read: (given) => {
    const item = read(given);
    return item === undefined ? undefined : [item];
  },
  expected,
  placeholder,
  help,
});

const ENDPOINT = /^(https?:\/\/)?[^\s/,]+:\d{1,5}\/?$/;
const SCHEME = /^(https?:\/\/)?/;

/** Of etcd, with or without a scheme, separated by commas. */
export function endpoints(given: string): readonly string[] | undefined {
  const items = given.split(',').map((item) => item.trim().replace(/\/$/, ''));
  return items.every((item) => ENDPOINT.test(item) && URL.canParse(item.replace(SCHEME, 'http://')))
    ? items
    : undefined;
}

/** Prefixes separated by commas; an address stands for itself alone. */
export function prefixes(given: string): Prefix[] | undefined {
  const items = given.split(',').filter((item) => item.trim() !== '');
  const found = items.flatMap((item) => {
    const ip = tryIp(item.trim());
    const prefix = ip === undefined ? tryPrefix(item.trim()) : hostPrefix(ip);
    return prefix === undefined ? [] : [networkOf(prefix)];
  });
  return found.length === items.length ? found : undefined;
}

/** A Go expression as JavaScript's: they agree in what names and addresses need, but for Go's leading "(?i)". */
export function expression(given: string): RegExp | undefined {
  try {
    return given.startsWith('(?i)') ? new RegExp(given.slice(4), 'i') : new RegExp(given);
  } catch {
    return undefined;
  }
}

/** A flag that flannel doesn't have. */
export const ours = <T>(flag: Flag<T>): Flag<T> => ({ ...flag, ours: true });

/** One of these words. */
export const choice = <const T extends string>(
  allowed: readonly T[],
  initial: T,
  placeholder: string,
  help: string,
): Flag<T> =>
  value(initial, placeholder, `one of ${allowed.join(', ')}`, (given) => allowed.find((word) => word === given), help);
