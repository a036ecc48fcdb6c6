// Random steps, sensible or not, over a small universe of names.

import fc from 'fast-check';
import type { Step } from '../../model/steps.ts';
import { add, remove, replace, set, sysctl } from './kernel-subject.ts';

const NAMES = ['br0', 'br1', 'v0', 'v1', 'vx1', 'vx2', 'x0'];
/** The other ends of veths are in the same namespace, so that they too are acted upon. */
const DEVICES = [...NAMES, 'p-v0', 'p-v1', 'p-x0', 'lo', 'nope'];
/** Nothing here gives the loopback device anything but its ups and downs. */
export const OUTWARD = DEVICES.filter((name) => name !== 'lo');
const ADDRESSES = [
  '10.1.0.1/24',
  '10.1.0.2/24',
  '10.1.0.1/25',
  '10.2.0.1/24',
  '10.2.0.2/32',
  'fd01::1/64',
  'fd01::2/64',
  'fd01::1/80',
  'fd02::1/128',
];
const DESTINATIONS = [
  '10.64.0.0/24',
  '10.64.0.0/16',
  '0.0.0.0/0',
  '10.1.0.77/32',
  'fd64::/64',
  'fd64::/48',
  '::/0',
  'fd01::77/128',
];
const GATEWAYS = [
  '10.1.0.99',
  '10.1.0.1',
  '10.1.0.77',
  '10.64.0.1',
  '10.9.9.9',
  'fd01::99',
  'fd01::1',
  'fd01::77',
  'fd64::',
  'fd99::9',
  'fe80::9',
];
const SOURCES = ['10.1.0.1', '10.2.0.1', 'fd01::1', 'fd02::1'];
const MACS = ['02:00:00:00:0e:01', '02:00:00:00:0e:02', '00:00:00:00:00:00', '01:00:5e:00:00:01'];
export const KEYS = [
  'net/ipv4/ip_forward',
  'net/ipv4/conf/all/promote_secondaries',
  'net/ipv6/conf/all/forwarding',
  'net/ipv6/conf/default/accept_ra',
];
export const DEVICE_KEYS = DEVICES.flatMap((name) => [
  `net/ipv4/conf/${name}/forwarding`,
  `net/ipv6/conf/${name}/accept_ra`,
  `net/ipv6/conf/${name}/disable_ipv6`,
]);

const some = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });
const rarely = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 1 });
const one = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const device = one(DEVICES);

const macOf = (name: string): fc.Arbitrary<string> =>
  one([1, 2].map((half) => `02:00:00:00:0${half}:0${NAMES.indexOf(name) + 1}`));

const birth = one(NAMES).chain((name) => {
  const general = fc.record({
    mac: macOf(name),
    up: some(fc.boolean()),
    mtu: rarely(one([1400, 1450, 1500, 1200, 60])),
    master: rarely(one(['br0', 'br1', 'v0', 'nope'])),
  });
  const kind = name.startsWith('vx')
    ? fc.constant('vxlan')
    : name.startsWith('br')
      ? fc.constant('bridge')
      : one(['veth', 'veth', 'bridge']);
  const segment = fc.record({
    vni: one([1, 2]),
    port: one([8472, 4789]),
    local: one(['192.0.2.1', 'fd99::1']),
    gbp: fc.boolean(),
    device: rarely(one(['v0', 'br0', 'nope'])),
  });
  return fc.tuple(general, kind, segment).map(([more, of, vxlan]) =>
    add.link({
      name,
      kind: of,
      ...more,
      ...(of === 'vxlan' && { vxlan }),
      ...(of === 'veth' && { peer: { name: `p-${name}`, mac: `02:00:00:00:03:0${NAMES.indexOf(name) + 1}` } }),
    }),
  );
});

const life = fc
  .tuple(
    device,
    fc.record({
      up: some(fc.boolean()),
      mtu: rarely(one([1300, 1400, 1500, 1279, 60, 70_000])),
      mac: rarely(one(['02:00:00:00:04:01', '02:00:00:00:04:02', '01:00:00:00:00:00'])),
      master: rarely(one(['br0', 'br1', 'v0', 'nope', null])),
      promiscuous: rarely(fc.boolean()),
      port: rarely(fc.record({ hairpin: some(fc.boolean()), isolated: some(fc.boolean()) })),
      bridge: rarely(fc.record({ nfCallIptables: fc.boolean() })),
    }),
  )
  .filter(([name, { mtu }]) => name !== 'lo' || mtu === undefined)
  .map(([name, change]) => set(name, change));

const death = one(NAMES).map((name) => remove.link({ name, kind: 'veth' }));

const verbs = one(['add', 'add', 'replace', 'delete'] as const);
const makers = { add, replace, delete: remove };

const address = fc
  .tuple(verbs, one(OUTWARD), one(ADDRESSES))
  .map(([verb, name, value]) => makers[verb].address({ device: name, address: value, noDad: true }));

const sameFamily = (a: string | undefined, b: string): boolean =>
  a === undefined || a.includes(':') === b.includes(':');

const route = fc
  .tuple(
    verbs,
    one(DESTINATIONS),
    fc.record({
      device: some(one(OUTWARD)),
      via: some(one(GATEWAYS)),
      onlink: some(fc.boolean()),
      type: rarely(fc.constant('blackhole' as const)),
      source: rarely(one(SOURCES)),
      metric: rarely(one([5, 1024])),
      mtu: rarely(one([1300, 1400])),
      protocol: rarely(one([4, 251])),
      scope: rarely(one(['global', 'link', 'host'] as const)),
      table: rarely(fc.constant(100)),
    }),
  )
  .map(([verb, destination, more]) => {
    const { via, source, type } = more;
    // A gateway of a blackhole, an onlink without one: nothing here states those, and the families differ on them.
    const fitting = {
      via: sameFamily(via, destination) && type === undefined ? via : undefined,
      source: sameFamily(source, destination) ? source : undefined,
    };
    return makers[verb].route({
      destination,
      ...more,
      ...fitting,
      onlink: fitting.via === undefined ? undefined : more.onlink,
    });
  });

const neighbour = fc
  .tuple(verbs, one(OUTWARD), one(['10.1.0.99', 'fd01::99']), one(MACS.slice(0, 2)))
  .map(([verb, name, ip, mac]) => makers[verb].neighbour({ device: name, ip, mac }));

const fdb = fc
  .tuple(verbs, one(['vx1', 'vx2', 'lo', 'nope']), one(MACS), one(['192.0.2.2', '192.0.2.3', 'fd99::2']))
  .map(([verb, name, mac, destination]) => makers[verb].fdb({ device: name, mac, destination }));

const knob = fc.tuple(one([...KEYS, ...DEVICE_KEYS]), one(['0', '1', 'x'])).map(([key, value]) => sysctl(key, value));

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: birth },
  { weight: 4, arbitrary: life },
  { weight: 1, arbitrary: death },
  { weight: 4, arbitrary: address },
  { weight: 5, arbitrary: route },
  { weight: 2, arbitrary: neighbour },
  { weight: 2, arbitrary: fdb },
  { weight: 1, arbitrary: knob },
);
