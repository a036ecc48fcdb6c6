// A plan reads as the commands a person would type.

import t from 'tap';
import { diff } from '../../model/diff.ts';
import { ip, mac, prefix } from '../../model/ip.ts';
import { EMPTY_STATE, type Namespace } from '../../model/state.ts';
import { printStep, type Step } from '../../model/steps.ts';
import { parseConfig } from '../../cni-plugin/config.ts';
import { bridgeMac, hostVethMac, hostVethName, podMac } from '../../cni-plugin/names.ts';
import {
  bornPod,
  conflicts,
  type Ends,
  planBridge,
  planHostEnd,
  planPod,
  settled,
  withGateways,
} from '../../cni-plugin/plan.ts';
import { requestWith } from './requests.ts';

const configWith = (config: object) => parseConfig(requestWith({ bridge: 'cni0', ...config }), undefined);
const lines = (steps: readonly Step[]): string[] => steps.map(printStep);

const V4 = { address: prefix('10.5.1.2/24'), gateway: ip('10.5.1.1') };
const V6 = { address: prefix('fd00:5::2/64'), gateway: ip('fd00:5::1') };
const DUAL = { ips: [V4, V6], routes: [], dns: {} };
const ENDS: Ends = { host: 'veth1', hostMac: mac('02:00:00:00:00:01'), pod: 'eth0', podMac: mac('02:00:00:00:00:02') };
const POD: Namespace = { path: '/run/netns/pod1', id: '4:5' };

t.test('gateways and default routes', async (t) => {
  const bare = { ips: [{ address: V4.address, gateway: undefined }], routes: [], dns: {} };
  t.equal(withGateways(configWith({}), bare).ips[0]?.gateway, undefined);
  t.equal(withGateways(configWith({ isGateway: true }), bare).ips[0]?.gateway, '10.5.1.1');
  const both = configWith({ isDefaultGateway: true });
  t.strictSame(withGateways(both, DUAL).routes, [
    { dst: '0.0.0.0/0', gw: '10.5.1.1' },
    { dst: '::/0', gw: 'fd00:5::1' },
  ]);
  const given = { ...DUAL, routes: [{ dst: prefix('0.0.0.0/0'), gw: ip('10.5.1.9') }] };
  t.strictSame(
    withGateways(both, given).routes,
    [...given.routes, { dst: '::/0', gw: 'fd00:5::1' }],
    'a given one stays',
  );
});

t.test('a bridge is made with its MAC, MTU and addresses, its sysctls before it is up', async (t) => {
  const address = bridgeMac('cni0', [ip('10.5.1.1'), ip('fd00:5::1')]);
  const want = planBridge(configWith({ isGateway: true, mtu: 1450 }), DUAL.ips, false);
  t.strictSame(lines(diff(EMPTY_STATE, want)), [
    `ip link add cni0 mtu 1450 address ${address} down type bridge`,
    'sysctl -w net.ipv6.conf.cni0.accept_ra=0',
    'sysctl -w net.ipv6.conf.cni0.disable_ipv6=0',
    'sysctl -w net.ipv6.conf.cni0.accept_dad=0',
    'sysctl -w net.ipv4.ip_forward=1',
    'sysctl -w net.ipv6.conf.all.forwarding=1',
    'ip link set cni0 up',
    'ip address add 10.5.1.1/24 dev cni0',
    'ip -6 address add fd00:5::1/64 dev cni0 nodad',
  ]);
  const have = {
    ...want,
    links: [{ name: 'cni0', kind: 'bridge', up: true, mac: mac('02:00:00:00:00:09'), mtu: 1500 }],
  };
  t.strictSame(diff(have, settled(want, have)), [], 'one that is there keeps its MAC and MTU');
  t.strictSame(planBridge(configWith({}), DUAL.ips, true).links[0]?.bridge, {
    nfCallIptables: true,
    nfCallIp6tables: true,
  });
  const layer2 = planBridge(configWith({ promiscMode: true }), [], false);
  t.strictSame(layer2.addresses, []);
  t.equal(layer2.links[0]?.promiscuous, true);
});

t.test('what is in the way on the bridge', async (t) => {
  const config = configWith({ isGateway: true });
  const force = configWith({ isGateway: true, forceAddress: true });
  const want = planBridge(config, DUAL.ips, false);
  const having = (...addresses: string[]) => ({
    ...EMPTY_STATE,
    links: [{ name: 'cni0', kind: 'bridge' }],
    addresses: addresses.map((address) => ({ device: 'cni0', address: prefix(address) })),
  });
  t.strictSame(conflicts(config, having('10.5.1.1/24', 'fd00:5::1/64', 'fe80::1/64', 'fd00:6::1/64'), want), []);
  for (const address of ['10.9.0.1/24', '10.5.1.1/16', 'fd00:5::9/64', 'fd00::1/16']) {
    const gateway = address.includes(':') ? 'fd00:5::1/64' : '10.5.1.1/24';
    t.throws(() => conflicts(config, having(address), want), {
      code: 'foreign-object',
      message: `"cni0" already has an IP address different from ${gateway}`,
    });
    t.equal(conflicts(force, having(address), want)[0]?.address, address, `${address} is replaced by force`);
  }
  t.throws(() => conflicts(force, { ...EMPTY_STATE, links: [{ name: 'cni0', kind: 'device' }] }, want), {
    message: '"cni0" already exists but is not a bridge',
  });
});

t.test("the host's end", async (t) => {
  const link = planHostEnd(configWith({ mtu: 1450, hairpinMode: true, portIsolation: true }), ENDS, POD);
  t.strictSame(lines([{ verb: 'add', item: { type: 'link', value: link } }]), [
    'ip link add veth1 mtu 1450 address 02:00:00:00:00:01 master cni0 up type veth ' +
      'peer name eth0 address 02:00:00:00:00:02 mtu 1450 netns /run/netns/pod1 type bridge_slave hairpin on isolated on',
  ]);
  t.notOk(planHostEnd(configWith({}), ENDS).port, 'nothing is said about the port unless asked');
});

t.test("the pod's namespace", async (t) => {
  const fill = (config: object, addresses = DUAL) =>
    lines(diff(bornPod(ENDS), planPod(configWith(config), ENDS, addresses)));
  const routes = [
    { dst: prefix('0.0.0.0/0'), mtu: 1400, advmss: 1360, priority: 7 },
    { dst: prefix('10.9.0.0/16'), gw: ip('10.5.1.7'), table: 100, scope: 0 },
    { dst: prefix('fd00:9::/64'), scope: 253 },
  ];
  t.strictSame(fill({}, { ...DUAL, routes } as never), [
    'sysctl -w net.ipv6.conf.eth0.accept_ra=0',
    'sysctl -w net.ipv6.conf.lo.disable_ipv6=0',
    'sysctl -w net.ipv6.conf.eth0.disable_ipv6=0',
    'sysctl -w net.ipv6.conf.eth0.keep_addr_on_down=1',
    'sysctl -w net.ipv6.conf.eth0.accept_dad=0',
    'ip link set lo up',
    'ip link set eth0 up',
    'ip address add 10.5.1.2/24 dev eth0',
    'ip -6 address add fd00:5::2/64 dev eth0 nodad',
    'ip route replace 0.0.0.0/0 via 10.5.1.1 dev eth0 metric 7 mtu 1400 advmss 1360',
    'ip route replace 10.9.0.0/16 via 10.5.1.7 dev eth0 table 100 scope global',
    'ip -6 route replace fd00:9::/64 via fd00:5::1 dev eth0',
  ]);
  t.strictSame(fill({}, { ips: [], routes: [], dns: {} }), [
    'sysctl -w net.ipv6.conf.eth0.accept_ra=0',
    'ip link set lo up',
    'ip link set eth0 up',
  ]);
  t.notOk(fill({ disableContainerInterface: true }, { ips: [], routes: [], dns: {} }).includes('ip link set eth0 up'));
  t.ok(fill({ enabledad: true }).includes('ip -6 address add fd00:5::2/64 dev eth0'));
});

t.test('names and MACs', async (t) => {
  const key = { network: 'n', containerId: 'c', ifname: 'eth0' };
  t.match(hostVethName(key, 0), /^veth[0-9a-f]{8}$/);
  t.equal(hostVethName(key, 0), hostVethName({ ...key }, 0), 'the same every time');
  const others = [
    { ...key, network: 'm' },
    { ...key, containerId: 'd' },
    { ...key, ifname: 'eth1' },
  ];
  t.equal(new Set([key, ...others].map((each) => hostVethName(each, 0))).size, 4);
  t.not(hostVethName(key, 0), hostVethName(key, 1));
  const macs = [hostVethMac(key), podMac(key, []), podMac(key, [V4.gateway]), bridgeMac('cni0', [V4.gateway])];
  for (const each of macs) t.match(each, /^.[26ae]:/, 'locally administered, unicast');
  t.equal(
    podMac(key, [V4.gateway]),
    podMac(others[1] as never, [V4.gateway]),
    'the next user of an address has its MAC',
  );
  t.not(podMac(key, [V4.gateway]), podMac(others[0] as never, [V4.gateway]), 'but not in another network');
});
