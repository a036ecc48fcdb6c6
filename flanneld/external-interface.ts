// The interface to other nodes, and the address that peers send to. Each family is chosen for itself: a node may have its
// IPv4 default route on one interface and its IPv6 one on another, which flannel refuses.
//
// Order as flannel's (pkg/ipmatch): --iface in the order given, --iface-regex, --iface-can-reach; without any of them the
// interface that holds --public-ip, else that of the default route.

import { hasCode, NetError } from '../model/errors.ts';
import { addressOf, defaultPrefix, type Family, familyOf, type Ip, tryIp } from '../model/ip.ts';
import type { PerFamily } from '../model/lease.ts';
import type { Address, Route, State } from '../model/state.ts';
import type { Underlay } from './backend/backend.ts';
import type { AgentConfig } from './config.ts';

/** What the operator said. */
export type UnderlayChoice = Pick<AgentConfig, 'interface' | 'publicIp'>;

/** A device to look at, the address on it that was named (if one was), and what named it. */
interface Candidate {
  readonly device: string;
  readonly address?: Ip | undefined;
  readonly because: string;
}

/** The answer of `ip route get`. @throws NetError kernel when there is no route */
type RouteTo = (address: Ip) => Route;

/**
 * The underlay of each family, from the host's links, addresses and routes of these families. Pure but for `routeTo`.
 * @throws NetError no-interface naming flag and value
 */
export function chooseUnderlay(
  state: State,
  families: readonly Family[],
  choice: UnderlayChoice,
  routeTo: RouteTo,
): PerFamily<Underlay> {
  return Object.fromEntries(families.map((family) => [family, underlayOf(state, family, choice, routeTo)]));
}

function underlayOf(state: State, family: Family, choice: UnderlayChoice, routeTo: RouteTo): Underlay {
  for (const candidate of candidates(state, family, choice, routeTo)) {
    const address = candidate.address ?? bestAddress(state.addresses, candidate.device, family);
    if (address === undefined) continue;
    const mtu = state.links.find(({ name }) => name === candidate.device)?.mtu ?? 0;
    if (mtu === 0) throw noInterface(`${candidate.because}: interface ${candidate.device} has MTU 0`, candidate.device);
    return { device: candidate.device, mtu, address, publicIp: choice.publicIp[family] ?? address };
  }
  throw noInterface(`no interface with a usable IPv${family} address: ${asked(choice)}`);
}

const noInterface = (message: string, subject?: string): NetError => new NetError('no-interface', message, { subject });

/** The flags that were tried, for the message. */
function asked({ interface: { names, expressions, canReach } }: UnderlayChoice): string {
  const flags = [
    ...names.map((name) => `--iface=${name}`),
    ...expressions.map((expression) => `--iface-regex=${expression.source}`),
    ...(canReach === undefined ? [] : [`--iface-can-reach=${canReach}`]),
  ];
  return flags.length > 0 ? `tried ${flags.join(', ')}` : 'there is no default route that leads to one';
}

function candidates(state: State, family: Family, choice: UnderlayChoice, routeTo: RouteTo): Candidate[] {
  const { names, expressions, canReach } = choice.interface;
  const named = [
    ...names.flatMap((name) => namedBy(state, family, name)),
    ...expressions.flatMap((expression) => matchedBy(state, family, expression)),
    ...(canReach === undefined ? [] : reaching(state, family, canReach, routeTo)),
  ];
  if (names.length + expressions.length > 0 || canReach !== undefined) return named;
  const publicIp = choice.publicIp[family];
  const flag = family === 4 ? '--public-ip' : '--public-ipv6';
  return [
    ...(publicIp === undefined ? [] : holders(state, family, publicIp, `${flag}=${publicIp}`)),
    ...byDefaultRoute(state, family),
  ];
}

function namedBy(state: State, family: Family, value: string): Candidate[] {
  const because = `--iface=${value}`;
  const address = tryIp(value);
  if (address !== undefined) return holders(state, family, address, because);
  return state.links.some(({ name }) => name === value) ? [{ device: value, because }] : [];
}

/** Devices that hold the address. For another family than the address's the device counts, not the address. */
function holders(state: State, family: Family, wanted: Ip, because: string): Candidate[] {
  return state.addresses
    .filter(({ address }) => addressOf(address) === wanted)
    .map(({ device }) => ({ device, because, ...(familyOf(wanted) === family && { address: wanted }) }));
}

/** Addresses first, then names, as flannel does: "10.0.2" must not find a device called eth10.0.2. */
function matchedBy(state: State, family: Family, expression: RegExp): Candidate[] {
  const because = `--iface-regex=${expression.source}`;
  const byAddress = state.addresses.filter(
    (entry) => familyOf(entry.address) === family && usable(entry) && expression.test(addressOf(entry.address)),
  );
  return [
    ...byAddress.map((entry) => ({ device: entry.device, address: addressOf(entry.address), because })),
    ...state.links.filter(({ name }) => expression.test(name)).map(({ name }) => ({ device: name, because })),
  ];
}

function reaching(state: State, family: Family, target: Ip, routeTo: RouteTo): Candidate[] {
  const because = `--iface-can-reach=${target}`;
  const route = routeOrNone(target, routeTo, because);
  if (route.device === undefined) return [];
  if (familyOf(target) !== family) return [{ device: route.device, because }, ...byDefaultRoute(state, family)];
  const own = state.addresses.some((entry) => addressOf(entry.address) === route.source && usable(entry));
  return [{ device: route.device, because, address: own ? route.source : undefined }];
}

function routeOrNone(target: Ip, routeTo: RouteTo, because: string): Route {
  try {
    return routeTo(target);
  } catch (cause) {
    if (!hasCode(cause, 'kernel')) throw cause;
    throw new NetError('no-interface', `${because}: ${cause.message}`, { cause, errno: cause.errno, subject: target });
  }
}

function byDefaultRoute(state: State, family: Family): Candidate[] {
  const routes = state.routes.filter(
    (route) => route.destination === defaultPrefix(family) && route.type !== 'blackhole',
  );
  return routes
    .sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))
    .flatMap(({ device }) => (device === undefined ? [] : [{ device, because: 'default route' }]));
}

/** An address that peers can send to now and later. */
const usable = ({ flags, scope }: Address): boolean =>
  scope !== 'host' && !flags?.some((flag) => flag === 'deprecated' || flag === 'tentative' || flag === 'dadfailed');

/** Global before link-local, permanent before dynamic, lasting before temporary; among equals the kernel's order. */
function bestAddress(addresses: readonly Address[], device: string, family: Family): Ip | undefined {
  const rank = ({ scope, flags }: Address): number =>
    (scope === 'link' ? 4 : 0) + (flags?.includes('dynamic') ? 2 : 0) + (flags?.includes('temporary') ? 1 : 0);
  const own = addresses.filter(
    (entry) => entry.device === device && familyOf(entry.address) === family && usable(entry),
  );
  const best = own.sort((a, b) => rank(a) - rank(b))[0];
  return best === undefined ? undefined : addressOf(best.address);
}
