// What a row says about answers: succeeded, was refused and how, printed a result of its version.

import assert from 'node:assert/strict';
import { atLeast, type CniVersion } from '../../cni-plugin/versions.ts';
import type { Answer, Json, Stage } from './stage.ts';

/** The same words in one line, for messages. */
const shown = ({ code, stdout, stderr }: Answer): string =>
  `exit status ${code}: ${(stdout + stderr).replace(/\s+/g, ' ').trim().slice(0, 400)}`;

/** The verb succeeded without output, as all do but ADD and VERSION. */
export function silent(answer: Answer, what = 'the verb'): void {
  assert.equal(answer.code, 0, `${what} should succeed; ${shown(answer)}`);
  assert.equal(answer.stdout.trim(), '', `${what} prints nothing`);
}

/** The verb succeeded: what it printed. */
export function printed(answer: Answer, what = 'ADD'): Json {
  assert.equal(answer.code, 0, `${what} should succeed; ${shown(answer)}`);
  return JSON.parse(answer.stdout) as Json;
}

export interface Refusal {
  /** For both; the reference wraps what it does not name in 999. */
  readonly code?: number;
  /** For ours, where the reference says 999. */
  readonly ownCode?: number;
  /** The whole message, or what it must match. */
  readonly msg?: string | RegExp;
  readonly details?: string | RegExp;
}

/** The verb failed with one error object. */
export function refused(stage: Stage, answer: Answer, expected: Refusal, what = 'the verb'): Json {
  assert.notEqual(answer.code, 0, `${what} should fail; ${shown(answer)}`);
  const error = JSON.parse(answer.stdout) as Json;
  const code = expected.code ?? (stage.target.ours ? expected.ownCode : undefined);
  if (code === undefined) assert.equal(typeof error.code, 'number', 'the error has a code');
  else assert.equal(error.code, code, `the error's code; ${shown(answer)}`);
  matches(error.msg, expected.msg ?? /./, 'msg');
  if (expected.details !== undefined) matches(error.details, expected.details, 'details');
  return error;
}

function matches(text: unknown, expected: string | RegExp, what: string): void {
  if (typeof expected === 'string') assert.equal(text, expected);
  else assert.match(String(text ?? ''), expected, `the error's ${what}: "${text}" should match ${expected}`);
}

export interface SeenResult {
  readonly interfaces: readonly { readonly name: string; readonly mac?: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
  readonly dns: Json;
}

interface OldAddress {
  readonly ip: string;
  readonly gateway?: string;
  readonly routes?: SeenResult['routes'];
}

const KEYS: Readonly<Record<'old' | 'new', readonly string[]>> = {
  old: ['cniVersion', 'ip4', 'ip6', 'dns'],
  new: ['cniVersion', 'interfaces', 'ips', 'routes', 'dns'],
};

/** A result of the stage's version, in that version's form and no other (cni.md 1a, "Result formats"). */
export function resultOf(stage: Stage, answer: Answer): SeenResult {
  const result = printed(answer);
  const { version } = stage;
  assert.equal(result.cniVersion, version, "the result's cniVersion is the configuration's");
  const known = KEYS[atLeast(version, '0.3.0') ? 'new' : 'old'];
  assert.deepEqual(
    Object.keys(result).filter((key) => !known.includes(key)),
    [],
    `keys that ${version} does not have`,
  );
  const { interfaces = [], ips = [], routes = [], dns = {} } = result as Partial<SeenResult>;
  if (!atLeast(version, '0.3.0')) return { interfaces: [], ...fromOld(result), dns };
  assertFamilies(version, ips);
  return { interfaces, ips, routes, dns };
}

function fromOld({ ip4, ip6 }: Json): Pick<SeenResult, 'ips' | 'routes'> {
  const given = [ip4, ip6].filter((each) => each !== undefined) as OldAddress[];
  return {
    ips: given.map(({ ip, gateway }) => ({ address: ip, ...(gateway !== undefined && { gateway }) })),
    routes: given.flatMap(({ routes = [] }) => routes),
  };
}

/** Before 1.0.0 an address says its family, from then on it does not. */
function assertFamilies(version: CniVersion, ips: readonly { readonly address: string; readonly version?: string }[]) {
  for (const { address, version: family } of ips) {
    const expected = atLeast(version, '1.0.0') ? undefined : address.includes(':') ? '6' : '4';
    assert.equal(family, expected, `ips[].version of ${address} in ${version}`);
  }
}
