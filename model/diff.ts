// From what is there to what should be: the ordered steps, and nothing for what is already right. What is in `have` but
// not in `want` goes only if `owns` says it is ours.
//
// Order: new devices (masters first), their sysctls while they are still down (accept_ra must be 0 before a device sees
// its first advertisement), then up, then addresses, forwarding entries, neighbours, routes. Deletions come last, in the
// opposite order: add before delete, so that traffic to a peer whose MAC changed always has a complete path.

import { identity, type Item, itemsOf, type Link, type State } from './state.ts';
import type { Step } from './steps.ts';

/** Whether an object found in the kernel is ours to remove. */
export type Owns = (item: Item) => boolean;

export const OWNS_NOTHING: Owns = () => false;

/** The steps from `have` to `want`. Pure; empty when nothing differs. */
export function diff(have: State, want: State, owns: Owns = OWNS_NOTHING): Step[] {
  const present = new Map(itemsOf(have).map((item) => [identity(item), item]));
  const wanted = new Set(itemsOf(want).map(identity));
  const reborn = new Set<string>();
  const links = linkSteps(want, present, reborn);
  const settings = itemsOf(want).flatMap((item) => (item.type === 'link' ? [] : settingStep(item, present, reborn)));
  return [
    ...links.create,
    ...settings.filter((step) => step.item.type === 'sysctl'),
    ...links.raise,
    ...settings.filter((step) => step.item.type !== 'sysctl'),
    ...removals(have, wanted, reborn, owns),
  ];
}

interface LinkSteps {
  readonly create: Step[];
  readonly raise: Step[];
}

function linkSteps(want: State, present: ReadonlyMap<string, Item>, reborn: Set<string>): LinkSteps {
  const create: Step[] = [];
  const raise: Step[] = [];
  for (const link of mastersFirst(want.links)) {
    const have = present.get(`link ${link.name}`)?.value as Link | undefined;
    if (have !== undefined && !mustRecreate(have, link)) {
      const change = linkChange(have, link);
      if (change !== undefined) raise.push({ verb: 'change', item: { type: 'link', value: change } });
      continue;
    }
    reborn.add(link.name);
    if (have !== undefined) create.push({ verb: 'delete', item: { type: 'link', value: have } });
    const later = link.up === true && want.sysctls.some((sysctl) => namesDevice(sysctl.key, link.name));
    create.push({ verb: 'add', item: { type: 'link', value: later ? { ...link, up: false } : link } });
    if (later) raise.push({ verb: 'change', item: { type: 'link', value: { name: link.name, kind: link.kind, up: true } } });
  }
  return { create, raise };
}

/** Whether the sysctl belongs to the device: net/ipv6/conf/<device>/accept_ra. */
const namesDevice = (key: string, device: string): boolean => key.split('/')[3] === device;

function mastersFirst(links: readonly Link[]): Link[] {
  const masters = new Set(links.map((link) => link.master));
  return [...links.filter((link) => masters.has(link.name)), ...links.filter((link) => !masters.has(link.name))];
}

/** A kind can't be changed, nor what a VXLAN device was created with (drivers/net/vxlan: vxlan_changelink). */
function mustRecreate(have: Link, want: Link): boolean {
  return have.kind !== want.kind || !covers(have.vxlan, want.vxlan);
}

/** The part of `want` that differs from `have`, or undefined when none does. */
export function linkChange(have: Link, want: Link): Link | undefined {
  const change: Record<string, unknown> = {};
  for (const key of ['up', 'mac', 'mtu', 'master', 'promiscuous', 'bridge', 'port'] as const) {
    if (!covers(have[key], want[key])) change[key] = want[key];
  }
  return Object.keys(change).length === 0 ? undefined : ({ name: want.name, kind: want.kind, ...change } as Link);
}

function settingStep(item: Exclude<Item, { type: 'link' }>, present: ReadonlyMap<string, Item>, reborn: ReadonlySet<string>): Step[] {
  const have = deviceOf(item) !== undefined && reborn.has(deviceOf(item) as string) ? undefined : present.get(identity(item));
  if (have !== undefined && covers(comparable(have), comparable(item))) return [];
  if (item.type === 'sysctl') return [{ verb: 'change', item }];
  return [{ verb: have === undefined && item.type === 'address' ? 'add' : 'replace', item }];
}

/** What of an item is compared: not what can only be written; and in a route a missing gateway is a statement. */
function comparable(item: Item): unknown {
  if (item.type === 'address') return { ...item.value, noDad: undefined };
  if (item.type === 'route') return { ...item.value, via: item.value.via ?? null, type: item.value.type ?? 'unicast' };
  return item.value;
}

function removals(have: State, wanted: ReadonlySet<string>, reborn: ReadonlySet<string>, owns: Owns): Step[] {
  const gone = itemsOf(have).filter((item) => item.type !== 'sysctl' && !wanted.has(identity(item)) && owns(item));
  const links = new Set(gone.filter((item) => item.type === 'link').map((item) => (item.value as Link).name));
  const cascades = (item: Item) => {
    const device = item.type === 'link' ? undefined : deviceOf(item);
    return device !== undefined && (links.has(device) || reborn.has(device));
  };
  return gone
    .filter((item) => !cascades(item))
    .reverse()
    .map((item) => ({ verb: 'delete', item }) as Step);
}

/** The device an object belongs to, with which it vanishes. */
export function deviceOf(item: Item): string | undefined {
  if (item.type === 'link') return item.value.name;
  if (item.type === 'sysctl') return undefined;
  return item.value.device;
}

/** Whether every field that `want` states has that value in `have`. */
export function covers(have: unknown, want: unknown): boolean {
  if (want === undefined || have === want) return true;
  if (typeof want !== 'object' || want === null || typeof have !== 'object' || have === null) return false;
  return Object.entries(want).every(([key, value]) => covers((have as Record<string, unknown>)[key], value));
}
