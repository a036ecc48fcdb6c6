// What diff plans, as the lines a person would type. That it leads there, from anywhere, is test/compliance/kernel-states.ts.

import fc from 'fast-check';
import t from 'tap';
import { diff, type Owns } from '../../model/diff.ts';
import { covers } from '../../model/diff-links.ts';
import { identity, type Item, itemsOf, type Link, type Namespace } from '../../model/state.ts';
import { printSteps } from '../../model/steps.ts';
import { state as anyState } from '../compliance/kernel-random-state.ts';
import { holds } from './holds.ts';
import { ALL, cni0, fdb, neighbour, NODE, plans, route, state, veth, vx, VX_LINE } from './plans.ts';

t.test('nothing, where nothing differs', async (t) => {
  plans(t, 'the same', NODE, NODE, []);
  const read = state({
    links: [{ ...vx, index: 3, mtu: 1450, mac: '02:00:00:00:00:01', master: null, promiscuous: false }],
  });
  plans(t, 'what was not asked for does not matter', read, state({ links: [vx] }), []);
  plans(t, 'nothing on nothing', state({}), state({}), []);
});

t.test('devices, addresses, then entries, neighbours, routes; and the other way round', async (t) => {
  plans(t, 'a new peer on a new device', state({}), NODE, [
    VX_LINE,
    'ip address add 10.5.1.0/32 dev flannel.1',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self permanent',
    'ip neighbour replace 10.5.2.0 lladdr 02:00:00:00:00:02 nud permanent dev flannel.1',
    'ip route replace 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink',
  ]);
  plans(t, 'a peer goes', NODE, { ...NODE, routes: [], neighbours: [], fdb: [] }, [
    'ip route delete 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink',
    'ip neighbour delete 10.5.2.0 dev flannel.1',
    'bridge fdb delete 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self',
  ]);
  const moved = state({
    links: [vx],
    neighbours: [{ ...neighbour, mac: '02:00:00:00:00:03' }],
    fdb: [{ ...fdb, mac: '02:00:00:00:00:03' }],
  });
  plans(t, 'a peer whose MAC changed is never without a path', { ...NODE, addresses: [], routes: [] }, moved, [
    'bridge fdb replace 02:00:00:00:00:03 dev flannel.1 dst 192.0.2.2 self permanent',
    'ip neighbour replace 10.5.2.0 lladdr 02:00:00:00:00:03 nud permanent dev flannel.1',
    'bridge fdb delete 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self',
  ]);
});

t.test('masters come first, sysctls before up', async (t) => {
  const want = state({
    links: [veth, cni0],
    sysctls: [
      { key: 'net/ipv6/conf/veth1/accept_ra', value: '0' },
      { key: 'net/ipv4/ip_forward', value: '1' },
    ],
  });
  plans(t, 'new links', state({}), want, [
    'ip link add cni0 up type bridge',
    'ip link add veth1 master cni0 down type veth',
    'sysctl -w net.ipv6.conf.veth1.accept_ra=0',
    'sysctl -w net.ipv4.ip_forward=1',
    'ip link set veth1 up',
  ]);
  plans(
    t,
    'a sysctl that differs',
    state({ ...want, sysctls: [{ key: 'net/ipv4/ip_forward', value: '0' }, want.sysctls[0] as object] }),
    want,
    ['sysctl -w net.ipv4.ip_forward=1'],
  );
});

t.test('only what is ours goes', async (t) => {
  const have = state({ ...NODE, links: [vx, cni0] });
  plans(t, 'nothing is', have, state({}), [], () => false);
  plans(
    t,
    'the routes are',
    have,
    state({}),
    ['ip route delete 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink'],
    (item) => item.type === 'route',
  );
  plans(t, 'a device takes along what is on it', have, state({}), ['ip link delete cni0', 'ip link delete flannel.1']);
  plans(t, 'sysctls are nobody’s', state({ sysctls: [{ key: 'net/ipv4/ip_forward', value: '1' }] }), state({}), []);
});

t.test('links change by what differs', async (t) => {
  const have = state({
    links: [
      {
        ...cni0,
        mtu: 1500,
        mac: '02:00:00:00:00:01',
        promiscuous: false,
        master: null,
        bridge: { nfCallIptables: false, nfCallIp6tables: false },
      },
    ],
  });
  const cases: readonly (readonly [Partial<Link>, string])[] = [
    [{ mtu: 1450 }, 'mtu 1450'],
    [{ mac: '02:00:00:00:00:02' as Link['mac'] }, 'address 02:00:00:00:00:02'],
    [{ up: false }, 'down'],
    [{ promiscuous: true, mtu: 1500 }, 'promisc on'],
    [{ bridge: { nfCallIptables: true } }, 'type bridge nf_call_iptables 1'],
    [{ bridge: { nfCallIptables: false } }, ''],
    [{ master: null }, ''],
  ];
  for (const [change, words] of cases)
    plans(
      t,
      words || 'nothing',
      have,
      state({ links: [{ name: 'cni0', kind: 'bridge', ...change }] }),
      words ? [`ip link set cni0 ${words}`] : [],
    );
  const port = state({
    links: [cni0, { ...cni0, name: 'br1' }, { ...veth, port: { hairpin: true, isolated: false } }],
  });
  plans(
    t,
    'a port that moves gets its options again',
    port,
    state({ links: [{ ...veth, master: 'br1', port: { hairpin: true } }] }),
    ['ip link set veth1 master br1 type bridge_slave hairpin on'],
    () => false,
  );
  plans(
    t,
    'a port that leaves',
    port,
    state({ links: [{ ...veth, master: null }] }),
    ['ip link set veth1 nomaster'],
    () => false,
  );
});

t.test('routes: what is compared', async (t) => {
  const have = state({ routes: [{ ...route, type: 'unicast', table: 254, scope: 'global', protocol: 251 }] });
  plans(t, 'what is not stated', have, state({ routes: [route] }), []);
  plans(
    t,
    'no gateway is a statement',
    have,
    state({ routes: [{ destination: '10.5.2.0/24', device: 'flannel.1' }] }),
    ['ip route replace 10.5.2.0/24 dev flannel.1'],
  );
  plans(
    t,
    'so is no type',
    state({ routes: [{ destination: '10.5.2.0/24', type: 'blackhole' }] }),
    state({ routes: [{ destination: '10.5.2.0/24' }] }),
    ['ip route replace 10.5.2.0/24'],
  );
  for (const change of [{ device: 'eth0' }, { mtu: 1400 }, { source: '10.5.1.1' }, { protocol: 4 }, { onlink: false }])
    t.equal(diff(have, state({ routes: [{ ...route, ...change }] })).length, 1, JSON.stringify(change));
  plans(t, 'another metric is another route', have, state({ routes: [{ ...route, metric: 5 }] }), [
    'ip route replace 10.5.2.0/24 via 10.5.2.0 dev flannel.1 metric 5 onlink',
    'ip route delete 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 251 table 254 scope global onlink',
  ]);
  plans(
    t,
    'IPv6: 1024 is no metric',
    state({ routes: [{ destination: 'fd09::/64', device: 'eth0' }] }),
    state({ routes: [{ destination: 'fd09::/64', device: 'eth0', metric: 1024 }] }),
    [],
  );
  plans(
    t,
    'IPv6: but a deletion says it, or the lowest would go',
    state({
      routes: [
        { destination: 'fd09::/64', device: 'eth0' },
        { destination: 'fd09::/64', device: 'eth0', metric: 5 },
      ],
    }),
    state({}),
    ['ip -6 route delete fd09::/64 dev eth0 metric 5', 'ip -6 route delete fd09::/64 dev eth0 metric 1024'],
  );
});

t.test('covers: every stated field, however deep', async (t) => {
  t.ok(covers({ a: 1, b: { c: 2, d: 3 } }, { b: { c: 2, d: undefined } }));
  t.notOk(covers({ a: 1 }, { a: 1, b: 2 }));
  t.notOk(covers({ b: { c: 2 } }, { b: { c: 3 } }));
  t.notOk(covers({ b: undefined }, { b: { c: undefined } }), 'a part that is not there');
  t.ok(covers(undefined, undefined));
  t.notOk(covers(null, {}));
  t.notOk(covers({}, null));
  t.ok(covers(null, null));
});

t.test('random states', async (t) => {
  const random = anyState({ path: '/run/netns/p', id: '4:1' } satisfies Namespace);
  const keys = (items: readonly Item[]) => JSON.stringify(items);
  holds(
    t,
    fc.property(random, random, fc.func(fc.boolean()), (have, want, choose) => {
      const before = keys([...itemsOf(have), ...itemsOf(want)]);
      if (diff(want, want, ALL).length > 0) throw new Error(`not at rest:\n${printSteps(diff(want, want, ALL))}`);
      const owns: Owns = (item) => choose(identity(item));
      const made = new Set(want.links.map(({ name }) => name));
      const wanted = new Set(want.routes.map(({ destination }) => destination));
      for (const { verb, item } of diff(have, want, owns)) {
        if (verb !== 'delete' || owns(item)) continue;
        const anew =
          (item.type === 'link' && made.has(item.value.name)) ||
          (item.type === 'route' && wanted.has(item.value.destination));
        if (!anew) throw new Error(`not ours: ${keys([item])}`);
      }
      if (keys([...itemsOf(have), ...itemsOf(want)]) !== before) throw new Error('an input was changed');
    }),
  );
});
