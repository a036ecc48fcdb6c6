// Routes: what is accepted and what identifies one.

import type { Test } from 'tap';
import type { Ip } from '../../model/ip.ts';
import {
  add,
  type Case,
  must,
  pair,
  type Plan,
  PLANS,
  remove,
  replace,
  script,
  set,
  type Subject,
} from './kernel-subject.ts';
import { eventually, read, routes } from './kernel-readings.ts';

/**
 * Two pairs, v0-v1 and w0-w1, all up, v0 with an address of both families. What the kernel makes of it itself is there:
 * of IPv6, a moment later.
 */
async function world(t: Test, s: Subject): Promise<void> {
  must(
    t,
    s,
    ...pair('v0', 'v1', 1),
    ...pair('w0', 'w1', 2),
    ...PLANS.map(({ address }) => add.address({ device: 'v0', address, noDad: true })),
  );
  const made = () => ({
    own: PLANS.map(({ self }) => s.kernel.routeTo(s.namespace, self as Ip).device),
    links: read(s, { routes: { families: [6] } }).routes.filter(({ destination }) => destination === 'fe80::/64')
      .length,
  });
  await eventually(t, made, { own: ['lo', 'lo'], links: 4 }, 'the kernel has made its own routes');
}

/** The case for both families, in that world. */
export const both =
  (run: (t: Test, s: Subject, plan: Plan) => void): Case =>
  async (t, s) => {
    await world(t, s);
    for (const plan of PLANS) run(t, s, plan);
  };

/** The routes of the plan's family that the test made. */
export const own = (s: Subject, { family }: Plan) =>
  routes(s, family).filter((route) => !/^(10\.1\.0\.0|fd01::)\//.test(route));

export const ROUTE_CASES: Readonly<Record<string, Case>> = {
  'destination and metric are taken once': both((t, s, plan) => {
    const { destination, gateway, gateway2 } = plan;
    script(t, s, [
      [add.route({ destination, via: gateway }), 'ok'],
      [add.route({ destination, via: gateway }), 'EEXIST'],
      [add.route({ destination, via: gateway2 }), 'EEXIST'],
      [add.route({ destination, device: 'w0' }), 'EEXIST'],
      [add.route({ destination, type: 'blackhole' }), 'EEXIST'],
      [add.route({ destination, via: gateway, metric: 5 }), 'ok'],
      [add.route({ destination, via: gateway, table: 100 }), 'ok'],
      [replace.route({ destination, via: gateway2 }), 'ok'],
      [replace.route({ destination, via: gateway2, metric: 6 }), 'ok'],
    ]);
    t.strictSame(own(s, plan), [
      `${destination} via ${gateway} dev v0 metric 5`,
      `${destination} via ${gateway2} dev v0`,
      `${destination} via ${gateway2} dev v0 metric 6`,
    ]);
  }),

  'a route of any sort replaces any other': both((t, s, plan) => {
    const { destination, gateway, far } = plan;
    const blackhole = `blackhole ${destination}${plan.family === 6 ? ' dev lo' : ''}`;
    const steps = [
      { route: { destination, via: gateway }, shown: `${destination} via ${gateway} dev v0` },
      { route: { destination, device: 'w0' }, shown: `${destination} dev w0` },
      { route: { destination, type: 'blackhole' as const }, shown: blackhole },
      {
        route: { destination, via: far, device: 'w0', onlink: true },
        shown: `${destination} via ${far} dev w0 onlink`,
      },
    ];
    for (const [at] of steps.entries()) {
      for (const { route, shown } of [...steps.slice(at), ...steps.slice(0, at)]) {
        must(t, s, replace.route(route));
        t.strictSame(own(s, plan), [shown]);
      }
    }
  }),

  'a gateway must be reachable': both((t, s, { destination, gateway, far, unreachable, inside, destination2 }) => {
    must(t, s, add.route({ destination, via: gateway }));
    script(t, s, [
      [add.route({ destination: destination2, via: far }), unreachable],
      [add.route({ destination: destination2, via: far, device: 'v0' }), unreachable],
      [add.route({ destination: destination2, via: gateway, device: 'w0' }), unreachable],
      [add.route({ destination: destination2, via: inside }), unreachable],
      [add.route({ destination: destination2, via: far, onlink: true }), 'ENODEV'],
      [add.route({ destination: destination2, via: far, device: 'nope' }), 'ENODEV'],
      [add.route({ destination: destination2 }), 'ENODEV'],
      [add.route({ destination: destination2, device: 'nope' }), 'ENODEV'],
      [add.route({ destination: destination2, via: far, device: 'w0', onlink: true }), 'ok'],
    ]);
  }),

  'a gateway may be on any link that a route without a gateway names': both((t, s, plan) => {
    const { far, destination } = plan;
    const direct = plan.family === 4 ? `${far}/32` : `${far}/128`;
    must(t, s, add.route({ destination: direct, device: 'w0' }), add.route({ destination, via: far }));
    t.strictSame(own(s, plan).sort(), [`${destination} via ${far} dev w0`, `${direct} dev w0`].sort());
  }),

  'the device must be up': both((t, s, { destination, gateway, far, unreachable }) => {
    must(t, s, set('v0', { up: false }));
    script(t, s, [
      [add.route({ destination, device: 'v0' }), 'ENETDOWN'],
      [add.route({ destination, via: far, device: 'v0', onlink: true }), 'ENETDOWN'],
      [add.route({ destination, via: gateway }), unreachable],
      [add.route({ destination, via: gateway, device: 'v0' }), unreachable],
      [add.route({ destination, type: 'blackhole' }), 'ok'],
    ]);
  }),

  'the source must be an address of the host': both((t, s, plan) => {
    const { destination, self, gateway2 } = plan;
    script(t, s, [
      [add.route({ destination, device: 'w0', source: gateway2 }), 'EINVAL'],
      [add.route({ destination, device: 'w0', source: self }), 'ok'],
    ]);
    t.strictSame(own(s, plan), [`${destination} dev w0 src ${self}`]);
  }),

  'where the families differ': async (t, s) => {
    await world(t, s);
    script(t, s, [
      [add.route({ destination: '10.9.0.7/16', device: 'v0' }), 'EINVAL'],
      [add.route({ destination: 'fd09::7/64', device: 'v0' }), 'ok'],
      [add.route({ destination: '10.8.0.0/16', via: '10.1.0.1' }), 'ok'],
      [add.route({ destination: 'fd08::/64', via: 'fd01::1' }), 'EINVAL'],
      [add.route({ destination: 'fd08::/64', via: 'fe80::1' }), 'EINVAL'],
      [add.route({ destination: 'fd08::/64', via: 'fe80::1', device: 'v0' }), 'ok'],
      [add.route({ destination: '10.7.0.0/16', type: 'blackhole', device: 'v0' }), 'EINVAL'],
      [add.route({ destination: 'fd07::/64', type: 'blackhole', device: 'v0' }), 'ok'],
      [add.route({ destination: '10.6.0.0/16', via: '224.0.0.1', device: 'v0', onlink: true }), 'EINVAL'],
      [add.route({ destination: '10.5.0.0/16', via: '10.1.0.2', scope: 'link' }), 'ENETUNREACH'],
      [add.route({ destination: '10.4.0.0/16', device: 'w0', scope: 'global' }), 'ok'],
      [add.route({ destination: '10.3.0.0/16', via: '10.4.0.1' }), 'ENETUNREACH'],
    ]);
    const shown = [
      '10.4.0.0/16 dev w0',
      '10.8.0.0/16 via 10.1.0.1 dev v0',
      'blackhole fd07::/64 dev lo',
      'fd08::/64 via fe80::1 dev v0',
      'fd09::/64 dev v0',
    ];
    t.strictSame(
      routes(s).filter((route) => !/^(10\.1\.0\.0|fd01::)\//.test(route)),
      shown,
    );
  },

  'IPv6 refuses an onlink gateway that another device reaches': async (t, s) => {
    await world(t, s);
    const destination = 'fd09::/64';
    script(t, s, [
      [add.route({ destination, via: 'fd01::2', device: 'w0', onlink: true }), 'EINVAL'],
      [add.route({ destination, via: 'fd01::1', device: 'v0', onlink: true }), 'EINVAL'],
      [add.route({ destination: 'fd07::/64', via: 'fe80::2', device: 'w0', onlink: true }), 'ok'],
      [add.route({ destination: '::/0', device: 'v0' }), 'ok'],
      [add.route({ destination, via: 'fd77::1', device: 'w0', onlink: true }), 'ok'],
      [replace.route({ destination, via: 'fd01::2', device: 'v0' }), 'ok'],
      [replace.route({ destination, via: 'fd09::', device: 'w0', onlink: true }), 'EINVAL'],
      [remove.route({ destination }), 'ok'],
      [replace.route({ destination, via: 'fd09::', device: 'w0', onlink: true }), 'ok'],
      [replace.route({ destination, via: 'fd09::', device: 'w0', onlink: true, mtu: 1400 }), 'ok'],
      [add.route({ destination: '10.9.0.0/16', via: '10.1.0.2', device: 'w0', onlink: true }), 'ok'],
    ]);
  },

  'IPv4 knows no gateway on the link before the first address, and none that is its own': (t, s) => {
    const route = { destination: '10.9.0.0/16', via: '10.77.0.1', device: 'v0', onlink: true };
    must(t, s, ...pair('v0', 'v1'));
    script(t, s, [
      [add.route(route), 'EINVAL'],
      [add.address({ device: 'v1', address: '10.77.0.1/24' }), 'ok'],
      [add.route(route), 'EINVAL'],
      [remove.address({ device: 'v1', address: '10.77.0.1/24' }), 'ok'],
      [add.route(route), 'ok'],
    ]);
  },

  'what IPv6 holds of the loopback device leads nowhere': async (t, s) => {
    await world(t, s);
    must(t, s, set('lo', { up: true }), add.address({ device: 'lo', address: 'fd03::1/64', noDad: true }));
    script(t, s, [
      [add.route({ destination: 'fd09::/64', via: 'fd03::2' }), 'EHOSTUNREACH'],
      [add.route({ destination: 'fd09::/64', via: 'fd03::2', device: 'w0', onlink: true }), 'ok'],
    ]);
    t.ok(routes(s, 6).includes('fd03::/64 dev lo metric 256'));
  },
};
