// Every step as the line a person would type.

import t from 'tap';
import { merge, type State } from '../../model/state.ts';
import { printStep, printSteps, type Step } from '../../model/steps.ts';

const step = (verb: Step['verb'], type: string, value: object): Step =>
  ({ verb, item: { type, value } }) as unknown as Step;

const lines = (type: string, cases: readonly (readonly [Step['verb'], object, string])[]) =>
  t.test(type, async (t) => {
    for (const [verb, value, line] of cases) t.equal(printStep(step(verb, type, value)), line);
  });

const VETH = {
  name: 'veth1',
  kind: 'veth',
  mac: '02:00:00:00:01:01',
  mtu: 1450,
  up: true,
  master: 'cni0',
  port: { hairpin: true, isolated: false },
};

lines('link', [
  ['add', { name: 'br0', kind: 'bridge' }, 'ip link add br0 type bridge'],
  [
    'add',
    { name: 'br0', kind: 'bridge', up: false, bridge: { nfCallIptables: true } },
    'ip link add br0 down type bridge nf_call_iptables 1',
  ],
  [
    'add',
    { name: 'br0', kind: 'bridge', bridge: { nfCallIp6tables: false } },
    'ip link add br0 type bridge nf_call_ip6tables 0',
  ],
  [
    'add',
    { ...VETH, peer: { name: 'eth0' } },
    'ip link add veth1 mtu 1450 address 02:00:00:00:01:01 master cni0 up type veth peer name eth0 type bridge_slave hairpin on isolated off',
  ],
  [
    'add',
    {
      name: 'veth1',
      kind: 'veth',
      peer: { name: 'eth0', mac: '02:00:00:00:01:02', mtu: 1440, namespace: { path: '/run/netns/pod', id: '4:1' } },
    },
    'ip link add veth1 type veth peer name eth0 address 02:00:00:00:01:02 mtu 1440 netns /run/netns/pod',
  ],
  ['add', { name: 'f', kind: 'vxlan', vxlan: { vni: 1, port: 8472 } }, 'ip link add f type vxlan id 1 dstport 8472'],
  [
    'add',
    {
      name: 'f',
      kind: 'vxlan',
      vxlan: { vni: 1, port: 8472, local: 'fd00::1', device: 'eth0', learning: false, gbp: true },
    },
    'ip link add f type vxlan id 1 local fd00::1 dev eth0 dstport 8472 nolearning gbp',
  ],
  [
    'add',
    { name: 'f', kind: 'vxlan', vxlan: { vni: 1, port: 8472, learning: true, gbp: false } },
    'ip link add f type vxlan id 1 dstport 8472',
  ],
  ['change', { name: 'br0', kind: 'bridge', up: true }, 'ip link set br0 up'],
  ['change', { name: 'v0', kind: 'veth', master: null, promiscuous: true }, 'ip link set v0 nomaster promisc on'],
  [
    'change',
    { name: 'v0', kind: 'veth', mtu: 1400, mac: '02:00:00:00:00:01', up: false },
    'ip link set v0 mtu 1400 address 02:00:00:00:00:01 down',
  ],
  [
    'change',
    { name: 'br0', kind: 'bridge', bridge: { nfCallIptables: true, nfCallIp6tables: false } },
    'ip link set br0 type bridge nf_call_iptables 1 nf_call_ip6tables 0',
  ],
  ['change', { name: 'v0', kind: 'veth', port: { isolated: true } }, 'ip link set v0 type bridge_slave isolated on'],
  ['delete', VETH, 'ip link delete veth1'],
]);

lines('address', [
  ['add', { device: 'cni0', address: '10.5.1.1/24' }, 'ip address add 10.5.1.1/24 dev cni0'],
  ['add', { device: 'cni0', address: 'fd00::1/64', noDad: true }, 'ip -6 address add fd00::1/64 dev cni0 nodad'],
  ['replace', { device: 'cni0', address: 'fd00::1/64', noDad: false }, 'ip -6 address replace fd00::1/64 dev cni0'],
  [
    'delete',
    { device: 'cni0', address: 'fd00::1/64', noDad: true, scope: 'global', flags: [] },
    'ip -6 address delete fd00::1/64 dev cni0',
  ],
]);

lines('route', [
  ['add', { destination: '10.5.2.0/24', via: '192.0.2.2' }, 'ip route add 10.5.2.0/24 via 192.0.2.2'],
  ['replace', { destination: '::/0', device: 'eth0' }, 'ip -6 route replace ::/0 dev eth0'],
  ['add', { destination: '10.5.0.0/16', type: 'blackhole' }, 'ip route add blackhole 10.5.0.0/16'],
  [
    'add',
    { destination: '10.5.0.0/16', type: 'unicast', device: 'eth0', onlink: false },
    'ip route add 10.5.0.0/16 dev eth0',
  ],
  [
    'delete',
    {
      destination: 'fd05::/64',
      via: 'fd05::',
      device: 'f',
      protocol: 251,
      source: 'fd00::1',
      metric: 0,
      table: 254,
      scope: 'global',
      mtu: 1400,
      advmss: 1300,
      onlink: true,
    },
    'ip -6 route delete fd05::/64 via fd05:: dev f proto 251 src fd00::1 metric 0 table 254 scope global mtu 1400 advmss 1300 onlink',
  ],
]);

lines('neighbour', [
  [
    'add',
    { device: 'f', ip: '10.5.2.0', mac: '02:00:00:00:00:02' },
    'ip neighbour add 10.5.2.0 lladdr 02:00:00:00:00:02 nud permanent dev f',
  ],
  [
    'replace',
    { device: 'f', ip: 'fd05::', mac: '02:00:00:00:00:02' },
    'ip -6 neighbour replace fd05:: lladdr 02:00:00:00:00:02 nud permanent dev f',
  ],
  ['delete', { device: 'f', ip: 'fd05::', mac: '02:00:00:00:00:02' }, 'ip -6 neighbour delete fd05:: dev f'],
]);

lines('fdb', [
  [
    'add',
    { device: 'f', mac: '02:00:00:00:00:02', destination: '192.0.2.2' },
    'bridge fdb add 02:00:00:00:00:02 dev f dst 192.0.2.2 self permanent',
  ],
  [
    'replace',
    { device: 'f', mac: '02:00:00:00:00:02', destination: 'fd00::2' },
    'bridge fdb replace 02:00:00:00:00:02 dev f dst fd00::2 self permanent',
  ],
  [
    'delete',
    { device: 'f', mac: '02:00:00:00:00:02', destination: '192.0.2.2' },
    'bridge fdb delete 02:00:00:00:00:02 dev f dst 192.0.2.2 self',
  ],
]);

lines('sysctl', [
  ['change', { key: 'net/ipv4/ip_forward', value: '1' }, 'sysctl -w net.ipv4.ip_forward=1'],
  ['change', { key: 'net/ipv6/conf/eth0.100/accept_ra', value: '0' }, 'sysctl -w net.ipv6.conf.eth0/100.accept_ra=0'],
  ['change', { key: 'net/ipv4/tcp_rmem', value: '1 2\t3' }, 'sysctl -w net.ipv4.tcp_rmem=1 2\\t3'],
]);

t.test('several steps, a line each', async (t) => {
  const link = step('delete', 'link', { name: 'a', kind: 'veth' });
  t.equal(printSteps([]), '');
  t.equal(printSteps([link, link]), 'ip link delete a\nip link delete a\n');
});

t.test('states are put together part by part', async (t) => {
  const part = (names: readonly string[]) =>
    ({ links: names.map((name) => ({ name, kind: 'veth' })) }) as Partial<State>;
  const merged = merge(part(['a']), {}, part(['b', 'c']), { sysctls: [{ key: 'net/x', value: '1' }] });
  t.strictSame(
    merged.links.map(({ name }) => name),
    ['a', 'b', 'c'],
  );
  t.strictSame(merged.sysctls, [{ key: 'net/x', value: '1' }]);
  t.ok(Object.values(merged).every(Array.isArray), 'every part is there');
  t.ok(Object.values(merge()).every((list) => Array.isArray(list) && list.length === 0));
});
