// Addresses, and the routes that come with them.

import { add, type Case, must, pair, PLANS, remove, replace, script, set, sysctl } from './kernel-subject.ts';
import { addresses, read, routes } from './kernel-readings.ts';

const on = (device: string, address: string) => ({ device, address, noDad: true });

const each =
  (run: (...args: [...Parameters<Case>, (typeof PLANS)[number]]) => void | Promise<void>): Case =>
  async (t, s) => {
    for (const plan of PLANS) await run(t, s, plan);
  };

export const ADDRESS_CASES: Readonly<Record<string, Case>> = {
  'add, replace, delete': each((t, s, { address, sibling }) => {
    if (!read(s, { links: ['v0'] }).links.length) must(t, s, ...pair('v0', 'v1'));
    script(t, s, [
      [add.address(on('v0', address)), 'ok'],
      [add.address(on('v0', address)), 'EEXIST'],
      [replace.address(on('v0', address)), 'ok'],
      [remove.address(on('v0', sibling)), 'EADDRNOTAVAIL'],
      [replace.address(on('v0', sibling)), 'ok'],
      [add.address(on('v1', address)), 'ok'],
      [remove.address(on('v0', sibling)), 'ok'],
      [remove.address(on('v0', sibling)), 'EADDRNOTAVAIL'],
      [add.address(on('nope', address)), 'ENODEV'],
      [remove.address(on('nope', address)), 'ENODEV'],
    ]);
    t.strictSame(
      addresses(s, 'v0', 'nope').filter((found) => found.includes(':') === address.includes(':')),
      [address],
    );
  }),

  'everything about an address is read': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      ...PLANS.map(({ address }) => add.address(on('v0', address))),
      add.address(on('v0', 'fe80::77/64')),
    );
    const found = read(s, { addresses: ['v0'] }).addresses.filter(({ address }) => !address.includes('ff:fe00'));
    t.strictSame(
      found.sort((a, b) => (a.address < b.address ? -1 : 1)),
      [
        { device: 'v0', address: '10.1.0.1/24', scope: 'global', flags: [] },
        { device: 'v0', address: 'fd01::1/64', scope: 'global', flags: [] },
        { device: 'v0', address: 'fe80::77/64', scope: 'link', flags: [] },
      ],
    );
  },

  'one address with two lengths: IPv4 has both, IPv6 keeps the first': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    script(t, s, [
      [add.address(on('v0', '10.1.0.1/24')), 'ok'],
      [add.address(on('v0', '10.1.0.1/25')), 'ok'],
      [remove.address(on('v0', '10.1.0.1/26')), 'EADDRNOTAVAIL'],
      [add.address(on('v0', 'fd01::1/64')), 'ok'],
      [add.address(on('v0', 'fd01::1/80')), 'EEXIST'],
      [replace.address(on('v0', 'fd01::1/80')), 'ok'],
      [remove.address(on('v0', 'fd01::1/80')), 'EADDRNOTAVAIL'],
    ]);
    t.strictSame(addresses(s, 'v0'), ['10.1.0.1/24', '10.1.0.1/25', 'fd01::1/64']);
  },

  'addresses IPv6 refuses': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    script(t, s, [
      [add.address(on('v0', 'ff02::5/64')), 'EADDRNOTAVAIL'],
      [add.address(on('v0', '::/64')), 'EADDRNOTAVAIL'],
      [add.address(on('v0', 'fd01::1/64')), 'ok'],
      [set('v0', { mtu: 1279 }), 'ok'],
      [add.address(on('v0', 'fd01::1/64')), 'EINVAL'],
      [add.route({ destination: 'fd09::/64', device: 'v0' }), 'ENODEV'],
      [add.neighbour({ device: 'v0', ip: 'fd01::9', mac: '02:00:00:00:00:99' }), 'EINVAL'],
    ]);
    t.strictSame([addresses(s, 'v0'), routes(s, 6)], [[], []], 'an MTU below 1280 ends IPv6 on the device');
    script(t, s, [
      [set('v0', { mtu: 1280 }), 'ok'],
      [sysctl('net/ipv6/conf/v0/disable_ipv6', '1'), 'ok'],
      [add.address(on('v0', 'fd01::1/64')), 'EACCES'],
      [add.route({ destination: 'fd09::/64', device: 'v0' }), 'EACCES'],
      [add.neighbour({ device: 'v0', ip: 'fd01::9', mac: '02:00:00:00:00:99' }), 'EINVAL'],
      [sysctl('net/ipv6/conf/v0/disable_ipv6', '0'), 'ok'],
      [add.address(on('v0', 'fd01::1/64')), 'ok'],
    ]);
  },

  'disable_ipv6 takes what is there': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), add.address(on('v0', 'fd01::1/64')), add.address(on('v0', '10.1.0.1/24')));
    must(t, s, sysctl('net/ipv6/conf/all/disable_ipv6', '1'));
    t.strictSame([addresses(s, 'v0'), routes(s)], [['10.1.0.1/24'], ['10.1.0.0/24 dev v0 src 10.1.0.1']]);
  },

  'the kernel routes to the subnet while the device is up': (t, s) => {
    must(
      t,
      s,
      add.link({ name: 'v0', kind: 'veth', peer: { name: 'v1' } }),
      ...PLANS.map(({ address }) => add.address(on('v0', address))),
    );
    t.strictSame(routes(s), []);
    must(t, s, set('v0', { up: true }));
    t.strictSame(routes(s), ['10.1.0.0/24 dev v0 src 10.1.0.1', 'fd01::/64 dev v0 metric 256']);
    const [four, six] = [read(s, { routes: { families: [4] } }).routes, read(s, { routes: { families: [6] } }).routes];
    t.match(four[0], { protocol: 2, scope: 'link', type: 'unicast', onlink: false, table: 254 });
    t.match(six[0], { protocol: 2, scope: 'global', type: 'unicast', onlink: false, table: 254 });
    must(
      t,
      s,
      add.address(on('v0', '10.4.0.1/32')),
      add.address(on('v0', 'fd04::1/128')),
      add.address(on('v0', '10.5.0.2/31')),
    );
    t.strictSame(routes(s).slice(1), [
      '10.5.0.2/31 dev v0 src 10.5.0.2',
      'fd01::/64 dev v0 metric 256',
      'fd04::1/128 dev v0 metric 256',
    ]);
    must(t, s, ...PLANS.map(({ address }) => remove.address(on('v0', address))));
    t.strictSame(routes(s), ['10.5.0.2/31 dev v0 src 10.5.0.2', 'fd04::1/128 dev v0 metric 256']);
  },

  'two devices can have one subnet': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      ...PLANS.flatMap(({ address }) => [add.address(on('v0', address)), add.address(on('v1', address))]),
    );
    t.equal(routes(s).length, 4);
    must(t, s, ...PLANS.map(({ address }) => remove.address(on('v0', address))));
    t.strictSame(routes(s), ['10.1.0.0/24 dev v1 src 10.1.0.1', 'fd01::/64 dev v1 metric 256']);
  },

  'the first IPv4 address of a subnet takes the others along': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      ...['10.1.0.1/24', '10.1.0.2/24', '10.2.0.1/24', '10.1.0.3/24'].map((address) => add.address(on('v0', address))),
    );
    must(t, s, remove.address(on('v0', '10.1.0.3/24')));
    t.strictSame(addresses(s, 'v0'), ['10.1.0.1/24', '10.1.0.2/24', '10.2.0.1/24']);
    must(t, s, remove.address(on('v0', '10.1.0.1/24')));
    t.strictSame([addresses(s, 'v0'), routes(s, 4)], [['10.2.0.1/24'], ['10.2.0.0/24 dev v0 src 10.2.0.1']]);
  },

  'unless promote_secondaries hands the subnet on': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), sysctl('net/ipv4/conf/v0/promote_secondaries', '1'));
    must(
      t,
      s,
      ...['10.1.0.1/24', '10.1.0.2/24', '10.1.0.3/24'].map((address) => add.address(on('v0', address))),
      remove.address(on('v0', '10.1.0.1/24')),
    );
    t.strictSame(
      [addresses(s, 'v0'), routes(s, 4)],
      [['10.1.0.2/24', '10.1.0.3/24'], ['10.1.0.0/24 dev v0 src 10.1.0.2']],
    );
  },

  'IPv6 addresses of a subnet stand alone': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      add.address(on('v0', 'fd01::1/64')),
      add.address(on('v0', 'fd01::2/64')),
      remove.address(on('v0', 'fd01::1/64')),
    );
    t.strictSame([addresses(s, 'v0'), routes(s, 6)], [['fd01::2/64'], ['fd01::/64 dev v0 metric 256']]);
    must(t, s, remove.address(on('v0', 'fd01::2/64')));
    t.strictSame(routes(s, 6), []);
  },
};
