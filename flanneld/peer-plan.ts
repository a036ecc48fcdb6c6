// The way to each peer, planned for each by itself: a lease that makes no sense is refused with its reason and changes
// nothing for the others. Pure.

import { contains, type Family, overlaps, type Prefix } from '../model/ip.ts';
import { familiesOf, type Lease, leaseKey } from '../model/lease.ts';
import { eachOf, type Sliced } from '../model/slices.ts';
import {
  type FdbEntry,
  identity,
  type Item,
  itemsOf,
  type Neighbour,
  OUR_PROTOCOL,
  type Route,
  type State,
} from '../model/state.ts';
import type { Backend, Reach, Site, Underlay } from './backend/backend.ts';
import { isOnLink } from './on-link.ts';
import { mayReplace } from './ownership.ts';

/** How one family of one peer's lease is treated. */
export interface PeerPlan {
  readonly key: string;
  readonly lease: Lease;
  readonly family: Family;
  /** What is wanted for it, as {@link identity} names it. */
  readonly items: readonly string[];
  /** Why nothing is. */
  readonly refused?: string | undefined;
}

/**
 * Who wants something, by the key of the lease: this node, or a peer. What a peer wants is worked out again when it is asked
 * for, which is seldom; kept, it takes megabytes where there are thousands.
 */
export type Claimant =
  | { readonly key: string; readonly items: readonly Item[] }
  | { readonly key: string; readonly lease: Lease; readonly family: Family };

/** Who wants what, by {@link identity}: the first that does. */
export type Claims = Map<string, Claimant>;

/** What others have put on the host, taken together once: with thousands of peers most routes are ours. */
export interface Surroundings {
  /** Every route but ours. */
  readonly roads: readonly Route[];
  /** Those that are not to be overwritten, by {@link identity}. */
  readonly foreign: ReadonlyMap<string, Route>;
}

/** Of the state of the host. */
export function surroundingsOf({ routes }: State): Surroundings {
  const roads = routes.filter(({ protocol }) => protocol !== OUR_PROTOCOL);
  const foreign = roads.filter((route) => !mayReplace(route));
  return { roads, foreign: new Map(foreign.map((value) => [identity({ type: 'route', value }), value])) };
}

export interface PeerPlanInput {
  readonly site: Site;
  readonly backend: Backend;
  /** Our own lease. */
  readonly self: Lease;
}

export interface Reached {
  readonly plan: PeerPlan;
  /** What no other peer has claimed before. */
  readonly items: readonly Item[];
}

/** Plans each family of each lease that the network has, and notes in `claims` what is wanted. */
export function* planPeers(
  input: PeerPlanInput,
  surroundings: Surroundings,
  claims: Claims,
  leases: readonly Lease[],
): Sliced<Reached[]> {
  const reached: Reached[] = [];
  yield* eachOf(leases, (lease) => {
    for (const family of familiesOf(lease.subnet)) {
      if (input.site.networks[family] !== undefined) reached.push(planPeer(input, surroundings, claims, lease, family));
    }
  });
  return reached;
}

function planPeer(
  input: PeerPlanInput,
  surroundings: Surroundings,
  claims: Claims,
  lease: Lease,
  family: Family,
): Reached {
  const key = leaseKey(lease.subnet);
  const refuse = (refused: string): Reached => ({ plan: { key, lease, family, items: [], refused }, items: [] });
  const reach = reachOf(input, surroundings, lease, family);
  if ('refused' in reach) return refuse(reach.refused);
  const claimant: Claimant = { key, lease, family };
  const ids: string[] = [];
  const items: Item[] = [];
  for (const item of itemsOf(reach.state)) {
    const id = identity(item);
    const first = claims.get(id);
    const isOther = first !== undefined && first.key !== key;
    // Two peers may share a VTEP; they may not say different things about one.
    if (isOther && !isSame(item, claimed(input, surroundings, first, id)))
      return refuse(`${id} is also claimed by ${first.key}`);
    const obstacle = obstacleOf(surroundings.foreign.get(id));
    if (obstacle !== undefined) return refuse(obstacle);
    ids.push(id);
    if (!isOther) items.push(item);
  }
  for (const item of items) claims.set(identity(item), claimant);
  return { plan: { key, lease, family, items: ids }, items };
}

/** What reaches a peer in one family, or why nothing can. */
function reachOf(input: PeerPlanInput, { roads }: Surroundings, lease: Lease, family: Family): Reach {
  const publicIp = lease.publicIp[family];
  if (publicIp === undefined) return { refused: `publishes no IPv${family} address` };
  const refused = leaseProblem(input, lease, family);
  if (refused !== undefined) return { refused };
  const { device } = input.site.underlay[family] as Underlay;
  return input.backend.reach({
    family,
    subnet: lease.subnet[family] as Prefix,
    publicIp,
    data: lease.backendData[family],
    onLink: () => isOnLink(roads, publicIp, device),
  });
}

/** What somebody has claimed, by its {@link identity}. */
export function claimed(
  input: PeerPlanInput,
  surroundings: Surroundings,
  claimant: Claimant,
  id: string,
): Item | undefined {
  const isIt = (item: Item) => identity(item) === id;
  if ('items' in claimant) return claimant.items.find(isIt);
  const reach = reachOf(input, surroundings, claimant.lease, claimant.family);
  return 'refused' in reach ? undefined : itemsOf(reach.state).find(isIt);
}

const isSame = (a: Item, b: Item | undefined): boolean => JSON.stringify(a) === JSON.stringify(b);

/** What is wanted for all of them together. */
export function stateOf(reached: readonly Reached[]): Partial<State> {
  const state = { fdb: [] as FdbEntry[], neighbours: [] as Neighbour[], routes: [] as Route[] };
  for (const { items } of reached) {
    for (const { type, value } of items) {
      if (type === 'fdb') state.fdb.push(value);
      else if (type === 'neighbour') state.neighbours.push(value);
      else if (type === 'route') state.routes.push(value);
    }
  }
  return state;
}

/** Why a lease can't be meant for us, whatever the backend. Anyone who can write to the store could publish it. */
function leaseProblem({ site, self, backend }: PeerPlanInput, lease: Lease, family: Family): string | undefined {
  const [subnet, network, own] = [lease.subnet[family] as Prefix, site.networks[family] as Prefix, self.subnet[family]];
  if (lease.backendType !== backend.publishedType) {
    const theirs = lease.backendType || 'none (a reservation that no agent has taken up, or a node with udp or alloc)';
    return `has backend ${theirs}, we have ${backend.type}`;
  }
  if (!contains(network, subnet)) return `${subnet} is not inside ${network}`;
  if (own !== undefined && overlaps(own, subnet)) return `${subnet} overlaps our own ${own}`;
  const publicIp = lease.publicIp[family];
  return publicIp === site.underlay[family]?.publicIp ? `publishes our own address ${publicIp}` : undefined;
}

/** A route of another's making stays. */
const obstacleOf = (route: Route | undefined): string | undefined =>
  route &&
  `this host has ${route.destination} on ${route.device ?? 'no device'} itself (route protocol ${route.protocol})`;
