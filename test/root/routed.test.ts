// "mode": "routed" with real packets: a veth pair without a bridge, in both forms of configuration.

import { join } from 'node:path';
import t from 'tap';
import { attach, type CniNode, makeNode, outside } from '../support/cni.ts';
import { linksOf, makeNamespace } from '../support/namespace.ts';
import { pings, serveTcp, tcpSource } from '../support/traffic.ts';

const ROUTED = { delegate: { mode: 'routed', isDefaultGateway: true } };
const WEB = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };

/** The host's routes to pods, of both families. */
const routesOf = ({ namespace }: CniNode): string =>
  `${namespace.must('ip route show proto 251')}${namespace.must('ip -6 route show proto 251')}`;
const cniRoutes = (node: CniNode): number => routesOf(node).split('\n').filter(Boolean).length;

t.test('the host, another pod and a machine outside; the first packet, without ARP', async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  const changes = { delegate: { mode: 'routed', isDefaultGateway: true, ipMasq: true } };
  const [one, first] = attach(t, node, 'pod1', changes);
  const [two, second] = attach(t, node, 'pod2', changes);
  t.strictSame(
    linksOf(node.namespace).filter((name) => !/^veth/.test(name)),
    ['lo', 'up0'],
    'no bridge',
  );
  t.match(first, {
    interfaces: [{ name: /^veth/ }, { name: 'eth0', sandbox: one.path }],
    ips: [
      { address: '10.5.1.2/32', gateway: '169.254.1.1', interface: 1 },
      { address: 'fd00:5:0:1::2/128', gateway: 'fe80::1', interface: 1 },
    ],
  });
  for (const { address } of first.ips) {
    t.ok(pings(node.namespace, address), `host to ${address}`);
    t.ok(pings(two, address), `pod to ${address}`);
  }
  await serveTcp(t, machine, 8080);
  await serveTcp(t, two, 8080);
  t.equal(tcpSource(one, '192.0.2.2', 8080), '192.0.2.1', 'outside it is the node');
  t.equal(tcpSource(one, '2001:db8::2', 8080), '2001:db8::1');
  for (const [at, { address }] of second.ips.entries()) {
    t.equal(tcpSource(one, address, 8080), first.ips[at]?.address.replace(/\/.*/, ''), 'inside it is itself');
  }
  const links = [
    [one, 'eth0'],
    [two, 'eth0'],
    [node.namespace, first.interfaces[0]?.name],
  ] as const;
  for (const [where, device] of links) {
    const known = where.must(`ip neighbour show dev ${device}`).trim().split('\n');
    t.strictSame(
      known.map((line) => /PERMANENT$/.test(line.trim())),
      [true, true],
      `nobody was asked for on ${device}`,
    );
  }
  t.match(
    node.namespace.must('nft list table inet flannel'),
    /elements = \{ 10\.5\.1\.0\/24 \}/,
    'the subnet, not the pod',
  );
});

t.test('a pod cannot use the IPv4 address of another', async (t) => {
  const node = makeNode(t, [4]);
  const machine = outside(t, node);
  const [pod, { interfaces }] = attach(t, node, 'pod1', ROUTED);
  for (const rule of [
    'nft add table ip t',
    'nft add chain ip t c { type filter hook input priority 0 ; }',
    'nft add rule ip t c ip saddr 10.5.1.77 counter',
  ]) {
    machine.must(rule);
  }
  pod.must('ip address add 10.5.1.77/32 dev eth0');
  const forged = () => {
    pod.run('ping', ['-c', '1', '-W', '1', '-I', '10.5.1.77', '192.0.2.2']);
    return Number(/packets (\d+)/.exec(machine.must('nft list chain ip t c'))?.[1]);
  };
  t.equal(forged(), 0);
  node.namespace.must(`sysctl -qw net.ipv4.conf.${interfaces[0]?.name}.rp_filter=0`);
  t.equal(forged(), 1, 'as it could without the setting');
});

t.test('host ports, also from localhost and from the pod itself', async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  const changes = { ...ROUTED, runtimeConfig: { portMappings: [WEB] } };
  const [pod, result] = attach(t, node, 'pod1', changes);
  const [neighbour] = attach(t, node, 'pod2', ROUTED);
  await serveTcp(t, pod, 80);
  t.equal(tcpSource(machine, '192.0.2.1', 8080), '192.0.2.2', 'a machine');
  t.equal(tcpSource(machine, '2001:db8::1', 8080), '2001:db8::2');
  t.equal(tcpSource(neighbour, '192.0.2.1', 8080), '10.5.1.3', 'a pod beside it');
  t.equal(tcpSource(neighbour, '2001:db8::1', 8080), 'fd00:5:0:1::3');
  t.equal(tcpSource(node.namespace, '127.0.0.1', 8080), '192.0.2.1', 'localhost');
  t.equal(tcpSource(pod, '192.0.2.1', 8080), '192.0.2.1', 'the pod itself');
  t.equal(tcpSource(pod, '2001:db8::1', 8080), '2001:db8::1');
  const call = { config: node.config({ ...changes, prevResult: result }), netns: pod.path };
  t.match(node.cni('CHECK', call), { status: 0, output: {} });
});

t.test('bandwidth, MTU and MAC', async (t) => {
  const node = makeNode(t, [4]);
  const rate = 10_000_000;
  const bandwidth = { ingressRate: rate, ingressBurst: rate, egressRate: rate, egressBurst: rate };
  const changes = {
    delegate: { mode: 'routed', mtu: 1400 },
    runtimeConfig: { bandwidth, mac: '02:00:5e:10:00:01' },
  };
  const [pod, { interfaces }] = attach(t, node, 'pod1', changes);
  const host = interfaces[0]?.name;
  t.match(pod.must('ip link show eth0'), /mtu 1400 [\s\S]*02:00:5e:10:00:01/);
  t.match(node.namespace.must(`ip link show ${host}`), /mtu 1400/);
  t.match(node.namespace.must(`tc qdisc show dev ${host}`), /tbf .* rate 10Mbit[\s\S]*ingress/);
  t.match(interfaces[2], { name: /^ifb/ });
  t.equal(node.cni('DEL', { config: node.config(changes), netns: pod.path }).status, 0);
  t.strictSame(linksOf(node.namespace), ['lo']);
});

t.test('CHECK says what is missing; DEL takes everything, routes first of all', async (t) => {
  const node = makeNode(t);
  outside(t, node);
  const changes = { delegate: { mode: 'routed', ipMasq: true } };
  const [pod, result] = attach(t, node, 'pod1', changes);
  const call = { config: node.config({ ...changes, prevResult: result }), netns: pod.path };
  const check = () => node.cni('CHECK', call).output.msg;
  t.equal(check(), undefined);
  t.equal(cniRoutes(node), 2);
  const host = result.interfaces[0]?.name;
  for (const [where, remove, missing, put] of [
    [
      node.namespace,
      'ip route delete 10.5.1.2',
      /ip route replace 10\.5\.1\.2\/32/,
      `ip route add 10.5.1.2 dev ${host} proto 251`,
    ],
    [
      node.namespace,
      `ip neighbour delete fd00:5:0:1::2 dev ${host}`,
      /ip -6 neighbour replace fd00:5:0:1::2/,
      undefined,
    ],
    [pod, 'ip route delete 10.5.0.0/16', /10\.5\.0\.0\/16 via 169\.254\.1\.1/, undefined],
    [pod, 'ip neighbour delete 169.254.1.1 dev eth0', /ip neighbour replace 169\.254\.1\.1/, undefined],
  ] as const) {
    where.must(remove);
    t.match(check(), missing);
    if (put !== undefined) where.must(put);
  }
  t.equal(node.cni('DEL', { config: node.config(), netns: '' }).status, 0);
  t.equal(cniRoutes(node), 0);
  t.strictSame(linksOf(node.namespace), ['lo', 'up0']);
  t.strictSame(node.files(), []);
});

t.test('the plain form, one family each; a second network in the same pod', async (t) => {
  const node = makeNode(t);
  const plain = (subnet: string, keys: object = {}) =>
    node.config({
      delegate: undefined,
      mode: 'routed',
      ipam: { dataDir: join(node.directory, 'networks'), ranges: [[{ subnet }]] },
      ...keys,
    });
  for (const [subnet, address, route] of [
    ['10.9.0.0/24', '10.9.0.2', 'ip route show default'],
    ['fd00:9::/64', 'fd00:9::2', 'ip -6 route show default'],
  ] as const) {
    const pod = makeNamespace(t, 'pod');
    const call = { config: plain(subnet), netns: pod.path, containerId: pod.name };
    t.equal(node.cni('ADD', call).status, 0);
    t.match(pod.must(route), /^default via \S+ dev eth0/, 'a default route, since there are no others');
    if (subnet.includes('.')) node.namespace.must('ip address add 192.0.2.9/32 dev lo');
    else node.namespace.must('ip address add 2001:db8::9/128 dev lo nodad');
    t.ok(pings(node.namespace, address));
    t.equal(node.cni('DEL', call).status, 0);
  }
  const [pod, first] = attach(t, node, 'pod1');
  const second = { config: plain('10.9.0.0/24', { name: 'second' }), netns: pod.path, ifname: 'net1' };
  const { status, output } = node.cni('ADD', second);
  t.equal(status, 0, JSON.stringify(output));
  t.match(pod.must('ip route show default'), /via 10\.5\.1\.1 dev eth0 *\n.*via 169\.254\.1\.1 dev net1 metric 1/);
  for (const { gateway } of first.ips) t.ok(pings(pod, gateway), 'the first network still works');
  t.match(node.cni('CHECK', { ...second, config: { ...second.config, prevResult: output } }), {
    status: 0,
    output: {},
  });
});

t.test('what only a bridge can do is refused, and nothing stays', async (t) => {
  const node = makeNode(t, [4]);
  const pod = makeNamespace(t, 'pod1');
  for (const [keys, code, msg] of [
    [{ portIsolation: true, macspoofchk: true }, 7, /mode "routed" has no bridge: remove portIsolation, macspoofchk/],
    [{ bridge: 'br0' }, 7, /remove bridge/],
    [{ promiscMode: true }, 7, /remove promiscMode/],
    [{ vlan: 7 }, 2, /vlan: 7/],
    [{ isGateway: true, hairpinMode: true, ipMasq: true }, undefined, undefined],
  ] as const) {
    const config = node.config({ delegate: { mode: 'routed', ...keys } });
    const { output } = node.cni('ADD', { config, netns: pod.path });
    t.match({ code: output.code, msg: output.msg }, { code, ...(msg && { msg }) }, JSON.stringify(keys));
    if (code !== undefined) t.strictSame(node.files(), []);
  }
  const lost = {
    ...node.config({ delegate: { mode: 'routed' } }),
    ipam: { dataDir: join(node.directory, 'networks'), routes: [{ dst: '10.77.0.0/16', gw: '10.5.1.99' }] },
  };
  const other = makeNamespace(t, 'pod2');
  t.match(node.cni('ADD', { config: lost, netns: other.path, containerId: 'pod2' }).output, {
    code: 7,
    msg: /no gateway 10\.5\.1\.99/,
  });
  t.strictSame(linksOf(other), ['lo']);
});
