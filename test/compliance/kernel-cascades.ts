// What goes with what: a device's death, a device that is taken down, an address that goes.

import type { Test } from 'tap';
import { add, type Case, must, pair, PLANS, remove, script, set, type Subject, sysctl } from './kernel-subject.ts';
import { addresses, eventually, fdb, link, linkNames, neighbours, read, routes, sysctls } from './kernel-readings.ts';

const MAC = '02:00:00:00:00:99';

/** v0 with everything a device can have. */
function furnish(t: Test, s: Subject): void {
  must(t, s, ...pair('v0', 'v1'), ...pair('w0', 'w1', 2));
  for (const { address, gateway, destination, destination2, far } of PLANS) {
    must(
      t,
      s,
      add.address({ device: 'v0', address, noDad: true }),
      add.route({ destination, via: gateway }),
      add.route({ destination: destination2, via: far, device: 'v0', onlink: true, table: 100 }),
      add.neighbour({ device: 'v0', ip: gateway, mac: MAC }),
    );
  }
}

/** What is left of v0's furniture; table 100 shows by what can still be deleted from it. */
function left(t: Test, s: Subject): void {
  for (const { destination2 } of PLANS)
    script(t, s, [[remove.route({ destination: destination2, table: 100 }), 'ESRCH']]);
}

export const CASCADE_CASES: Readonly<Record<string, Case>> = {
  'down takes routes, neighbours and IPv6 addresses; up brings back the subnet': (t, s) => {
    furnish(t, s);
    must(t, s, set('v0', { up: false }));
    t.strictSame([addresses(s, 'v0'), routes(s), neighbours(s, 'v0')], [['10.1.0.1/24'], [], []]);
    left(t, s);
    must(t, s, set('v0', { up: true }));
    t.strictSame(
      [addresses(s, 'v0'), routes(s), neighbours(s, 'v0')],
      [['10.1.0.1/24'], ['10.1.0.0/24 dev v0 src 10.1.0.1'], []],
    );
  },

  'IPv6 addresses given while it is down wait for up': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      set('v0', { up: false }),
      add.address({ device: 'v0', address: 'fd01::1/64', noDad: true }),
    );
    t.strictSame([addresses(s, 'v0'), routes(s)], [['fd01::1/64'], []]);
    must(t, s, set('v0', { up: true }));
    t.strictSame([addresses(s, 'v0'), routes(s)], [['fd01::1/64'], ['fd01::/64 dev v0 metric 256']]);
  },

  'no carrier takes nothing': (t, s) => {
    furnish(t, s);
    must(t, s, set('v1', { up: false }));
    t.strictSame([addresses(s, 'v0').length, routes(s).length, neighbours(s, 'v0').length], [2, 4, 2]);
  },

  'a device that is deleted takes everything': (t, s) => {
    furnish(t, s);
    must(
      t,
      s,
      sysctl('net/ipv4/conf/v0/rp_filter', '2'),
      sysctl('net/ipv6/conf/v0/accept_ra', '0'),
      remove.link({ name: 'v0', kind: 'veth' }),
    );
    t.strictSame([linkNames(s), addresses(s, 'v0'), routes(s), neighbours(s, 'v0')], [['lo', 'w0', 'w1'], [], [], []]);
    left(t, s);
    const keys = ['net/ipv4/conf/v0/rp_filter', 'net/ipv6/conf/v0/accept_ra'];
    t.strictSame(sysctls(s, ...keys), []);
    must(t, s, ...pair('v0', 'v1'));
    t.strictSame(
      [addresses(s, 'v0'), routes(s), neighbours(s, 'v0')],
      [[], [], []],
      'its successor starts with nothing',
    );
    t.strictSame(sysctls(s, ...keys), ['net/ipv4/conf/v0/rp_filter=0', 'net/ipv6/conf/v0/accept_ra=1']);
  },

  'forwarding entries go with their VXLAN, and the VXLAN with its underlay': (t, s) => {
    const vxlan = (name: string, vni: number, device?: string) =>
      add.link({ name, kind: 'vxlan', vxlan: { vni, port: 8472, local: '192.0.2.1', device } });
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      vxlan('vx1', 1),
      vxlan('vx2', 2, 'v0'),
      add.fdb({ device: 'vx1', mac: MAC, destination: '192.0.2.2' }),
    );
    must(t, s, remove.link({ name: 'vx1', kind: 'vxlan' }), vxlan('vx1', 1));
    t.strictSame(fdb(s, 'vx1'), []);
    must(t, s, remove.link({ name: 'v1', kind: 'veth' }));
    t.strictSame(linkNames(s), ['lo', 'vx1']);
  },

  'either end of a veth takes the other, across namespaces': (t, s) => {
    const pod = (name: string, peer: string) =>
      add.link({ name, kind: 'veth', peer: { name: peer, namespace: s.other } });
    must(t, s, pod('veth1', 'eth1'), pod('veth2', 'eth2'), remove.link({ name: 'veth1', kind: 'veth' }));
    t.strictSame(
      [linkNames(s), linkNames(s, s.other)],
      [
        ['lo', 'veth2'],
        ['eth2', 'lo'],
      ],
    );
    t.strictSame(s.kernel.apply(s.other, [remove.link({ name: 'eth2', kind: 'veth' })]), []);
    t.strictSame([linkNames(s), linkNames(s, s.other)], [['lo'], ['lo']]);
  },

  'a namespace that dies takes its veths': async (t, s) => {
    must(
      t,
      s,
      add.link({ name: 'veth1', kind: 'veth', peer: { name: 'eth0', namespace: s.other } }),
      ...pair('v0', 'v1'),
    );
    s.removeOther();
    await eventually(t, () => linkNames(s), ['lo', 'v0', 'v1'], 'the veth into it is gone');
  },

  'the ports of a bridge that is deleted are on their own': (t, s) => {
    must(
      t,
      s,
      add.link({ name: 'br0', kind: 'bridge' }),
      ...pair('v0', 'v1'),
      set('v0', { master: 'br0' }),
      remove.link({ name: 'br0', kind: 'bridge' }),
    );
    t.strictSame([link(s, 'v0').master, link(s, 'v0').port, linkNames(s)], [null, undefined, ['lo', 'v0', 'v1']]);
  },

  'the last IPv4 address takes the IPv4 routes of the device, the last IPv6 address none': (t, s) => {
    furnish(t, s);
    must(
      t,
      s,
      add.address({ device: 'v0', address: '10.2.0.1/24' }),
      remove.address({ device: 'v0', address: '10.1.0.1/24' }),
    );
    t.strictSame(routes(s, 4), ['10.2.0.0/24 dev v0 src 10.2.0.1', '10.9.0.0/16 via 10.1.0.2 dev v0']);
    must(
      t,
      s,
      remove.address({ device: 'v0', address: '10.2.0.1/24' }),
      remove.address({ device: 'v0', address: 'fd01::1/64' }),
    );
    t.strictSame(routes(s), ['fd09::/64 via fd01::2 dev v0']);
  },

  'an address takes the routes that prefer it as source; in IPv6 just the preference': (t, s) => {
    furnish(t, s);
    const on = (device: string, address: string) => ({ device, address, noDad: true });
    must(
      t,
      s,
      ...['10.2.0.1/24', 'fd02::1/64'].map((address) => add.address(on('v0', address))),
      ...PLANS.map(({ address }) => add.address(on('w0', address))),
    );
    const prefers = (destination: string, device: string, source: string) => add.route({ destination, device, source });
    must(t, s, prefers('10.66.0.0/16', 'v0', '10.1.0.1'), prefers('10.67.0.0/16', 'w0', '10.1.0.1'));
    must(t, s, prefers('fd66::/64', 'v0', 'fd01::1'), prefers('fd67::/64', 'w0', 'fd01::1'));
    const found = () => routes(s).filter((route) => /^(10\.6|fd6)/.test(route));
    const before = found();
    must(t, s, ...PLANS.map(({ address }) => remove.address(on('v0', address))));
    t.strictSame(found(), before, 'w0 has the addresses still');
    must(t, s, add.address(on('w0', '10.3.0.1/24')), ...PLANS.map(({ address }) => remove.address(on('w0', address))));
    t.strictSame(found(), ['fd66::/64 dev v0', 'fd67::/64 dev w0']);
  },

  'IPv6 routes follow the MTU of their device': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), set('v0', { mtu: 1450 }));
    const widths = [1300, 1450, 1480] as const;
    for (const [at, mtu] of widths.entries())
      must(
        t,
        s,
        add.route({ destination: `fd0${at}::/64`, device: 'v0', mtu }),
        add.route({ destination: `10.${at}.0.0/16`, device: 'v0', mtu }),
      );
    const mtus = (family: 4 | 6) =>
      read(s, { routes: { families: [family], device: 'v0' } })
        .routes.flatMap(({ mtu }) => mtu ?? [])
        .sort();
    must(t, s, set('v0', { mtu: 1460 }));
    t.strictSame(
      [mtus(4), mtus(6)],
      [
        [1300, 1450, 1480],
        [1300, 1460, 1460],
      ],
    );
    must(t, s, set('v0', { mtu: 1400 }));
    t.strictSame(
      [mtus(4), mtus(6)],
      [
        [1300, 1450, 1480],
        [1300, 1400, 1400],
      ],
    );
  },

  'the loopback device down takes the IPv6 blackholes': (t, s) => {
    must(
      t,
      s,
      ...PLANS.map(({ destination }) => add.route({ destination, type: 'blackhole' })),
      set('lo', { up: true }),
    );
    t.equal(routes(s).length, 2);
    must(t, s, set('lo', { up: false }));
    t.strictSame(routes(s), ['blackhole 10.9.0.0/16']);
  },
};
