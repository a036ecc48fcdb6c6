// What the cases of the kernel suite are written with: a fresh pair of namespaces, steps, and a comparison of steps with
// the answers the kernel must give them.

import type { Test } from 'tap';
import type { Kernel } from '../../kernel/kernel.ts';
import type { Ip, Mac, Prefix } from '../../model/ip.ts';
import type { Item, Link, Namespace } from '../../model/state.ts';
import { printStep, type Step } from '../../model/steps.ts';

/** A kernel with two namespaces nothing has been done to. The host's namespace is to be used for tables only. */
export interface Subject {
  readonly kernel: Kernel;
  readonly namespace: Namespace;
  readonly other: Namespace;
  /** Where `namespace` was opened, and a file that is no namespace (undefined where there are none). */
  readonly path: string;
  readonly notANamespace: string | undefined;
  /** Closes `other` and takes its path away, so that it dies. */
  removeOther(): void;
  close(): void;
}

export type Setup = () => Subject;

/** Runs a case on a subject of its own. */
export type Case = (t: Test, subject: Subject) => void | Promise<void>;

/** Addresses, prefixes and MACs as literals: what the suite itself writes needs no parsing. */
type Plain<T> = T extends Ip | Prefix | Mac
  ? string
  : T extends Namespace
    ? T
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

const maker =
  <V extends Step['verb']>(verb: V) =>
  <K extends Item['type']>(type: K) =>
  (value: Plain<Extract<Item, { type: K }>['value']>): Step =>
    ({ verb, item: { type, value } }) as unknown as Step;

const makers = <V extends Step['verb']>(verb: V) => {
  const of = maker(verb);
  return {
    link: of('link'),
    address: of('address'),
    route: of('route'),
    neighbour: of('neighbour'),
    fdb: of('fdb'),
    qdisc: of('qdisc'),
    redirect: of('redirect'),
  };
};

/** add.link({ name: 'br0', kind: 'bridge' }) and so on, for every verb. */
export const add = makers('add');
export const replace = makers('replace');
export const remove = makers('delete');

/** A change to a link; its kind doesn't matter. */
export const set = (name: string, change: Partial<Plain<Link>>): Step =>
  maker('change')('link')({ name, kind: 'veth', ...change });
export const sysctl = (key: string, value: string): Step => maker('change')('sysctl')({ key, value });

/** Links with the least that a case has to say. */
export const bridge = (name: string, more: object = {}) => add.link({ name, kind: 'bridge', ...more });
export const veth = (name: string, peer: string, more: object = {}) =>
  add.link({ name, kind: 'veth', peer: { name: peer }, ...more });
export const vxlan = (name: string, options: object, more: object = {}) =>
  add.link({ name, kind: 'vxlan', vxlan: { vni: 1, port: 8472, local: '192.0.2.1', ...options }, ...more });

/** A veth pair in the namespace, both ends up, with known MACs. */
export const pair = (name: string, peer: string, number = 1): Step[] => [
  add.link({
    name,
    kind: 'veth',
    mac: `02:00:00:00:${hex(number)}:01`,
    up: true,
    peer: { name: peer, mac: `02:00:00:00:${hex(number)}:02` },
  }),
  set(peer, { up: true }),
];

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

/**
 * Applies the steps one after the other and compares every answer: an errno, or 'ok'. Failures must come with their step,
 * a code, a subject and the errno in their text.
 */
export function script(t: Test, { kernel, namespace }: Subject, lines: readonly (readonly [Step, string])[]): void {
  const answers = lines.map(([step]) => {
    const [failure] = kernel.apply(namespace, [step]);
    if (failure === undefined) return 'ok';
    const { error } = failure;
    const whole =
      failure.step === step &&
      error.code === 'kernel' &&
      error.subject &&
      error.errno &&
      error.message.includes(error.errno);
    return whole ? (error.errno as string) : `incomplete failure: ${error.message}`;
  });
  const print = (answer: readonly string[]) => lines.map(([step], at) => `${printStep(step)} => ${answer[at]}`);
  t.strictSame(print(answers), print(lines.map(([, expected]) => expected)));
}

/** Applies steps that must all succeed. */
export function must(t: Test, subject: Subject, ...steps: readonly Step[]): void {
  script(
    t,
    subject,
    steps.map((step) => [step, 'ok'] as const),
  );
}

/** The same case for both families: addresses of one plan. */
export interface Plan {
  readonly family: 4 | 6;
  readonly self: string;
  readonly address: string;
  /** In the subnet of `address`. */
  readonly sibling: string;
  readonly gateway: string;
  readonly gateway2: string;
  /** Outside of every subnet. */
  readonly far: string;
  readonly destination: string;
  /** Inside `destination`. */
  readonly inside: string;
  readonly destination2: string;
  readonly unreachable: string;
}

export const PLANS: readonly Plan[] = [
  {
    family: 4,
    self: '10.1.0.1',
    address: '10.1.0.1/24',
    sibling: '10.1.0.9/24',
    gateway: '10.1.0.2',
    gateway2: '10.1.0.3',
    far: '10.77.0.1',
    destination: '10.9.0.0/16',
    inside: '10.9.1.1',
    destination2: '10.8.0.0/16',
    unreachable: 'ENETUNREACH',
  },
  {
    family: 6,
    self: 'fd01::1',
    address: 'fd01::1/64',
    sibling: 'fd01::9/64',
    gateway: 'fd01::2',
    gateway2: 'fd01::3',
    far: 'fd77::1',
    destination: 'fd09::/64',
    inside: 'fd09::5',
    destination2: 'fd08::/64',
    unreachable: 'EHOSTUNREACH',
  },
];
