// The installed executable on the real kernel. Every node is a network namespace with its own state directories.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { attach, type CniOutput, makeNode, REFERENCE } from '../support/cni.ts';
import { linksOf, makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { pings, serveTcp, tcpSource } from '../support/traffic.ts';

const OLD = { top: 'cniVersion,dns,ip4,ip6', route: 'dst' };
const RICH = {
  top: 'cniVersion,dns,interfaces,ips,routes',
  pod: 'mac,name,sandbox',
  ip: 'address,gateway,interface,version',
  route: 'dst',
};
const NEW = { ...RICH, top: 'cniVersion,interfaces,ips,routes', ip: 'address,gateway,interface' };
const KEYS: Record<string, { top: string; route: string; pod?: string; ip?: string }> = {
  '0.1.0': OLD,
  '0.2.0': OLD,
  '0.3.0': RICH,
  '0.3.1': RICH,
  '0.4.0': RICH,
  '1.0.0': NEW,
  '1.1.0': { ...NEW, pod: 'mac,mtu,name,sandbox', route: 'dst,mtu,priority' },
};

t.test('every version: its own keys for the same pod', async (t) => {
  const node = makeNode(t);
  const keys = (value: unknown) =>
    Object.keys(value ?? {})
      .sort()
      .join(',');
  for (const [cniVersion, expected] of Object.entries(KEYS)) {
    const ipam = { ...(node.config().ipam as object), routes: [{ dst: '192.0.2.0/24', mtu: 1300, priority: 7 }] };
    const call = { config: node.config({ cniVersion, ipam }), netns: makeNamespace(t, 'pod').path };
    const { status, output } = node.cni('ADD', call);
    t.equal(status, 0, cniVersion);
    const value = output as CniOutput & { ip4?: { routes: object[] } };
    t.equal(value.cniVersion, cniVersion);
    t.equal(keys(value), expected.top, `${cniVersion}: top`);
    t.equal(keys((value.routes ?? value.ip4?.routes ?? [])[0]), expected.route, `${cniVersion}: route`);
    if (expected.pod !== undefined) t.equal(keys(value.interfaces[2]), expected.pod, `${cniVersion}: interface`);
    if (expected.ip !== undefined) t.equal(keys(value.ips[0]), expected.ip, `${cniVersion}: address`);
    t.equal(node.cni('DEL', call).status, 0);
  }
});

const FAMILIES: Record<string, (4 | 6)[]> = { v4: [4], v6: [6], dual: [4, 6] };
for (const [name, families] of Object.entries(FAMILIES)) {
  t.test(`${name}: two pods and their gateway`, async (t) => {
    const node = makeNode(t, families);
    const [one] = attach(t, node, 'pod1');
    const [two, result] = attach(t, node, 'pod2');
    t.equal(result.ips.length, families.length);
    await serveTcp(t, two, 8080);
    await serveTcp(t, node.namespace, 8080);
    for (const { address, gateway } of result.ips) {
      const prefix = address.slice(0, address.lastIndexOf(address.includes(':') ? ':' : '.') + 1);
      t.ok(pings(one, address), `ping ${address}, at once`);
      t.ok(pings(one, gateway), `ping ${gateway}`);
      t.ok(pings(two, address), 'its own address');
      t.ok(tcpSource(one, address, 8080)?.startsWith(prefix), `TCP to ${address}`);
      t.ok(tcpSource(one, gateway, 8080)?.startsWith(prefix), `TCP to ${gateway}`);
    }
    for (const containerId of ['pod1', 'pod2']) {
      t.equal(node.cni('DEL', { config: node.config(), containerId, netns: '' }).status, 0);
    }
    t.strictSame(linksOf(node.namespace), ['cni0', 'lo'], 'the interfaces are gone when DEL returns');
    t.strictSame(node.files(), []);
  });
}

t.test('CHECK fails and names the difference', async (t) => {
  const node = makeNode(t);
  const breaks: [string, (pod: TestNamespace, result: CniOutput) => void, RegExp][] = [
    [
      'IPv4 address removed',
      (pod, { ips }) => pod.must(`ip address delete ${ips[0]?.address} dev eth0`),
      /ip address add 10\.5\.1\.\d+\/24 dev eth0/,
    ],
    [
      'IPv6 address removed',
      (pod, { ips }) => pod.must(`ip address delete ${ips[1]?.address} dev eth0`),
      /ip -6 address add fd00:/,
    ],
    [
      'IPv4 route removed',
      (pod) => pod.must('ip route delete default'),
      /ip route replace 0\.0\.0\.0\/0 via 10\.5\.1\.1 dev eth0/,
    ],
    [
      'IPv6 route removed',
      (pod) => pod.must('ip -6 route delete default'),
      /ip -6 route replace ::\/0 via fd00:5:0:1::1 dev eth0/,
    ],
    ['link down', (pod) => pod.must('ip link set eth0 down'), /ip link set eth0 up/],
    [
      'unplugged from the bridge',
      (_, { interfaces }) => node.namespace.must(`ip link set ${interfaces[1]?.name} nomaster`),
      /ip link set veth[0-9a-f]{8} .*master cni0/,
    ],
    [
      'reservation removed',
      (_, { ips }) => rmSync(join(node.directory, 'networks/cbr0', String(ips[0]?.address).slice(0, -3))),
      /networks\/cbr0\/10\.5\.1\.\d+: no reservation of pod1 eth0/,
    ],
    [
      'masquerading flushed',
      () => node.namespace.must('nft flush chain inet flannel cni-masquerade'),
      /nft chain cni-masquerade/,
    ],
  ];
  for (const [name, damage, message] of breaks) {
    const config = node.config({ delegate: { isDefaultGateway: true, hairpinMode: true, ipMasq: true } });
    const [pod, result] = attach(t, node, 'pod1', { delegate: config.delegate });
    const call = { config: { ...config, prevResult: result }, netns: pod.path };
    const before = node.cni('CHECK', call);
    t.strictSame([before.status, before.output], [0, {}], `${name}: passes before`);
    damage(pod, result);
    const after = node.cni('CHECK', call);
    t.match(after, { status: 1, output: { code: 101, msg: message } }, name);
    t.equal(node.cni('DEL', call).status, 0);
  }
});

t.test('CHECK in every version that has it, and after Go tuning', async (t) => {
  const node = makeNode(t);
  for (const cniVersion of ['0.4.0', '1.0.0', '1.1.0']) {
    const [pod, result] = attach(t, node, 'pod1', { cniVersion });
    const call = { config: node.config({ cniVersion, prevResult: result }), netns: pod.path };
    t.match(node.cni('CHECK', call), { status: 0, output: {} }, cniVersion);
    if (cniVersion !== '1.1.0') {
      const tuning = {
        cniVersion,
        name: 'cbr0',
        type: 'tuning',
        mac: '02:00:00:00:00:77',
        mtu: 1300,
        dataDir: node.directory,
      };
      const tuned = node.cni('ADD', { config: { ...tuning, prevResult: result }, netns: pod.path }, REFERENCE);
      t.equal(tuned.status, 0, JSON.stringify(tuned.output));
      t.equal(tuned.output.interfaces[2]?.mac, '02:00:00:00:00:77');
      const again = { config: node.config({ cniVersion, prevResult: tuned.output }), netns: pod.path };
      t.match(node.cni('CHECK', again), { status: 0, output: {} }, `${cniVersion}: with another MAC and MTU`);
      node.cni('DEL', { config: { ...tuning, prevResult: tuned.output }, netns: pod.path }, REFERENCE);
    }
    t.equal(node.cni('DEL', call).status, 0);
  }
});
