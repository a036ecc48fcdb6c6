// What the host should hold: the backend's devices, a way to each peer, forwarding switched on. Pure.

import { OWNS_NOTHING, type Owns } from '../model/diff.ts';
import type { Ip, Prefix } from '../model/ip.ts';
import { familiesOf, type Lease, leaseKey } from '../model/lease.ts';
import { finish, type Sliced } from '../model/slices.ts';
import { identity, itemsOf, merge, OUR_PROTOCOL, type Route, type State, type Sysctl } from '../model/state.ts';
import { ownership } from './ownership.ts';
import {
  type Claimant,
  type Claims,
  claimed,
  type PeerPlan,
  type PeerPlanInput,
  planPeers,
  stateOf,
  type Surroundings,
  surroundingsOf,
} from './peer-plan.ts';

export interface PlanInput extends PeerPlanInput {
  /** An earlier one wins where two claim the same thing. */
  readonly peers: readonly Lease[];
  /** Networks whose leftovers are ours: see ownership.ts. */
  readonly networks: readonly Prefix[];
  /** Whether what is ours and not wanted goes. */
  readonly removals: boolean;
  /** A blackhole for our own subnet, below the bridge's route. */
  readonly blackhole: boolean;
  /** Interfaces with an IPv6 default route by router advertisement. */
  readonly advertised: readonly string[];
}

export interface Plan {
  readonly want: State;
  readonly owns: Owns;
  readonly peers: readonly PeerPlan[];
  /** What leases that came or changed since then need besides, on the host as it was then. */
  more(leases: readonly Lease[]): State;
  /** The routes that were wanted for these leases alone. */
  routesOf(leases: readonly Lease[]): State;
}

/** Larger than any metric of a pod bridge's own route, which must win. */
const BLACKHOLE_METRIC = 4096;
const IPV6_PRESENT = 'net/ipv6/conf/default/accept_ra';

/** Sysctls that planning has to know the value of. */
export const PLANNING_SYSCTLS: readonly string[] = [IPV6_PRESENT];

/** What the host should have for our lease and the peers', `have` being what it has. Pure. */
export const planHost = (input: PlanInput, have: State): Plan => finish(planInSlices(input, have));

/** The same for thousands of peers. */
export function* planInSlices(input: PlanInput, have: State): Sliced<Plan> {
  const { backend, self } = input;
  const there = (device: string) => have.links.some(({ name }) => name === device);
  const { sysctls: _, ...devices } = backend.base(self, there);
  const base = merge(devices, {
    sysctls: wantedSysctls(input, there),
    routes: input.blackhole ? blackholes(self) : [],
  });
  const own: Claimant = { key: leaseKey(self.subnet), items: itemsOf(base) };
  const claims: Claims = new Map(own.items.map((item) => [identity(item), own]));
  const surroundings = surroundingsOf(have);
  const reached = yield* planPeers(input, surroundings, claims, input.peers);
  yield;
  const want = merge(base, stateOf(reached));
  yield;
  const gateways = backend.routesAreOthers ? [] : input.peers.flatMap(addressesOf);
  return {
    want: { ...want, sysctls: supported(want.sysctls, have) },
    owns: input.removals
      ? ownership(have, { networks: input.networks, devices: backend.devices, gateways })
      : OWNS_NOTHING,
    peers: reached.map(({ plan }) => plan),
    more: planMore(input, surroundings, claims),
    routesOf: claimedRoutes(input, surroundings, claims),
  };
}

/** Apart from {@link planHost}, since a function keeps alive whatever stands around it: there, all that was read. */
const planMore =
  (input: PlanInput, surroundings: Surroundings, claims: Claims): Plan['more'] =>
  (leases) =>
    merge(stateOf(finish(planPeers(input, surroundings, claims, leases))));

const claimedRoutes =
  (input: PlanInput, surroundings: Surroundings, claims: Claims): Plan['routesOf'] =>
  (leases) => {
    const routes = leases.flatMap(({ subnet }) =>
      familiesOf(subnet).flatMap((family) => {
        const id = identity({ type: 'route', value: { destination: subnet[family] as Prefix } });
        const claimant = claims.get(id);
        if (claimant?.key !== leaseKey(subnet)) return [];
        const item = claimed(input, surroundings, claimant, id);
        return item?.type === 'route' ? [item.value] : [];
      }),
    );
    return merge({ routes });
  };

const addressesOf = ({ publicIp }: Lease): Ip[] => familiesOf(publicIp).map((family) => publicIp[family] as Ip);

/** Every sysctl that is held to a value. */
export const wantedSysctls = (input: PlanInput, there: (device: string) => boolean = () => true): Sysctl[] => [
  ...(input.backend.base(input.self, there).sysctls ?? []),
  ...forwarding(input),
];

/** The order counts: forwarding=1 makes the kernel drop what a router advertised, unless accept_ra is 2. */
function forwarding({ site, advertised }: PlanInput): Sysctl[] {
  const families = familiesOf(site.networks);
  return [
    ...(families.includes(4) ? [{ key: 'net/ipv4/ip_forward', value: '1' }] : []),
    ...(families.includes(6)
      ? advertised.map((device) => ({ key: `net/ipv6/conf/${device}/accept_ra`, value: '2' }))
      : []),
    ...(families.includes(6) ? [{ key: 'net/ipv6/conf/all/forwarding', value: '1' }] : []),
  ];
}

const blackholes = (self: Lease): Route[] =>
  familiesOf(self.subnet).map((family) => ({
    destination: self.subnet[family] as Prefix,
    type: 'blackhole',
    metric: BLACKHOLE_METRIC,
    protocol: OUR_PROTOCOL,
  }));

/** A kernel without IPv6 has none of its keys. */
function supported(sysctls: readonly Sysctl[], have: State): Sysctl[] {
  const ipv6 = have.sysctls.some(({ key }) => key === IPV6_PRESENT);
  return sysctls.filter(({ key }) => ipv6 || !key.startsWith('net/ipv6/'));
}
