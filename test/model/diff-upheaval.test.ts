// What diff does about changes that take other things along: a device made anew, an address that goes, a route in the way.

import t from 'tap';
import { cni0, gateway, neighbour, NODE, plans, route, state, veth, vx, VX_LINE } from './plans.ts';

t.test('what a device was made with is changed by making it anew, with everything on it', async (t) => {
  const sysctls = [{ key: 'net/ipv6/conf/flannel.1/accept_ra', value: '0' }];
  const again = [
    VX_LINE.replace('local', 'local').replace(' up ', ' down ').replace('dstport 8472', 'dstport 4789'),
    'sysctl -w net.ipv6.conf.flannel/1.accept_ra=0',
    'ip link set flannel.1 up',
  ];
  plans(
    t,
    'another port',
    { ...NODE, ...state({ ...NODE, sysctls }) },
    state({ ...NODE, links: [{ ...vx, vxlan: { ...vx.vxlan, port: 4789 } }], sysctls }),
    [
      'ip link delete flannel.1',
      ...again,
      'ip address add 10.5.1.0/32 dev flannel.1',
      'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self permanent',
      'ip neighbour replace 10.5.2.0 lladdr 02:00:00:00:00:02 nud permanent dev flannel.1',
      'ip route replace 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink',
    ],
  );
  plans(
    t,
    'another kind, and nothing of the old one is deleted by itself',
    NODE,
    state({ links: [{ name: 'flannel.1', kind: 'bridge' }] }),
    ['ip link delete flannel.1', 'ip link add flannel.1 type bridge'],
  );
  plans(
    t,
    'the port of a bridge that is made anew',
    state({
      links: [
        { ...cni0, kind: 'veth' },
        { ...veth, port: { hairpin: true, isolated: false } },
      ],
    }),
    state({ links: [cni0, { ...veth, port: { hairpin: true } }] }),
    [
      'ip link delete cni0',
      'ip link add cni0 up type bridge',
      'ip link set veth1 master cni0 type bridge_slave hairpin on',
    ],
  );
});

t.test('addresses that go go first, and what goes with them comes back', async (t) => {
  const links = [cni0];
  const have = state({
    links,
    addresses: [gateway, { device: 'cni0', address: '10.5.1.2/24' }, { device: 'cni0', address: 'fd01::1/64' }],
    routes: [
      { destination: '10.9.0.0/16', device: 'cni0' },
      { destination: '10.8.0.0/16', device: 'eth0' },
      { destination: 'fd09::/64', device: 'cni0' },
    ],
  });
  plans(t, 'the first of a subnet takes the second', have, { ...have, addresses: have.addresses.slice(1) }, [
    'ip address delete 10.5.1.1/24 dev cni0',
    'ip address replace 10.5.1.2/24 dev cni0',
    'ip route replace 10.9.0.0/16 dev cni0',
  ]);
  plans(
    t,
    'and what is not wanted is deleted before it would vanish',
    have,
    { ...have, addresses: [], routes: have.routes.slice(1) },
    [
      'ip route delete 10.9.0.0/16 dev cni0',
      'ip -6 address delete fd01::1/64 dev cni0',
      'ip address delete 10.5.1.2/24 dev cni0',
      'ip address delete 10.5.1.1/24 dev cni0',
    ],
  );
  plans(
    t,
    'IPv6 has an address once, whatever its length',
    have,
    state({
      ...have,
      addresses: [...have.addresses.slice(0, 2), { device: 'cni0', address: 'fd01::1/80', noDad: true }],
    }),
    ['ip -6 address delete fd01::1/64 dev cni0', 'ip -6 address add fd01::1/80 dev cni0 nodad'],
  );
  const prefers = state({
    links,
    addresses: [gateway],
    routes: [
      { destination: '10.8.0.0/16', device: 'eth0', source: '10.5.1.1' },
      { destination: '10.7.0.0/16', device: 'eth0', source: '10.5.1.1' },
    ],
  });
  plans(
    t,
    'routes elsewhere that prefer the address',
    prefers,
    state({ links, routes: [{ destination: '10.8.0.0/16', device: 'eth0' }] }),
    [
      'ip route delete 10.7.0.0/16 dev eth0 src 10.5.1.1',
      'ip address delete 10.5.1.1/24 dev cni0',
      'ip route replace 10.8.0.0/16 dev eth0',
    ],
  );
});

t.test('what a device drops when its MAC, state or MTU changes comes back', async (t) => {
  const six = { device: 'flannel.1', ip: 'fd05::2', mac: '02:00:00:00:00:02' };
  const routes = [route, { destination: 'fd05:2::/64', device: 'flannel.1', mtu: 1400 }];
  const have = state({
    ...NODE,
    links: [{ ...vx, mac: '02:00:00:00:00:01', mtu: 1450 }],
    neighbours: [neighbour, six],
    routes,
    addresses: [...NODE.addresses, { device: 'flannel.1', address: 'fd05::1/64' }],
  });
  const [four, again6] = [
    'ip neighbour replace 10.5.2.0 lladdr 02:00:00:00:00:02 nud permanent dev flannel.1',
    'ip -6 neighbour replace fd05::2 lladdr 02:00:00:00:00:02 nud permanent dev flannel.1',
  ];
  const with_ = (change: object) => state({ ...have, links: [{ ...have.links[0], ...change }] });
  plans(t, 'MAC: neighbours, even permanent ones', have, with_({ mac: '02:00:00:00:00:09' }), [
    'ip link set flannel.1 address 02:00:00:00:00:09',
    four,
    again6,
  ]);
  plans(t, 'MTU: that of IPv6 routes', have, with_({ mtu: 1400 }), [
    'ip link set flannel.1 mtu 1400',
    'ip -6 route replace fd05:2::/64 dev flannel.1 mtu 1400',
  ]);
  plans(t, 'down: all but IPv4 addresses and forwarding entries', have, { ...with_({ up: false }), routes: [] }, [
    'ip -6 route delete fd05:2::/64 dev flannel.1 metric 1024 mtu 1400',
    'ip route delete 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink',
    'ip link set flannel.1 down',
    'ip -6 address replace fd05::1/64 dev flannel.1',
    four,
    again6,
  ]);
});

t.test('from host-gw to VXLAN and back: IPv6 first lets go of the route', async (t) => {
  for (const [network, by, dead] of [
    ['10.5.2.0/24', 'ip', ''],
    ['fd05:2::/64', 'ip -6', ' metric 1024'],
  ] as const) {
    const via = network.split('/')[0];
    const direct = { destination: network, via: network.includes(':') ? 'fd00::2' : '192.0.2.2', device: 'eth0' };
    const tunnel = { destination: network, via, device: 'flannel.1', onlink: true };
    const added = `${by} route replace ${network} via ${via} dev flannel.1 onlink`;
    const removed = `${by} route delete ${network} via ${direct.via} dev eth0${dead}`;
    plans(
      t,
      `to VXLAN, ${by}`,
      state({ routes: [direct] }),
      state({ routes: [tunnel] }),
      dead ? [removed, added] : [added],
    );
    plans(t, `and back, ${by}`, state({ routes: [tunnel] }), state({ routes: [direct] }), [
      `${by} route replace ${network} via ${direct.via} dev eth0`,
    ]);
    plans(t, `another MTU, ${by}`, state({ routes: [tunnel] }), state({ routes: [{ ...tunnel, mtu: 1400 }] }), [
      added.replace('onlink', 'mtu 1400 onlink'),
    ]);
  }
});

t.test('a bridge gets its MTU again when its ports disturb it', async (t) => {
  const bridge = { ...cni0, mtu: 1450 };
  const have = state({ links: [bridge, { ...veth, mtu: 1450 }] });
  const again = 'ip link set cni0 mtu 1450';
  plans(
    t,
    'a new port of another MTU',
    have,
    state({ links: [bridge, { ...veth, name: 'veth2', mtu: 1400 }] }),
    ['ip link add veth2 mtu 1400 master cni0 up type veth', again],
    () => false,
  );
  plans(
    t,
    'of the same',
    have,
    state({ links: [bridge, { ...veth, name: 'veth2', mtu: 1450 }] }),
    ['ip link add veth2 mtu 1450 master cni0 up type veth'],
    () => false,
  );
  plans(t, 'a port that goes', have, state({ links: [bridge] }), ['ip link delete veth1', again]);
  plans(t, 'a bridge that states none', have, state({ links: [cni0] }), ['ip link delete veth1']);
  plans(t, 'a port that changes', have, state({ links: [bridge, { ...veth, mtu: 1300 }] }), [
    'ip link set veth1 mtu 1300',
    again,
  ]);
  plans(t, 'a link that is no port', have, state({ links: [bridge, vx] }), [VX_LINE], () => false);
});
