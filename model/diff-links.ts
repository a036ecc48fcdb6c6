// The links' part of a diff: which are born, born anew or changed, in what order, and what that does to everything else
// on them.

import type { Link, State } from './state.ts';
import type { Step } from './steps.ts';

export interface LinkSteps {
  readonly create: Step[];
  /** To be taken once the sysctls of new links stand. */
  readonly raise: Step[];
  /** Names of links that are new, whether or not there was another of the name. */
  readonly born: ReadonlySet<string>;
}

/** The steps for every wanted link, masters first. */
export function linkSteps(have: readonly Link[], want: State): LinkSteps {
  const there = new Map(have.map((link) => [link.name, link]));
  const born = new Set(want.links.filter((link) => mustCreate(there.get(link.name), link)).map(({ name }) => name));
  const create: Step[] = [];
  const raise: Step[] = [];
  for (const link of mastersFirst(want.links)) {
    const old = there.get(link.name);
    if (old !== undefined && !born.has(link.name)) {
      const change = linkChange(withoutBorn(old, born), link);
      if (change !== undefined) raise.push(changed(change));
      continue;
    }
    if (old !== undefined) create.push({ verb: 'delete', item: { type: 'link', value: old } });
    const later = link.up === true && want.sysctls.some((sysctl) => deviceOfKey(sysctl.key) === link.name);
    create.push({ verb: 'add', item: { type: 'link', value: later ? { ...link, up: false } : link } });
    if (later) raise.push(changed({ name: link.name, kind: link.kind, up: true }));
  }
  return { create, raise, born };
}

const changed = (value: Link): Step => ({ verb: 'change', item: { type: 'link', value } });

/** The device a sysctl belongs to: net/ipv6/conf/<device>/accept_ra. */
export const deviceOfKey = (key: string): string | undefined => key.split('/')[3];

function mastersFirst(links: readonly Link[]): Link[] {
  const masters = new Set(links.map((link) => link.master));
  return [...links.filter((link) => masters.has(link.name)), ...links.filter((link) => !masters.has(link.name))];
}

/** A kind can't be changed, nor what a VXLAN device was created with (drivers/net/vxlan: vxlan_changelink). */
function mustCreate(have: Link | undefined, want: Link): boolean {
  return have === undefined || have.kind !== want.kind || !covers(have.vxlan, want.vxlan);
}

/** A link whose bridge is made anew is the port of none by then. */
const withoutBorn = (have: Link, born: ReadonlySet<string>): Link =>
  typeof have.master === 'string' && born.has(have.master) ? { ...have, master: null, port: undefined } : have;

/** The part of `want` that differs from `have`, or undefined when none does. A port that moves loses its options. */
function linkChange(have: Link, want: Link): Link | undefined {
  const change: Record<string, unknown> = {};
  for (const key of ['up', 'mac', 'mtu', 'master', 'promiscuous', 'bridge', 'port', 'txChecksum'] as const) {
    if (!covers(have[key], want[key])) change[key] = want[key];
  }
  if (change.master !== undefined && want.port !== undefined) change.port = want.port;
  return Object.keys(change).length === 0 ? undefined : ({ name: want.name, kind: want.kind, ...change } as Link);
}

/**
 * The MTUs of the bridges that the steps disturb, once more: a bridge whose MTU nobody has changed in its life takes the
 * smallest of its ports' whenever one comes, goes or changes (net/bridge/br_if.c: br_mtu_auto_adjust).
 */
export function bridgeMtuSteps(have: readonly Link[], want: readonly Link[], steps: readonly Step[]): Step[] {
  const masters = new Map(have.map(({ name, master }) => [name, master]));
  return want
    .filter((bridge) => bridge.kind === 'bridge' && bridge.mtu !== undefined)
    .filter((bridge) =>
      steps.some((step) => step.item.type === 'link' && disturbs(step.verb, step.item.value, bridge, masters)),
    )
    .map(({ name, kind, mtu }) => changed({ name, kind, mtu }));
}

function disturbs(verb: Step['verb'], link: Link, bridge: Link, masters: ReadonlyMap<string, Link['master']>): boolean {
  const isPort = link.master === bridge.name || masters.get(link.name) === bridge.name;
  if (verb === 'add') return isPort && link.mtu !== bridge.mtu;
  return isPort && (verb === 'delete' || link.master !== undefined || link.mtu !== undefined);
}

/** Whether every field that `want` states has that value in `have`. */
export function covers(have: unknown, want: unknown): boolean {
  if (want === undefined || have === want) return true;
  if (typeof want !== 'object' || want === null || typeof have !== 'object' || have === null) return false;
  return Object.entries(want).every(([key, value]) => covers((have as Record<string, unknown>)[key], value));
}
