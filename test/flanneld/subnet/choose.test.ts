// Which subnet a node takes: its own, the one before, a free one.

import fc from 'fast-check';
import t from 'tap';
import { parseNetworkConfig } from '../../../flanneld/network-config.ts';
import { choose, collide, fits, freePrefixes, type Held, isOurs } from '../../../flanneld/subnet/choose.ts';
import { contains, networkOf, overlaps, type Prefix, prefix } from '../../../model/ip.ts';
import type { PerFamily } from '../../../model/lease.ts';
import { random, seed } from '../../support/seed.ts';

fc.configureGlobal({ seed });

const NETWORK = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
const SMALL = parseNetworkConfig('{"Network":"10.5.0.0/28"}');
const DUAL = parseNetworkConfig('{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}');
const ME = { nodeId: 'me', publicIp: { 4: '192.0.2.1' } };

const subnetOf = (...texts: string[]): PerFamily<Prefix> =>
  Object.fromEntries(texts.map((text) => [text.includes(':') ? 6 : 4, prefix(text)]));

interface Holder {
  readonly nodeId?: string;
  readonly ip?: string;
  readonly reservation?: boolean;
}

const held = (subnet: PerFamily<Prefix>, { nodeId, ip = '192.0.2.9', reservation = false }: Holder = {}): Held => ({
  subnet,
  attributes: {
    publicIp: { 4: ip },
    backendType: '',
    backendData: {},
    ...(nodeId === undefined ? {} : { nodeId }),
  } as never,
  reservation,
});

interface Wish {
  readonly previous?: PerFamily<Prefix>;
  readonly inUse?: boolean;
  readonly network?: typeof NETWORK;
}

/** The subnet that is chosen, and whether it is an entry that is there. */
function chosen(entries: readonly Held[], { previous = {}, inUse = false, network = NETWORK }: Wish = {}) {
  const ours = (entry: Held) => isOurs(entry, ME);
  const choice = choose(network, entries, { ours, publicIp: ME.publicIp, previous, inUse }, random('choose'));
  if (choice === undefined) return 'none';
  return choice.own === undefined ? { made: choice.subnet } : { kept: choice.own.subnet };
}

t.test('whose an entry is', async (t) => {
  const subnet = subnetOf('10.5.1.0/24');
  const cases: readonly (readonly [Holder, boolean, string])[] = [
    [{ nodeId: 'me' }, true, 'our id at another address'],
    [{ ip: '192.0.2.1' }, true, 'no id and our address: flannel on this node'],
    [{ ip: '192.0.2.9' }, false, 'no id, another address'],
    [{ nodeId: 'other', ip: '192.0.2.1' }, false, 'another id behind our address (NAT)'],
    [
      { nodeId: 'other', ip: '192.0.2.1', reservation: true },
      true,
      'a reservation for our address, made out to a former id',
    ],
    [{ nodeId: 'me', reservation: true }, true, 'our reservation, at another address'],
    [{ reservation: true }, false, "another node's reservation"],
  ];
  for (const [holder, ours, what] of cases) t.equal(isOurs(held(subnet, holder), ME), ours, what);
  t.equal(isOurs({ subnet, attributes: undefined, reservation: false }, ME), false, 'a value nobody understands');
});

t.test('our entry is kept', async (t) => {
  const own = subnetOf('10.5.7.0/24');
  t.strictSame(chosen([held(subnetOf('10.5.1.0/24')), held(own, { nodeId: 'me' })]), { kept: own });
  t.strictSame(
    chosen([held(own, { ip: '192.0.2.1' })], { previous: subnetOf('10.5.9.0/24') }),
    { kept: own },
    'before the previous one',
  );
  const reserved = subnetOf('10.5.8.0/24');
  t.strictSame(
    chosen([held(own, { nodeId: 'me' }), held(reserved, { ip: '192.0.2.1', reservation: true })]),
    { kept: reserved },
    'of two, the reservation',
  );
  t.strictSame(
    chosen([held(own, { nodeId: 'me' }), held(reserved, { ip: '192.0.2.1', reservation: true })], { previous: own }),
    { kept: own },
    'of two, the one that pods have used',
  );
});

t.test('an entry that does not fit any more', async (t) => {
  const outside = subnetOf('10.9.7.0/24');
  const entries = [held(outside, { nodeId: 'me' })];
  const made = chosen(entries);
  t.match(made, { made: { 4: /^10\.5\./ } });
  t.match(chosen(entries, { previous: outside }), { made: { 4: /^10\.5\./ } }, 'no pods: a new one');
  t.strictSame(chosen(entries, { previous: outside, inUse: true }), { kept: outside }, 'pods use it: kept');
  t.strictSame(
    chosen([], { previous: outside, inUse: true }),
    { made: outside },
    'pods use it, and the entry is gone: made again',
  );
  t.match(
    chosen([held(outside)], { previous: outside, inUse: true }),
    { made: { 4: /^10\.5\./ } },
    'another node has it',
  );
});

t.test('the previous subnet', async (t) => {
  const previous = subnetOf('10.5.7.1/24');
  t.strictSame(
    chosen([], { previous }),
    { made: subnetOf('10.5.7.0/24') },
    'with the gateway address as in subnet.env',
  );
  t.notSame(chosen([held(subnetOf('10.5.7.0/24'))], { previous }), { made: subnetOf('10.5.7.0/24') }, 'taken');
  t.notSame(
    chosen([held(subnetOf('10.5.6.0/23'))], { previous }),
    { made: subnetOf('10.5.7.0/24') },
    'inside a larger one',
  );
  t.match(chosen([], { previous, network: DUAL }), { made: { 6: /^fc00:/ } }, 'IPv6 was added: a new pair');
});

t.test('a free subnet', async (t) => {
  const two = [subnetOf('10.5.0.4/30'), subnetOf('10.5.0.8/30')] as const;
  t.strictSame(
    chosen([held(subnetOf('10.5.0.12/30')), held(two[0])], { network: SMALL }),
    { made: two[1] },
    'the only one',
  );
  t.strictSame(
    chosen(
      [...two, subnetOf('10.5.0.12/30')].map((subnet) => held(subnet)),
      { network: SMALL },
    ),
    'none',
  );
  const unreadable: Held = { subnet: two[0], attributes: undefined, reservation: false };
  t.strictSame(
    chosen([unreadable, held(two[1]), held(subnetOf('10.5.0.12/30'))], { network: SMALL }),
    'none',
    'what is not understood is taken',
  );
  const reserved = [held(two[0], { reservation: true }), held(two[1]), held(subnetOf('10.5.0.12/30'))];
  t.strictSame(chosen(reserved, { network: SMALL }), 'none', 'a reservation for another node is taken');
});

t.test('random among the first hundred', async (t) => {
  const rules = NETWORK.families[4] as never;
  t.equal(freePrefixes(rules, [], 100).at(-1), '10.5.100.0/24');
  const at = (number: number) =>
    choose(NETWORK, [], { ours: () => false, publicIp: {}, previous: {}, inUse: false }, () => number);
  t.strictSame(at(0), { own: undefined, subnet: subnetOf('10.5.1.0/24') });
  t.strictSame(at(0.9999), { own: undefined, subnet: subnetOf('10.5.100.0/24') });
});

t.test('free prefixes are free, aligned, in range, and none is left out', async (t) => {
  const rules = parseNetworkConfig(
    '{"Network":"10.5.0.0/22","SubnetLen":26,"SubnetMin":"10.5.0.128","SubnetMax":"10.5.3.64"}',
  ).families[4];
  if (rules === undefined) throw new Error('no IPv4');
  const some = fc.array(
    fc
      .tuple(fc.integer({ min: 0, max: 1200 }), fc.integer({ min: 20, max: 32 }))
      .map(([offset, length]) => networkOf(prefix(`10.5.${offset >> 8}.${offset & 255}/${length}`))),
    { maxLength: 12 },
  );
  const every = Array.from({ length: 12 }, (_, index) =>
    prefix(`10.5.${(index * 64 + 128) >> 8}.${(index * 64 + 128) & 255}/26`),
  );
  fc.assert(
    fc.property(some, (taken) => {
      const expected = every.filter((candidate) => !taken.some((other) => overlaps(candidate, other)));
      t.strictSame(freePrefixes(rules, taken, 1000), expected);
      t.strictSame(freePrefixes(rules, taken, 3), expected.slice(0, 3));
    }),
  );
});

t.test('the choice fits and collides with nobody', async (t) => {
  const entry = fc.tuple(
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 20, max: 26 }),
    fc.integer({ min: 0, max: 300 }),
    fc.boolean(),
  );
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 40 }), fc.nat(), (entries, salt) => {
      const others = entries.map(([third, length, sixth, mine]) =>
        held(
          { 4: networkOf(prefix(`10.5.${third}.0/${length}`)), 6: prefix(`fc00:0:0:${sixth.toString(16)}::/64`) },
          mine ? { nodeId: 'me' } : {},
        ),
      );
      const ours = (other: Held) => isOurs(other, ME);
      const choice = choose(
        DUAL,
        others,
        { ours, publicIp: ME.publicIp, previous: {}, inUse: false },
        random(String(salt)),
      );
      if (choice === undefined) return;
      const subnet = choice.own === undefined ? choice.subnet : choice.own.subnet;
      t.ok(fits(DUAL, subnet));
      t.ok(contains(prefix('10.5.0.0/16'), subnet[4] as Prefix));
      if (choice.own === undefined) t.notOk(others.some((other) => !ours(other) && collide(other.subnet, subnet)));
      else t.ok(ours(choice.own));
    }),
  );
});
