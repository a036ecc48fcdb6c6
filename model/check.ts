// Describes an input once and parses it: every problem is reported with its path and what was found there, so that a
// configuration with three mistakes is corrected in one go.

import { type ErrorCode, NetError } from './errors.ts';
import { type Ip, type Mac, type Prefix, tryIp, tryMac, tryPrefix } from './ip.ts';

/** Reads one value; pushes a problem and returns undefined when it doesn't fit. */
export type Check<T> = (value: unknown, path: string, problems: string[]) => T | undefined;

type Fields = Record<string, Check<unknown>>;
type Parsed<F extends Fields> = { -readonly [K in keyof F]: F[K] extends Check<infer T> ? T : never };

/** What was found, short enough for one line. */
const shown = (value: unknown): string => {
  const text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

/** "mtu: expected a string, got 5"; the input as a whole has no path. */
const mismatch = (path: string, expected: string, value: unknown): string =>
  `${path && `${path}: `}expected ${expected}, got ${shown(value)}`;

function check<T>(expected: string, read: (value: unknown) => T | undefined): Check<T> {
  return (value, path, problems) => {
    const result = read(value);
    if (result === undefined) problems.push(mismatch(path, expected, value));
    return result;
  };
}

export const string: Check<string> = check('a string', (value) => (typeof value === 'string' ? value : undefined));
export const boolean: Check<boolean> = check('true or false', (value) =>
  typeof value === 'boolean' ? value : undefined,
);
export const ipAddress: Check<Ip> = check('an IP address', tryIp);
export const cidr: Check<Prefix> = check('an address with prefix length', tryPrefix);
export const ethernet: Check<Mac> = check('an Ethernet address', tryMac);
export const anything: Check<unknown> = (value) => value;

/** A whole number from min to max. */
export const integer = (min: number, max: number): Check<number> =>
  check(`a whole number from ${min} to ${max}`, (value) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max ? (value as number) : undefined,
  );

/** A string of at most `max` bytes that the pattern matches. */
export const matching = (pattern: RegExp, expected: string, max = 4096): Check<string> =>
  check(expected, (value) =>
    typeof value === 'string' && value.length <= max && pattern.test(value) ? value : undefined,
  );

/** A path that begins at the root. */
export const absolutePath: Check<string> = matching(/^\/[^\0]*$/, 'an absolute path');

/** One of these words. */
export const oneOf = <const T extends string>(...allowed: readonly T[]): Check<T> =>
  check(`one of ${allowed.join(', ')}`, (value) => allowed.find((word) => word === value));

/** A list, each item checked; null and absent count as empty, as in Go. */
export const list =
  <T>(item: Check<T>, max = 10_000): Check<T[]> =>
  (value, path, problems) => {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value) || value.length > max) {
      problems.push(mismatch(path, `a list of at most ${max}`, value));
      return undefined;
    }
    return value.map((entry, index) => item(entry, `${path}[${index}]`, problems) as T);
  };

/** Absent and null give undefined. */
export const optional =
  <T>(inner: Check<T>): Check<T | undefined> =>
  (value, path, problems) =>
    value === undefined || value === null ? undefined : inner(value, path, problems);

/** Absent, null and Go's "" give undefined. */
export const unlessEmpty =
  <T>(inner: Check<T>): Check<T | undefined> =>
  (value, path, problems) =>
    value === '' ? undefined : optional(inner)(value, path, problems);

/** Absent and null give the default. */
export const withDefault =
  <T>(inner: Check<T>, fallback: T): Check<T> =>
  (value, path, problems) =>
    value === undefined || value === null ? fallback : inner(value, path, problems);

/** Whether it is a JSON object: neither null nor a list. */
export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * An object with these fields; keys it doesn't know are ignored, as runtimes add their own. With `anyCase`, keys match
 * whatever their case, as Go's decoder does.
 */
export const object = <F extends Fields>(
  fields: F,
  { anyCase = false }: { readonly anyCase?: boolean } = {},
): Check<Parsed<F>> => {
  const checks = Object.entries(fields).map(([key, field]) => ({ key, folded: key.toLowerCase(), field }));
  return (value, path, problems) => {
    if (!isObject(value)) {
      problems.push(mismatch(path, 'an object', value));
      return undefined;
    }
    const result: Record<string, unknown> = {};
    const others = anyCase ? Object.keys(value) : [];
    for (const { key, folded, field } of checks) {
      const found = Object.hasOwn(value, key) ? key : sameInAnyCase(others, folded);
      const inner = found === undefined ? undefined : value[found];
      result[key] = field(inner, path ? `${path}.${key}` : key, problems);
    }
    return result as Parsed<F>;
  };
};

/** The last of the keys that is this one in some case. */
const sameInAnyCase = (keys: readonly string[], folded: string): string | undefined =>
  keys.findLast((key) => key.length === folded.length && key.toLowerCase() === folded);

/** The parsed value. @throws NetError with `code`, naming `subject` and every problem */
export function parse<T>(input: unknown, shape: Check<T>, subject: string, code: ErrorCode): T {
  const problems: string[] = [];
  const result = shape(input, '', problems);
  if (problems.length > 0) throw new NetError(code, `${subject}: ${problems.join('; ')}`, { subject });
  return result as T;
}

/** JSON text as a value. @throws NetError with `code`, naming `subject` */
export function parseJson(text: string, subject: string, code: ErrorCode): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new NetError(code, `${subject}: not JSON: ${(cause as Error).message}`, { subject });
  }
}
