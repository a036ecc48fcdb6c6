// Random states that can be: every object has its device, every gateway its link, over a small universe of names.

import fc from 'fast-check';
import { addressOf, type Ip, type Mac, type Prefix, prefix } from '../../model/ip.ts';
import {
  type Address,
  EMPTY_STATE,
  type FdbEntry,
  type Link,
  metricOf,
  type Namespace,
  type Neighbour,
  type Route,
  type State,
  type Sysctl,
} from '../../model/state.ts';

/** Names and the kinds a device of that name can be. A VXLAN's name says its VNI, as flannel's does. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  br0: ['bridge'],
  br1: ['bridge'],
  x0: ['bridge', 'veth'],
  x1: ['bridge', 'veth'],
  v0: ['veth'],
  v1: ['veth'],
  vx1: ['vxlan'],
  vx2: ['vxlan'],
};
export const NAMES = Object.keys(KINDS);
export const KEYS = [
  'net/ipv4/ip_forward',
  'net/ipv4/conf/all/promote_secondaries',
  ...NAMES.flatMap((name) => [`net/ipv4/conf/${name}/rp_filter`, `net/ipv6/conf/${name}/accept_ra`]),
];
const ADDRESSES = [
  '10.1.0.1/24',
  '10.1.0.2/24',
  '10.1.0.1/25',
  '10.2.0.1/24',
  '10.2.0.2/32',
  'fd01::1/64',
  'fd01::2/64',
  'fd01::1/80',
  'fd02::1/64',
].map(prefix);
/**
 * Subnets of br0 alone: a route by a gateway of theirs may leave its device open. Elsewhere it might be resolved by a device
 * that goes in the same plan, which only the next look can mend.
 */
const ONLY_BR0 = ['10.3.0.1/24', 'fd03::1/64'].map(prefix);
const DESTINATIONS = ['10.64.0.0/24', '10.65.0.0/24', '0.0.0.0/0', 'fd64::/64', 'fd65::/64', '::/0'].map(prefix);
/** Of VXLAN peers: the gateway is the subnet's own first address. */
const PEERS = ['10.80.0.0/24', '10.81.0.0/24', 'fd80::/64', 'fd81::/64'].map(prefix);
const MACS = ['02:00:00:00:0e:01', '02:00:00:00:0e:02'] as Mac[];

const some = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });
const ofSome = <T>(items: readonly T[], max: number): fc.Arbitrary<T[]> =>
  fc.subarray([...items], { maxLength: Math.min(max, items.length) });
const yes = fc.boolean();

/** Where a veth's peer is born. */
type Peers = Namespace;

const vxlan = (name: string): fc.Arbitrary<Partial<Link>> =>
  fc
    .record({ local: fc.constantFrom('192.0.2.1', '192.0.2.9', 'fd99::1'), gbp: yes, learning: some(yes) })
    .map(({ local, gbp, learning }) => ({
      vxlan: { vni: Number(name.slice(2)), port: gbp ? 8473 : 8472, local: local as Ip, gbp, learning },
    }));

function ofKind(name: string, kind: string, peers: Peers): fc.Arbitrary<Partial<Link>> {
  if (kind === 'vxlan') return vxlan(name);
  if (kind === 'veth') return fc.constant({ peer: { name: `p-${name}`, namespace: peers } });
  return some(fc.record({ nfCallIptables: some(yes), nfCallIp6tables: some(yes) })).map((bridge) => ({ bridge }));
}

function link(name: string, peers: Peers): fc.Arbitrary<Link> {
  const number = NAMES.indexOf(name) + 1;
  return fc.constantFrom(...(KINDS[name] as string[])).chain((kind) =>
    fc
      .tuple(
        fc.record({
          up: some(fc.constantFrom(true, true, true, false)),
          mac: some(fc.constantFrom(`02:00:00:00:00:0${number}`, `02:00:00:00:01:0${number}`)) as fc.Arbitrary<
            Mac | undefined
          >,
          mtu: some(fc.constantFrom(1400, 1450, 1500)),
          promiscuous: some(yes),
        }),
        ofKind(name, kind, peers),
      )
      .map(([general, special]) => ({ name, kind, ...general, ...special })),
  );
}

/** Ports for some of the links that can be one. */
const enslaved = (links: readonly Link[]): fc.Arbitrary<Link[]> => {
  const bridges = links.filter(({ kind }) => kind === 'bridge').map(({ name }) => name);
  const port = some(fc.record({ hairpin: some(yes), isolated: some(yes) }));
  const master = fc.constantFrom(undefined, null, ...bridges, ...bridges);
  return fc.tuple(
    ...links.map((each) =>
      each.kind === 'bridge'
        ? fc.constant(each)
        : fc.tuple(master, port).map(([of, options]) => ({ ...each, master: of, ...(of && { port: options }) })),
    ),
  );
};

/** IPv6 holds an address of a device once, whatever its length. */
const addressesOf = (device: string): fc.Arbitrary<Address[]> =>
  ofSome(device === 'br0' ? [...ADDRESSES, ...ONLY_BR0] : ADDRESSES, 4).map((chosen) =>
    chosen
      .filter(
        (one, at) => !one.includes(':') || chosen.findIndex((other) => addressOf(other) === addressOf(one)) === at,
      )
      .map((address) => ({ device, address, noDad: true })),
  );

/** Ways a destination can be reached, given the devices that are up and the addresses on them. */
function routesTo(destination: Prefix, links: readonly Link[], addresses: readonly Address[]): fc.Arbitrary<Route>[] {
  const up = links.filter((each) => each.up).map(({ name }) => name);
  const six = destination.includes(':');
  const own = addresses.filter(({ address }) => address.includes(':') === six);
  const sources = own.map(({ address }) => addressOf(address));
  const onLink = own.filter(({ device, address }) => up.includes(device) && !/\/(32|128)$/.test(address));
  const extras = fc.record({
    metric: PEERS.includes(destination) ? fc.constant(undefined) : fc.constantFrom(undefined, undefined, 5, 1024),
    source: sources.length ? some(fc.constantFrom(...sources)) : fc.constant(undefined),
    mtu: some(fc.constantFrom(1300, 1400, 1450)),
    protocol: some(fc.constantFrom(251, 4)),
  });
  const ways: fc.Arbitrary<Partial<Route>>[] = [fc.constant({ type: 'blackhole' as const })];
  if (up.length) {
    const device = fc.constantFrom(...up);
    const far = PEERS.includes(destination) ? addressOf(destination) : ((six ? 'fd77::1' : '10.77.0.1') as Ip);
    ways.push(
      device.map((name) => ({ device: name })),
      device.map((name) => ({ device: name, via: far, onlink: true })),
    );
  }
  if (onLink.length)
    ways.push(
      fc.tuple(fc.constantFrom(...onLink), yes).map(([{ device, address }, stated]) => ({
        via: neighbourOf(address),
        device: stated || !ONLY_BR0.includes(address) ? device : undefined,
      })),
    );
  return ways.map((way) =>
    fc.tuple(way, extras).map(([hop, more]) => ({
      destination,
      ...hop,
      ...(hop.type === 'blackhole'
        ? { metric: more.metric }
        : narrowed(
            more,
            links.find(({ name }) => name === hop.device),
          )),
    })),
  );
}

/** An IPv6 route's MTU follows its device's where it is wider, and a bridge's MTU its ports': then it is left at 1300. */
const narrowed = <T extends { mtu: number | undefined }>(route: T, device: Link | undefined): T =>
  route.mtu !== undefined && (device?.mtu === undefined || device.kind === 'bridge' || route.mtu > device.mtu)
    ? { ...route, mtu: 1300 }
    : route;

/** An address of the subnet that is nobody's own. */
const neighbourOf = (address: Prefix): Ip =>
  (address.includes(':') ? `${address.slice(0, 4)}::99` : `${address.split('.').slice(0, 3).join('.')}.99`) as Ip;

function routes(links: readonly Link[], addresses: readonly Address[]): fc.Arbitrary<Route[]> {
  const one = ofSome([...DESTINATIONS, ...PEERS], 5).chain((chosen) =>
    fc.tuple(...chosen.map((destination) => fc.oneof(...routesTo(destination, links, addresses)))),
  );
  return fc
    .tuple(one, one)
    .map((both) => both.flat().filter((route, at, all) => all.findIndex((other) => sameRoute(route, other)) === at));
}

const sameRoute = (a: Route, b: Route): boolean => a.destination === b.destination && metricOf(a) === metricOf(b);

/** Where no MAC is chosen for a bridge, it changes with the ports, and that ends what the bridge knew. */
function neighbours(links: readonly Link[]): fc.Arbitrary<Neighbour[]> {
  const steady = links.filter(({ kind, mac }) => kind !== 'bridge' || mac !== undefined);
  const all = steady.flatMap(({ name }) => ['10.1.0.99', 'fd01::99'].map((ip) => ({ device: name, ip: ip as Ip })));
  return ofSome(all, 5).chain((chosen) =>
    fc.tuple(...chosen.map((each) => fc.constantFrom(...MACS).map((mac) => ({ ...each, mac })))),
  );
}

function fdb(links: readonly Link[]): fc.Arbitrary<FdbEntry[]> {
  const all = links.flatMap(({ name, vxlan }) =>
    vxlan === undefined ? [] : MACS.map((mac) => ({ device: name, mac, six: vxlan.local?.includes(':') })),
  );
  return ofSome(all, 4).chain((chosen) =>
    fc.tuple(
      ...chosen.map(({ six, ...entry }) =>
        fc
          .constantFrom(...((six ? ['fd99::2', 'fd99::3'] : ['192.0.2.2', '192.0.2.3']) as Ip[]))
          .map((destination) => ({ ...entry, destination })),
      ),
    ),
  );
}

function settings(links: readonly Link[]): fc.Arbitrary<Sysctl[]> {
  const keys = KEYS.filter(
    (key) => key.includes('/all/') || !key.includes('/conf/') || links.some(({ name }) => key.includes(`/${name}/`)),
  );
  return ofSome(keys, 4).chain((chosen) =>
    fc.tuple(...chosen.map((key) => fc.constantFrom('0', '1').map((value) => ({ key, value })))),
  );
}

/** A state that can be. */
export const state = (peers: Peers): fc.Arbitrary<State> =>
  fc
    .subarray(NAMES)
    .chain((names) => fc.tuple(...names.map((name) => link(name, peers))))
    .chain(enslaved)
    .chain((links) => fc.tuple(fc.constant(links), ...links.map(({ name }) => addressesOf(name))))
    .chain(([links, ...addresses]) => {
      const all = addresses.flat();
      const rest = fc.record({
        routes: routes(links, all),
        neighbours: neighbours(links),
        fdb: fdb(links),
        sysctls: settings(links),
      });
      return rest.map((parts): State => ({ ...EMPTY_STATE, links, addresses: all, ...parts }));
    });
