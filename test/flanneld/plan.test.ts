// From leases to the whole state of the host, as the lines a person would type: backends x families, and leases that make
// no sense. What applying them does, in any order, is reconcile.test.ts.

import t, { type Test } from 'tap';
import type { Backend, Site } from '../../flanneld/backend/backend.ts';
import { openBackend } from '../../flanneld/backend/registry.ts';
import { type Plan, type PlanInput, planHost } from '../../flanneld/plan.ts';
import { diff } from '../../model/diff.ts';
import { type Family, ip, mac, prefix } from '../../model/ip.ts';
import type { Lease } from '../../model/lease.ts';
import { EMPTY_STATE, merge, type State } from '../../model/state.ts';
import { printSteps } from '../../model/steps.ts';
import { farLease, HOST, NETWORKS, ourLease, peerLease, siteOf } from './fixtures/world.ts';

const open = (
  options: Readonly<Record<string, unknown>>,
  site: Site = siteOf([4]),
  have: State = HOST,
  stored?: Lease,
): Backend => openBackend(String(options.Type), { options, site, have, stored });

function plan(
  options: Readonly<Record<string, unknown>>,
  families: readonly Family[],
  peers: readonly Lease[],
  more: Partial<PlanInput> = {},
): Plan {
  const site = siteOf(families);
  const backend = open(options, site);
  const self = ourLease(families, backend.publishedType);
  const input = {
    site,
    backend,
    self,
    peers,
    networks: families.map((family) => NETWORKS[family]),
    removals: true,
    blackhole: false,
    advertised: [],
    ...more,
  };
  return planHost(input, HOST);
}

/** Everything wanted, as lines. */
const lines = ({ want }: Plan): string => printSteps(diff(EMPTY_STATE, want));

/** The VTEP MACs that node a comes to: of IPv4, of IPv6. */
const [MAC4, MAC6] = [4, 6].map((family) => {
  const data = open({ Type: 'vxlan' }, siteOf([4, 6])).backendData[family as Family];
  return (data as { VtepMAC: string }).VtepMAC;
});

const DEVICE4 = `ip link add flannel.1 mtu 1450 address ${MAC4} down type vxlan id 1 local 192.168.50.1 dev eth0 dstport 8472 nolearning
sysctl -w net.ipv6.conf.flannel/1.accept_ra=0
sysctl -w net.ipv4.conf.flannel/1.rp_filter=2
sysctl -w net.ipv4.ip_forward=1
ip link set flannel.1 up
ip address add 10.244.1.0/32 dev flannel.1
`;
const DEVICE6 = `ip link add flannel-v6.1 mtu 1430 address ${MAC6} down type vxlan id 1 local fd00:50::1 dev eth0 dstport 8472 nolearning
sysctl -w net.ipv6.conf.flannel-v6/1.accept_ra=0
sysctl -w net.ipv6.conf.all.forwarding=1
ip link set flannel-v6.1 up
ip -6 address add fd00:244:0:1::/128 dev flannel-v6.1 nodad
`;

interface Case {
  readonly what: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly families: readonly Family[];
  readonly peers: readonly Lease[];
  readonly lines: string;
}

const CASES: readonly Case[] = [
  { what: 'vxlan alone', options: { Type: 'vxlan' }, families: [4], peers: [], lines: DEVICE4 },
  {
    what: 'vxlan, two peers',
    options: { Type: 'vxlan' },
    families: [4],
    peers: [peerLease([4], 2), farLease([4])],
    lines: `${DEVICE4}bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.168.50.2 self permanent
bridge fdb replace 02:00:00:00:00:09 dev flannel.1 dst 203.0.113.9 self permanent
ip neighbour replace 10.244.2.0 lladdr 02:00:00:00:00:02 nud permanent dev flannel.1
ip neighbour replace 10.244.9.0 lladdr 02:00:00:00:00:09 nud permanent dev flannel.1
ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 251 onlink
ip route replace 10.244.9.0/24 via 10.244.9.0 dev flannel.1 proto 251 onlink
`,
  },
  {
    what: 'vxlan over IPv6 only',
    options: { Type: 'vxlan' },
    families: [6],
    peers: [peerLease([6], 2)],
    lines: `${DEVICE6}bridge fdb replace 02:00:00:00:00:02 dev flannel-v6.1 dst fd00:50::2 self permanent
ip -6 neighbour replace fd00:244:0:2:: lladdr 02:00:00:00:00:02 nud permanent dev flannel-v6.1
ip -6 route replace fd00:244:0:2::/64 via fd00:244:0:2:: dev flannel-v6.1 proto 251 onlink
`,
  },
  {
    what: 'vxlan with DirectRouting: a tunnel only behind a gateway',
    options: { Type: 'vxlan', DirectRouting: true },
    families: [4],
    peers: [peerLease([4], 2), farLease([4])],
    lines: `${DEVICE4}bridge fdb replace 02:00:00:00:00:09 dev flannel.1 dst 203.0.113.9 self permanent
ip neighbour replace 10.244.9.0 lladdr 02:00:00:00:00:09 nud permanent dev flannel.1
ip route replace 10.244.2.0/24 via 192.168.50.2 dev eth0 proto 251
ip route replace 10.244.9.0/24 via 10.244.9.0 dev flannel.1 proto 251 onlink
`,
  },
  {
    what: 'vxlan with every option, keys in any case',
    options: { Type: 'vxlan', vni: 7, port: 4789, Mtu: 1400, learning: true, GBP: true },
    families: [4],
    peers: [],
    lines: `ip link add flannel.7 mtu 1350 address ${(open({ Type: 'vxlan', VNI: 7 }).backendData[4] as { VtepMAC: string }).VtepMAC} down type vxlan id 7 local 192.168.50.1 dev eth0 dstport 4789 gbp
sysctl -w net.ipv6.conf.flannel/7.accept_ra=0
sysctl -w net.ipv4.conf.flannel/7.rp_filter=2
sysctl -w net.ipv4.ip_forward=1
ip link set flannel.7 up
ip address add 10.244.1.0/32 dev flannel.7
`,
  },
  {
    what: 'host-gw, both families',
    options: { Type: 'host-gw' },
    families: [4, 6],
    peers: [peerLease([4, 6], 2, { type: 'host-gw' })],
    lines: `sysctl -w net.ipv4.ip_forward=1
sysctl -w net.ipv6.conf.all.forwarding=1
ip route replace 10.244.2.0/24 via 192.168.50.2 dev eth0 proto 251
ip -6 route replace fd00:244:0:2::/64 via fd00:50::2 dev eth0 proto 251
`,
  },
  {
    what: 'alloc',
    options: { Type: 'alloc' },
    families: [4],
    peers: [peerLease([4], 2, { type: '' })],
    lines: 'sysctl -w net.ipv4.ip_forward=1\n',
  },
];

t.test('backends x families', async (t) => {
  for (const { what, options, families, peers, lines: expected } of CASES)
    t.equal(lines(plan(options, families, peers)), expected, what);
});

t.test('both families at once are the two together', async (t) => {
  const both = lines(plan({ Type: 'vxlan' }, [4, 6], [peerLease([4, 6], 2)]))
    .split('\n')
    .sort();
  const each = ([4, 6] as const).flatMap((family) =>
    lines(plan({ Type: 'vxlan' }, [family], [peerLease([family], 2)])).split('\n'),
  );
  t.same(both.filter(Boolean), each.filter(Boolean).sort());
});

t.test('router advertisements and the blackhole', async (t) => {
  const text = lines(plan({ Type: 'alloc' }, [6], [], { advertised: ['eth0'], blackhole: true }));
  t.equal(
    text,
    `sysctl -w net.ipv6.conf.eth0.accept_ra=2
sysctl -w net.ipv6.conf.all.forwarding=1
ip -6 route replace blackhole fd00:244:0:1::/64 proto 251 metric 4096
`,
    'accept_ra=2 comes before forwarding=1, which would drop the default route',
  );
});

t.test('a kernel without IPv6', async (t) => {
  const { want } = planHost(
    {
      site: siteOf([4]),
      backend: open({ Type: 'vxlan' }),
      self: ourLease([4]),
      peers: [],
      networks: [NETWORKS[4]],
      removals: true,
      blackhole: false,
      advertised: [],
    },
    EMPTY_STATE,
  );
  t.same(want.sysctls, [
    { key: 'net/ipv4/conf/flannel.1/rp_filter', value: '2' },
    { key: 'net/ipv4/ip_forward', value: '1' },
  ]);
});

t.test('report 20: MTU of pods', async (t) => {
  t.equal(open({ Type: 'vxlan' }, siteOf([4])).mtu, 1450);
  t.equal(open({ Type: 'vxlan' }, siteOf([6])).mtu, 1430);
  t.equal(open({ Type: 'vxlan' }, siteOf([4, 6])).mtu, 1430, 'what fits both');
  t.equal(open({ Type: 'vxlan', MTU: 1400 }, siteOf([4])).mtu, 1350);
  t.equal(open({ Type: 'vxlan', MTU: 9000 }, siteOf([4])).mtu, 1450, 'never more than the interface takes');
  t.equal(open({ Type: 'host-gw' }, siteOf([4, 6])).mtu, 1500);
  t.equal(open({ Type: 'alloc' }, siteOf([4, 6])).mtu, 1500);
});

t.test('what is published', async (t) => {
  t.same(open({ Type: 'vxlan' }, siteOf([4])).backendData, { 4: { VNI: 1, VtepMAC: MAC4 } });
  t.same(open({ Type: 'host-gw' }, siteOf([4, 6])).backendData, {});
  t.equal(open({ Type: 'alloc' }).publishedType, '');
});

t.test('the VTEP MAC', async (t) => {
  const macOf = (backend: Backend) => (backend.backendData[4] as { VtepMAC: string }).VtepMAC;
  t.match(MAC4, /^[0-9a-f][26ae]:/, 'locally administered, not multicast');
  t.not(MAC4, MAC6);
  t.equal(macOf(open({ Type: 'vxlan' })), MAC4, 'the same every time');
  t.not(macOf(open({ Type: 'vxlan' }, { ...siteOf([4]), nodeId: 'another' })), MAC4);
  const stored = { ...ourLease([4]), backendData: { 4: { VNI: 1, VtepMAC: 'e2:5a:84:0d:d0:bb' } } };
  t.equal(
    macOf(open({ Type: 'vxlan' }, siteOf([4]), HOST, stored)),
    'e2:5a:84:0d:d0:bb',
    'what peers know from our lease',
  );
  const there = merge(HOST, { links: [{ name: 'flannel.1', kind: 'vxlan', mac: mac('0a:00:00:00:00:77') }] });
  t.equal(
    macOf(open({ Type: 'vxlan' }, siteOf([4]), there, stored)),
    'e2:5a:84:0d:d0:bb',
    'whatever udev made of the device',
  );
  t.equal(
    macOf(open({ Type: 'vxlan' }, siteOf([4]), there)),
    '0a:00:00:00:00:77',
    'a device that is there keeps its own where the store knows of none',
  );
});

/** The only refusal in a plan, and what is programmed all the same. */
function refusal(t: Test, { peers, want }: Plan, message: RegExp, what: string) {
  const refused = peers.filter((peer) => peer.refused !== undefined);
  t.match(
    refused.map((peer) => peer.refused),
    [message],
    what,
  );
  t.ok(
    want.routes.some(({ destination }) => destination === '10.244.3.0/24'),
    `${what}: the next peer is programmed`,
  );
}

t.test('a lease that makes no sense is refused and delays nobody', async (t) => {
  const good = peerLease([4], 3);
  const bad: readonly [string, Lease, RegExp][] = [
    [
      'no VtepMAC',
      { ...peerLease([4], 2), backendData: { 4: { VNI: 1 } } },
      /publishes no usable VtepMAC for IPv4: {"VNI":1}/,
    ],
    ['no data', { ...peerLease([4], 2), backendData: {} }, /publishes no usable VtepMAC for IPv4: null/],
    [
      'data of another kind',
      { ...peerLease([4], 2), backendData: { 4: 'extension output' } },
      /publishes no usable VtepMAC/,
    ],
    ['a MAC that is none', peerLease([4], 2, { mac: '02:00:00' }), /publishes no usable VtepMAC/],
    ['the zero MAC', peerLease([4], 2, { mac: '00:00:00:00:00:00' }), /publishes no usable VtepMAC/],
    ['a multicast MAC', peerLease([4], 2, { mac: '01:00:5e:00:00:01' }), /publishes no usable VtepMAC/],
    [
      'another VNI',
      { ...peerLease([4], 2), backendData: { 4: { VNI: 2, VtepMAC: '02:00:00:00:00:02' } } },
      /has VNI 2, we have 1/,
    ],
    ['our MAC', peerLease([4], 2, { mac: MAC4 as string }), /publishes our own VtepMAC/],
    ['our address', peerLease([4], 2, { host: 1 }), /publishes our own address 192\.168\.50\.1/],
    ['no address', { ...peerLease([4], 2), publicIp: {} }, /publishes no IPv4 address/],
    ['another backend', peerLease([4], 2, { type: 'host-gw' }), /has backend host-gw, we have vxlan/],
    [
      'no backend',
      peerLease([4], 2, { type: '' }),
      /has backend none \(a reservation that no agent has taken up, .*\), we have vxlan/,
    ],
    [
      'a subnet outside',
      { ...peerLease([4], 2), subnet: { 4: prefix('192.168.50.0/24') } },
      /192\.168\.50\.0\/24 is not inside 10\.244\.0\.0\/16/,
    ],
    ['the whole world', { ...peerLease([4], 2), subnet: { 4: prefix('0.0.0.0/0') } }, /0\.0\.0\.0\/0 is not inside/],
    [
      'a part of ours',
      { ...peerLease([4], 2), subnet: { 4: prefix('10.244.1.128/25') } },
      /overlaps our own 10\.244\.1\.0\/24/,
    ],
  ];
  for (const [what, lease, message] of bad) refusal(t, plan({ Type: 'vxlan' }, [4], [lease, good]), message, what);
  const gateway = { ...peerLease([4], 3, { type: 'host-gw' }) };
  refusal(
    t,
    plan({ Type: 'host-gw' }, [4], [farLease([4], 'host-gw'), gateway]),
    /203\.0\.113\.9 is not on the link of eth0/,
    'host-gw behind a gateway',
  );
});

t.test('report 18: two peers that claim one thing', async (t) => {
  const twin = peerLease([4], 3, { mac: '02:00:00:00:00:02' });
  const { peers, want } = plan({ Type: 'vxlan' }, [4], [peerLease([4], 2), twin]);
  t.match(peers[1]?.refused, /fdb flannel\.1 02:00:00:00:00:02 is also claimed by 10\.244\.2\.0-24/);
  t.equal(want.fdb.length, 1);
  const second = { ...twin, publicIp: { 4: ip('192.168.50.2') } };
  const shared = plan({ Type: 'vxlan' }, [4], [peerLease([4], 2), second]);
  t.equal(shared.peers[1]?.refused, undefined, 'one node with two subnets has one VTEP');
  t.same([shared.want.fdb.length, shared.want.routes.length], [1, 2]);
});

t.test("somebody else's route to a peer's subnet stays", async (t) => {
  const site = siteOf([4]);
  const backend = open({ Type: 'vxlan' }, site);
  const input = {
    site,
    backend,
    self: ourLease([4]),
    peers: [peerLease([4], 2)],
    networks: [NETWORKS[4]],
    removals: true,
    blackhole: false,
    advertised: [],
  };
  const withRoute = (protocol: number) =>
    merge(HOST, { routes: [{ destination: prefix('10.244.2.0/24'), device: 'br-x', protocol }] });
  t.match(
    planHost(input, withRoute(2)).peers[0]?.refused,
    /this host has 10\.244\.2\.0\/24 on br-x itself \(route protocol 2\)/,
  );
  t.equal(planHost(input, withRoute(3)).peers[0]?.refused, undefined, "flannel's are taken over");
  t.equal(planHost(input, withRoute(251)).peers[0]?.refused, undefined);
});

t.test('options that are refused, naming key and value', async (t) => {
  const refused = (options: Readonly<Record<string, unknown>>, message: RegExp, site = siteOf([4])) =>
    t.throws(() => open(options, site), { code: 'invalid-network-config', message });
  refused({ Type: 'vxlan', VNI: 'one' }, /Backend\.VNI: .*got "one"/);
  refused({ Type: 'vxlan', VNI: 0 }, /Backend\.VNI: .*got 0/);
  refused({ Type: 'vxlan', Port: 70_000, GBP: 1 }, /Backend\.Port: .*got 70000; Backend\.GBP: .*got 1/);
  refused({ Type: 'vxlan', MTU: 600 }, /Backend\.MTU: 600 leaves 550 bytes/);
  refused(
    { Type: 'vxlan', VNI: 10_000 },
    /Backend\.VNI: 10000 makes the device name flannel-v6\.10000 too long/,
    siteOf([4, 6]),
  );
  refused({ Type: 'pigeon' }, /Backend\.Type: "pigeon"/);
  refused(
    { Type: 'pigeon' },
    /"pigeon": not supported in this version, which has alloc, extension, host-gw, udp, vxlan/,
  );
  for (const Type of ['ipip', 'wireguard', 'ipsec', 'tencent-vpc']) {
    refused(
      { Type },
      new RegExp(`"${Type}": flannel's backend ${Type} is not supported in this version, which has alloc, `),
    );
  }
  t.equal(openBackend('udp', { options: {}, site: siteOf([4]), have: HOST, stored: undefined }).type, 'udp');
  const nat = {
    ...siteOf([4]),
    underlay: { 4: { device: 'eth0', mtu: 1500, address: ip('192.168.50.1'), publicIp: ip('203.0.113.1') } },
  };
  t.throws(() => open({ Type: 'host-gw' }, nat), {
    code: 'invalid-flag',
    message: /--public-ip=203\.0\.113\.1: host-gw needs the address of eth0/,
  });
});
