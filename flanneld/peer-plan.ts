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
import type { Backend, Site, Underlay } from './backend/backend.ts';
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

/** What is wanted, and the lease that it is wanted for. */
interface Claim {
  readonly item: Item;
  readonly key: string;
}

/** Who wants what, by {@link identity}: the first that does. */
export type Claims = Map<string, Claim>;

/** What others have put on the host, taken together once: with thousands of peers most routes are ours. */
export interface Surroundings {
  /** Every route but ours. */
  readonly roads: readonly Route[];
  /** Those that are not to be overwritten, by {@link identity}. */
  readonly foreign: ReadonlyMap<string, Route>;
}

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
  { roads, foreign }: Surroundings,
  claims: Claims,
  lease: Lease,
  family: Family,
): Reached {
  const key = leaseKey(lease.subnet);
  const refuse = (refused: string): Reached => ({ plan: { key, lease, family, items: [], refused }, items: [] });
  const publicIp = lease.publicIp[family];
  if (publicIp === undefined) return refuse(`publishes no IPv${family} address`);
  const problem = leaseProblem(input, lease, family);
  if (problem !== undefined) return refuse(problem);
  const { device } = input.site.underlay[family] as Underlay;
  const reach = input.backend.reach({
    family,
    subnet: lease.subnet[family] as Prefix,
    publicIp,
    data: lease.backendData[family],
    onLink: () => isOnLink(roads, publicIp, device),
  });
  if ('refused' in reach) return refuse(reach.refused);
  const ids: string[] = [];
  const items: Item[] = [];
  for (const item of itemsOf(reach.state)) {
    const id = identity(item);
    const claim = claims.get(id);
    const conflict = conflictOf(id, item, key, claim) ?? obstacleOf(foreign.get(id));
    if (conflict !== undefined) return refuse(conflict);
    ids.push(id);
    if (claim === undefined || claim.key === key) items.push(item);
  }
  for (const item of items) claims.set(identity(item), { item, key });
  return { plan: { key, lease, family, items: ids }, items };
}

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
    return `has backend ${lease.backendType || '(none)'}, we have ${backend.type}`;
  }
  if (!contains(network, subnet)) return `${subnet} is not inside ${network}`;
  if (own !== undefined && overlaps(own, subnet)) return `${subnet} overlaps our own ${own}`;
  const publicIp = lease.publicIp[family];
  return publicIp === site.underlay[family]?.publicIp ? `publishes our own address ${publicIp}` : undefined;
}

/** Two peers may share a VTEP; they may not say different things about one. */
function conflictOf(id: string, item: Item, key: string, claim: Claim | undefined): string | undefined {
  if (claim === undefined || claim.key === key || JSON.stringify(claim.item) === JSON.stringify(item)) return undefined;
  return `${id} is also claimed by ${claim.key}`;
}

/** A route of another's making stays. */
const obstacleOf = (route: Route | undefined): string | undefined =>
  route &&
  `this host has ${route.destination} on ${route.device ?? 'no device'} itself (route protocol ${route.protocol})`;
