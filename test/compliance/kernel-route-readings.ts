// Routes: what is read, what a deletion matches, where a packet goes.

import type { Query } from '../../kernel/kernel.ts';
import { finish } from '../../model/slices.ts';
import { printStep } from '../../model/steps.ts';
import { add, type Case, must, remove, replace, script, set, sysctl, vxlan } from './kernel-subject.ts';
import { read } from './kernel-readings.ts';
import { both, own } from './kernel-routes.ts';

/** What it returns, or code, errno and subject of what it throws. */
const failure = (run: () => unknown): unknown => {
  try {
    return run();
  } catch (error) {
    const { code, errno, subject } = error as { code?: string; errno?: string; subject?: string };
    return [code, errno, subject];
  }
};

export const ROUTE_READING_CASES: Readonly<Record<string, Case>> = {
  'everything about a route is read, defaults as if unsaid': both(
    (t, s, { family, destination, destination2, far, self, gateway }) => {
      const full = {
        via: far,
        device: 'v0',
        onlink: true,
        source: self,
        metric: 7,
        protocol: 251,
        mtu: 1400,
        advmss: 1300,
      };
      must(t, s, add.route({ destination, ...full }), add.route({ destination: destination2, via: gateway }));
      const found = read(s, { routes: { families: [family] } }).routes.filter((route) =>
        [destination, destination2].includes(route.destination as string),
      );
      const plain = { table: 254, type: 'unicast', scope: 'global' };
      t.strictSame(
        found.sort((a) => (a.destination === (destination as string) ? -1 : 1)),
        [
          { destination, ...full, ...plain },
          { destination: destination2, via: gateway, device: 'v0', onlink: false, protocol: 3, ...plain },
        ],
      );
      must(t, s, replace.route({ destination: destination2, via: gateway, metric: family === 6 ? 1024 : 0 }));
      t.equal(
        read(s, { routes: { families: [family] } }).routes.filter(
          (route) => route.destination === (destination2 as string),
        ).length,
        1,
      );
      must(t, s, add.route({ destination: family === 4 ? '10.7.0.0/16' : 'fd07::/64', device: 'v0' }));
      const direct = read(s, { routes: { families: [family] } }).routes.find((route) =>
        /^(10\.7|fd07)/.test(route.destination),
      );
      t.equal(direct?.scope, family === 4 ? 'link' : 'global');
    },
  ),

  "a protocol's routes by a gateway can be left out": both(
    (t, s, { family, destination, destination2, far, gateway }) => {
      const direct = family === 4 ? '10.7.0.0/16' : 'fd07::/64';
      must(
        t,
        s,
        add.route({ destination, via: far, device: 'v0', onlink: true, protocol: 251 }),
        add.route({ destination: destination2, via: gateway, protocol: 4 }),
        add.route({ destination: direct, device: 'v0', protocol: 251 }),
      );
      const all = read(s, { routes: { families: [family] } }).routes;
      const some = read(s, { routes: { families: [family], withoutGatewaysOf: 251 } }).routes;
      t.strictSame(
        some,
        all.filter((route) => route.destination !== destination),
      );
      t.equal(some.length, all.length - 1, 'what others made, and what leads to a device, is read');
    },
  ),

  'a reading that is as another was has no state': (t, { kernel }) => {
    const [destination, device] = ['10.77.0.0/24', 'vx77'];
    // Without IPv6, whose groups come to be neighbours of a device that is up whenever the kernel speaks to them.
    const ready = [
      vxlan(device, { vni: 77 }),
      sysctl(`net/ipv6/conf/${device}/disable_ipv6`, '1'),
      set(device, { up: true }),
    ];
    const steps = [
      add.address({ device, address: '10.78.0.1/32' }),
      add.fdb({ device, mac: '02:00:00:00:77:01', destination: '192.0.2.77' }),
      add.neighbour({ device, ip: '10.77.0.0', mac: '02:00:00:00:77:01' }),
      add.route({ destination, via: '10.77.0.0', device, onlink: true }),
      replace.route({ destination, via: '10.77.0.1', device, onlink: true }),
      remove.route({ destination, device }),
      replace.neighbour({ device, ip: '10.77.0.0', mac: '02:00:00:00:77:02' }),
      remove.fdb({ device, mac: '02:00:00:00:77:01', destination: '192.0.2.77' }),
      set(device, { mtu: 1234 }),
    ];
    const query: Query = {
      links: [device],
      addresses: [device],
      neighbours: [device],
      fdb: [device],
      routes: { families: [4] },
      sysctls: ['net/ipv4/ip_forward'],
    };
    const look = (former?: string) => finish(kernel.readInSlices(query, former));
    t.teardown(() => kernel.apply(kernel.host, [remove.link({ name: device, kind: 'vxlan' })]));
    t.same(kernel.apply(kernel.host, ready), []);
    let last = look();
    for (const step of steps) {
      t.same(kernel.apply(kernel.host, [step]), []);
      const now = look(last.fingerprint);
      t.strictSame(now.state, kernel.read(kernel.host, query), printStep(step));
      t.equal(look(now.fingerprint).state, undefined);
      last = now;
    }
  },

  'a deletion matches what it states': both((t, s, plan) => {
    const { destination, far, self, gateway, gateway2, family } = plan;
    const ignored = family === 4 ? 'ESRCH' : 'ok';
    const there = { destination, via: far, device: 'v0', onlink: true, source: self, protocol: 251, mtu: 1400 };
    const cases: [object, string][] = [
      [{ destination: plan.destination2 }, 'ESRCH'],
      [{ destination, via: gateway }, 'ESRCH'],
      [{ destination, device: 'w0' }, 'ESRCH'],
      [{ destination, device: 'nope' }, 'ENODEV'],
      [{ destination, protocol: 4 }, 'ESRCH'],
      [{ destination, metric: 77 }, 'ESRCH'],
      [{ destination, table: 100 }, 'ESRCH'],
      [{ destination, source: gateway2 }, ignored],
      [{ destination, scope: 'host' }, ignored],
      [{ destination, type: 'blackhole' }, ignored],
      [{ destination, mtu: 1300 }, ignored],
      [{ destination, type: 'unicast', mtu: 1400 }, 'ok'],
      [there, 'ok'],
      [{ destination }, 'ok'],
    ];
    for (const [request, answer] of cases) {
      must(t, s, replace.route(there));
      script(t, s, [[remove.route(request as { destination: string }), answer]]);
      t.equal(own(s, plan).length, answer === 'ok' ? 0 : 1);
    }
    script(t, s, [[remove.route({ destination }), 'ESRCH']]);
  }),

  'IPv6 finds no default route in another way': (t, s) => {
    script(t, s, [
      [remove.route({ destination: '0.0.0.0/0' }), 'ESRCH'],
      [remove.route({ destination: '::/0' }), 'ENOENT'],
      [remove.route({ destination: '::/0', metric: 5 }), 'ESRCH'],
      [remove.route({ destination: '::/0', protocol: 4 }), 'ESRCH'],
      [remove.route({ destination: '::/0', table: 100 }), 'ESRCH'],
    ]);
  },

  'a deletion without a metric takes the lowest': both((t, s, plan) => {
    const { destination } = plan;
    must(
      t,
      s,
      ...[7, 5, 9].map((metric) => add.route({ destination, device: 'v0', metric })),
      remove.route({ destination }),
    );
    t.strictSame(
      own(s, plan),
      [7, 9].map((metric) => `${destination} dev v0 metric ${metric}`),
    );
  }),

  'what was read can be deleted': both((t, s, plan) => {
    const { destination, destination2, gateway, far, self } = plan;
    must(
      t,
      s,
      add.route({ destination, via: gateway, metric: 9, mtu: 1400, source: self }),
      add.route({ destination, type: 'blackhole' }),
    );
    must(t, s, add.route({ destination: destination2, via: far, device: 'w0', onlink: true }));
    const found = read(s, { routes: { families: [plan.family] } }).routes.filter((route) => route.protocol === 3);
    t.equal(found.length, 3);
    must(t, s, ...found.map((route) => remove.route(route)));
    t.strictSame(own(s, plan), []);
  }),

  'only what was asked is read': both((t, s, { family, destination, gateway }) => {
    must(t, s, add.route({ destination, via: gateway }));
    const ofDevice = (device: string) =>
      read(s, { routes: { families: [family], device } }).routes.filter(
        (route) => !route.destination.startsWith('fe80'),
      );
    t.strictSame([ofDevice('v0').length, ofDevice('w0').length, ofDevice('nope').length], [2, 0, 0]);
    t.ok(
      read(s, { routes: { families: [family] } }).routes.every(
        (route) => route.destination.includes(':') === (family === 6),
      ),
    );
  }),

  'the longest prefix wins, then the lowest metric': both((t, s, plan) => {
    const { family, destination, inside, gateway, gateway2, self, far } = plan;
    const to = (ip: string) => failure(() => s.kernel.routeTo(s.namespace, ip as never));
    const host = (ip: string) => `${ip}/${family === 4 ? 32 : 128}`;
    t.strictSame(to(far), ['kernel', 'ENETUNREACH', far]);
    must(t, s, add.route({ destination: family === 4 ? '0.0.0.0/0' : '::/0', via: gateway }));
    t.match(to(inside), { destination: host(inside), device: 'v0', via: gateway, source: self });
    must(
      t,
      s,
      add.route({ destination, via: gateway2, metric: 9 }),
      add.route({ destination, device: 'w0', source: self, metric: 8 }),
    );
    t.match(to(inside), { destination: host(inside), device: 'w0', source: self });
    must(t, s, add.route({ destination: host(inside), type: 'blackhole' }));
    t.strictSame(to(inside), ['kernel', 'EINVAL', inside]);
    t.match(to(self), { destination: host(self), device: 'lo', source: self });
    t.match(to(gateway), { destination: host(gateway), device: 'v0', source: self });
  }),
};
