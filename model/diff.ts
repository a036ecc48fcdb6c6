// From what is there to what should be: the ordered steps, and nothing for what is already right. What is in `have` but
// not in `want` goes only if `owns` says it is ours.
//
// Order: new devices (masters first), their sysctls while they are still down (accept_ra must be 0 before a device sees
// its first advertisement), then up, then addresses, forwarding entries, neighbours, routes. Deletions come last, in the
// opposite order: add before delete, so that traffic to a peer whose MAC changed always has a complete path. Only
// addresses go first, and what the kernel drops by itself when one goes (see UPSETS): the rest of it is then put back.

import { bridgeMtuSteps, covers, deviceOfKey, type LinkSteps, linkSteps } from './diff-links.ts';
import { addressOf, contains, type Family, familyOf, type Ip } from './ip.ts';
import { DEFAULT_METRIC6, identity, type Item, itemsOf, metricOf, type Route, type State } from './state.ts';
import { eachOf, finish, mapped, type Sliced } from './slices.ts';
import type { Step } from './steps.ts';

/** Whether an object found in the kernel is ours to remove. */
export type Owns = (item: Item) => boolean;

/** Nothing is removed. */
export const OWNS_NOTHING: Owns = () => false;

type Removable = Exclude<Item, { type: 'sysctl' }>;
type Setting = Exclude<Item, { type: 'link' }>;

/** The steps from `have` to `want`. Pure; empty when nothing differs. */
export const diff = (have: State, want: State, owns: Owns = OWNS_NOTHING): Step[] =>
  finish(diffInSlices(have, want, owns));

/** The same for thousands of objects, without holding up what else there is to do. */
export function* diffInSlices(have: State, want: State, owns: Owns): Sliced<Step[]> {
  // Each identity is made once: there are tens of thousands where there are thousands of peers.
  const present = yield* byIdentity(itemsOf(have));
  const wanted = new Set<string>();
  const due: (readonly [id: string, item: Item])[] = [];
  yield* eachOf(itemsOf(want), (item) => {
    const id = identity(item);
    wanted.add(id);
    due.push([id, item]);
  });
  const links = linkSteps(have.links, want);
  const stale = yield* mapped(present, ([id, item]) =>
    item.type !== 'sysctl' && !wanted.has(id) && owns(item) ? item : undefined,
  );
  const upheaval = upheavalOf(have, links, stale);
  const removals = stale.filter((item) => !goesByItself(item, upheaval)).reverse();
  const goesFirst = (item: Removable) => item.type === 'address' || isUpset(item, upheaval);
  const settings: Step[] = [];
  yield* eachOf(due, ([id, item]) => {
    if (item.type !== 'link') settings.push(...settingSteps(item, present.get(id), upheaval));
  });
  const last = removals.filter((item) => !goesFirst(item)).map(deletion);
  return [
    ...removals.filter(goesFirst).map(deletion),
    ...links.create,
    ...settings.filter((step) => step.item.type === 'sysctl'),
    ...links.raise,
    ...bridgeMtuSteps(have.links, want.links, [...links.create, ...links.raise]),
    ...settings.filter((step) => step.item.type !== 'sysctl'),
    ...last,
    ...bridgeMtuSteps(have.links, want.links, last),
  ];
}

function* byIdentity(items: readonly Item[]): Sliced<Map<string, Item>> {
  const found = new Map<string, Item>();
  yield* eachOf(items, (item) => found.set(identity(item), item));
  return found;
}

/** A deletion that states no metric takes the IPv6 route of the lowest, which need not be this one. */
function deletion(item: Removable): Step {
  const unsaid = item.type === 'route' && item.value.metric === undefined && familyOf(item.value.destination) === 6;
  return { verb: 'delete', item: unsaid ? { type: 'route', value: { ...item.value, metric: DEFAULT_METRIC6 } } : item };
}

/** What the kernel drops by itself while the steps are taken. */
interface Upheaval {
  /** Devices that are made anew. */
  readonly born: ReadonlySet<string>;
  /** Devices that are deleted in the end. */
  readonly dying: ReadonlySet<string>;
  /** "route 4 cni0": the IPv4 routes of cni0. */
  readonly upset: ReadonlySet<string>;
  /** Addresses that go, if only for a moment, and with them the routes that prefer them as their source. */
  readonly sources: ReadonlySet<Ip>;
}

/**
 * What a device may drop, beyond what it is told: with an IPv4 address go the others of its subnet and, if it was the last,
 * all the device's IPv4; with a MAC go even permanent neighbours; with up goes all but IPv4 addresses. With an MTU changes
 * that of IPv6 routes (net/ipv6/route.c: rt6_mtu_change_route).
 */
const UPSETS = {
  address: ['address 4', 'neighbour 4', 'route 4'],
  mac: ['neighbour 4', 'neighbour 6'],
  mtu: ['route 6'],
  down: ['neighbour 4', 'route 4', 'address 6', 'neighbour 6', 'route 6'],
} as const;

function upheavalOf(have: State, { raise, born }: LinkSteps, stale: readonly Removable[]): Upheaval {
  const upset = new Set<string>();
  const add = (cause: keyof typeof UPSETS, device: string) => {
    for (const what of UPSETS[cause]) upset.add(`${what} ${device}`);
  };
  for (const { item } of raise) {
    if (item.type === 'link' && item.value.mac !== undefined) add('mac', item.value.name);
    if (item.type === 'link' && item.value.mtu !== undefined) add('mtu', item.value.name);
    if (item.type === 'link' && item.value.up === false) add('down', item.value.name);
  }
  for (const item of stale)
    if (item.type === 'address' && familyOf(item.value.address) === 4) add('address', item.value.device);
  const dying = new Set(stale.flatMap((item) => (item.type === 'link' ? item.value.name : [])));
  const upheaval = { born, dying, upset, sources: new Set<Ip>() };
  const gone = new Set(stale.map((item) => item.value));
  for (const value of have.addresses) {
    const item: Item = { type: 'address', value };
    if (gone.has(value) || goesByItself(item, upheaval) || isDropped(item, upheaval))
      upheaval.sources.add(addressOf(value.address));
  }
  return upheaval;
}

function isUpset(item: Item, upheaval: Upheaval): boolean {
  const source = item.type === 'route' ? item.value.source : undefined;
  return isDropped(item, upheaval) || (source !== undefined && upheaval.sources.has(source));
}

const isDropped = (item: Item, { upset }: Upheaval): boolean =>
  upset.has(`${item.type} ${familyOfItem(item)} ${deviceOf(item)}`);

function familyOfItem(item: Item): Family | undefined {
  switch (item.type) {
    case 'address':
      return familyOf(item.value.address);
    case 'neighbour':
      return familyOf(item.value.ip);
    case 'route':
      return familyOf(item.value.destination);
    default:
      return undefined;
  }
}

/** Whether the object vanishes with its device, which is deleted or made anew. */
function goesByItself(item: Item, { born, dying }: Upheaval): boolean {
  const device = item.type === 'link' ? undefined : deviceOf(item);
  return device !== undefined && (born.has(device) || dying.has(device));
}

function settingSteps(item: Setting, there: Item | undefined, upheaval: Upheaval): Step[] {
  const device = there?.type === 'sysctl' ? deviceOfKey(there.value.key) : there && deviceOf(there);
  const gone = device !== undefined && upheaval.born.has(device);
  const have = gone ? undefined : there;
  if (have !== undefined && !isUpset(have, upheaval) && covers(comparable(have), comparable(item))) return [];
  if (item.type === 'sysctl') return [{ verb: 'change', item }];
  const step: Step = { verb: have === undefined && item.type === 'address' ? 'add' : 'replace', item };
  if (have?.type !== 'route' || item.type !== 'route' || wentDown(have.value, upheaval)) return [step];
  return inTheWay(have.value, item.value) ? [deletion(have), step] : [step];
}

/** Whether the route's device is taken down, which is all that IPv6 addresses are dropped for. */
const wentDown = ({ device }: Route, { upset }: Upheaval): boolean => upset.has(`address 6 ${device}`);

/**
 * Whether a route must go before the one that replaces it can come: IPv6 refuses an on-link gateway that it finds by another
 * device (net/ipv6/route.c, ip6_route_check_nh_onlink), and the gateway of a VXLAN peer lies inside the route's destination.
 */
function inTheWay(have: Route, want: Route): boolean {
  if (have.device === undefined || have.device === want.device || want.onlink !== true || want.via === undefined)
    return false;
  return familyOf(want.destination) === 6 && contains(want.destination, want.via);
}

/** What of an item is compared: not what can only be written; and in a route a missing gateway is a statement. */
function comparable(item: Item): unknown {
  if (item.type === 'address') return { ...item.value, noDad: undefined };
  if (item.type !== 'route') return item.value;
  return {
    ...item.value,
    via: item.value.via ?? null,
    type: item.value.type ?? 'unicast',
    metric: metricOf(item.value),
  };
}

/** The device an object belongs to, with which it vanishes. */
function deviceOf(item: Item): string | undefined {
  if (item.type === 'link') return item.value.name;
  if (item.type === 'sysctl') return undefined;
  return item.value.device;
}
