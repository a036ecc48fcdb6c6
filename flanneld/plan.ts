// What the host should hold: the backend's devices, a way to each peer, forwarding switched on. Pure. Each peer is planned
// for itself: a lease that makes no sense is refused with its reason and changes nothing for the others.

import { OWNS_NOTHING, type Owns } from '../model/diff.ts'
import { contains, type Family, type Ip, overlaps, type Prefix } from '../model/ip.ts'
import { familiesOf, leaseKey, type Lease } from '../model/lease.ts'
import { identity, type Item, itemsOf, merge, OUR_PROTOCOL, type Route, type State, type Sysctl } from '../model/state.ts'
import type { Backend, Site, Underlay } from './backend/backend.ts'
import { mayReplace, ownership } from './ownership.ts'
import { isOnLink } from './on-link.ts'

export interface PlanInput {
  readonly site: Site
  readonly backend: Backend
  /** Our own lease. */
  readonly self: Lease
  /** An earlier one wins where two claim the same thing. */
  readonly peers: readonly Lease[]
  /** Networks whose leftovers are ours: see ownership.ts. */
  readonly networks: readonly Prefix[]
  /** Whether what is ours and not wanted goes. */
  readonly removals: boolean
  /** A blackhole for our own subnet, below the bridge's route. */
  readonly blackhole: boolean
  /** Interfaces with an IPv6 default route by router advertisement. */
  readonly advertised: readonly string[]
}

/** How one family of one peer's lease is treated. */
export interface PeerPlan {
  readonly key: string
  readonly lease: Lease
  readonly family: Family
  /** What is wanted for it, as {@link identity} names it. */
  readonly items: readonly string[]
  /** Why nothing is. */
  readonly refused?: string | undefined
}

export interface Plan {
  readonly want: State
  readonly owns: Owns
  readonly peers: readonly PeerPlan[]
}

/** Larger than any metric of a pod bridge's own route, which must win. */
const BLACKHOLE_METRIC = 4096
const IPV6_PRESENT = 'net/ipv6/conf/default/accept_ra'

/** Sysctls that planning has to know the value of. */
export const PLANNING_SYSCTLS: readonly string[] = [IPV6_PRESENT]

export function planHost(input: PlanInput, have: State): Plan {
  const { backend, self, site } = input
  const { sysctls: _, ...devices } = backend.base(self)
  const base = merge(devices, { sysctls: wantedSysctls(input), routes: input.blackhole ? blackholes(self) : [] })
  const claims = new Map(itemsOf(base).map((item) => [identity(item), { item, key: leaseKey(self.subnet) }]))
  const surroundings = surroundingsOf(have)
  const reached = input.peers.flatMap((lease) =>
    familiesOf(lease.subnet)
      .filter((family) => site.networks[family] !== undefined)
      .map((family) => planPeer(input, surroundings, claims, lease, family)),
  )
  const want = merge(base, ...reached.map(({ state }) => state))
  const gateways = input.peers.flatMap((lease) => familiesOf(lease.publicIp).map((family) => lease.publicIp[family] as Ip))
  return {
    want: { ...want, sysctls: supported(want.sysctls, have) },
    owns: input.removals ? ownership(have, { networks: input.networks, devices: backend.devices, gateways }) : OWNS_NOTHING,
    peers: reached.map(({ plan }) => plan),
  }
}

interface Claimed {
  readonly item: Item
  readonly key: string
}
interface Reached {
  readonly plan: PeerPlan
  readonly state: Partial<State>
}

function planPeer(
  input: PlanInput,
  surroundings: Surroundings,
  claims: Map<string, Claimed>,
  lease: Lease,
  family: Family,
): Reached {
  const key = leaseKey(lease.subnet)
  const refuse = (refused: string): Reached => ({ plan: { key, lease, family, items: [], refused }, state: {} })
  const problem = leaseProblem(input, lease, family)
  if (problem !== undefined) return refuse(problem)
  const { backend, site } = input
  const publicIp = lease.publicIp[family] as Ip
  const reach = backend.reach({
    family,
    subnet: lease.subnet[family] as Prefix,
    publicIp,
    data: lease.backendData[family],
    onLink: () => isOnLink(surroundings.roads, publicIp, (site.underlay[family] as Underlay).device),
  })
  if ('refused' in reach) return refuse(reach.refused)
  const items = itemsOf(merge(reach.state))
  const conflict = conflictOf(items, claims, surroundings.foreign)
  if (conflict !== undefined) return refuse(conflict)
  const fresh = items.filter((item) => !claims.has(identity(item)))
  for (const item of fresh) claims.set(identity(item), { item, key })
  return { plan: { key, lease, family, items: items.map(identity) }, state: stateOf(fresh) }
}

const stateOf = (items: readonly Item[]): Partial<State> => ({
  fdb: items.flatMap((item) => (item.type === 'fdb' ? [item.value] : [])),
  neighbours: items.flatMap((item) => (item.type === 'neighbour' ? [item.value] : [])),
  routes: items.flatMap((item) => (item.type === 'route' ? [item.value] : [])),
})

/** Why a lease can't be meant for us, whatever the backend. Anyone who can write to etcd could publish it. */
function leaseProblem({ site, self, backend }: PlanInput, lease: Lease, family: Family): string | undefined {
  const [subnet, network, own] = [lease.subnet[family] as Prefix, site.networks[family] as Prefix, self.subnet[family]]
  const publicIp = lease.publicIp[family]
  if (lease.backendType !== backend.publishedType) return `has backend ${lease.backendType || '(none)'}, we have ${backend.type}`
  if (!contains(network, subnet)) return `${subnet} is not inside ${network}`
  if (own !== undefined && overlaps(own, subnet)) return `${subnet} overlaps our own ${own}`
  if (publicIp === undefined) return `publishes no IPv${family} address`
  if (publicIp === site.underlay[family]?.publicIp) return `publishes our own address ${publicIp}`
  return undefined
}

/** Two peers may share a VTEP; they may not say different things about one. And a route of another's making stays. */
function conflictOf(items: readonly Item[], claims: ReadonlyMap<string, Claimed>, foreign: ReadonlyMap<string, Route>): string | undefined {
  for (const item of items) {
    const id = identity(item)
    const claimed = claims.get(id)
    if (claimed !== undefined && JSON.stringify(claimed.item) !== JSON.stringify(item)) return `${id} is also claimed by ${claimed.key}`
    const route = foreign.get(id)
    if (route !== undefined) return `this host has ${route.destination} on ${route.device ?? 'no device'} itself (route protocol ${route.protocol})`
  }
  return undefined
}

/** What others have put there, taken together once: with thousands of peers most routes are ours. */
interface Surroundings {
  /** Every route but ours. */
  readonly roads: readonly Route[]
  /** Those that are not to be overwritten, by {@link identity}. */
  readonly foreign: ReadonlyMap<string, Route>
}

function surroundingsOf({ routes }: State): Surroundings {
  const roads = routes.filter(({ protocol }) => protocol !== OUR_PROTOCOL)
  const foreign = roads.filter((route) => !mayReplace(route)).map((value) => [identity({ type: 'route', value }), value] as const)
  return { roads, foreign: new Map(foreign) }
}

/** Every sysctl that is held to a value. */
export const wantedSysctls = (input: PlanInput): Sysctl[] => [...(input.backend.base(input.self).sysctls ?? []), ...forwarding(input)]

/** The order counts: forwarding=1 makes the kernel drop what a router advertised, unless accept_ra is 2. */
function forwarding({ site, advertised }: PlanInput): Sysctl[] {
  const families = familiesOf(site.networks)
  return [
    ...(families.includes(4) ? [{ key: 'net/ipv4/ip_forward', value: '1' }] : []),
    ...(families.includes(6) ? advertised.map((device) => ({ key: `net/ipv6/conf/${device}/accept_ra`, value: '2' })) : []),
    ...(families.includes(6) ? [{ key: 'net/ipv6/conf/all/forwarding', value: '1' }] : []),
  ]
}

const blackholes = (self: Lease): Route[] =>
  familiesOf(self.subnet).map((family) => ({
    destination: self.subnet[family] as Prefix,
    type: 'blackhole',
    metric: BLACKHOLE_METRIC,
    protocol: OUR_PROTOCOL,
  }))

/** A kernel without IPv6 has none of its keys. */
function supported(sysctls: readonly Sysctl[], have: State): Sysctl[] {
  const ipv6 = have.sysctls.some(({ key }) => key === IPV6_PRESENT)
  return sysctls.filter(({ key }) => ipv6 || !key.startsWith('net/ipv6/'))
}
