// What the options of the bridge do to packets.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { attach, type CniNode, makeNode, outside } from '../support/cni.ts';
import { count } from '../support/count.ts';
import { linksOf, makeNamespace } from '../support/namespace.ts';
import { pings, serveTcp, tcpSource } from '../support/traffic.ts';

const plainIpam = (node: CniNode, subnet: string) => ({
  dataDir: join(node.directory, 'networks'),
  ranges: [[{ subnet }]],
});

t.test('two interfaces of one container', async (t) => {
  const node = makeNode(t);
  const [pod, first] = attach(t, node, 'pod1');
  const second = {
    bridge: 'br1',
    isDefaultGateway: true,
    ipam: plainIpam(node, '10.9.0.0/24'),
    name: 'second',
    delegate: undefined,
  };
  const call = { config: node.config(second), netns: pod.path, ifname: 'net1' };
  const { status, output } = node.cni('ADD', call);
  t.equal(status, 0, JSON.stringify(output));
  t.strictSame(linksOf(pod), ['eth0', 'lo', 'net1']);
  t.match(
    pod.must('ip route show default'),
    /via 10\.5\.1\.1 dev eth0 *\n.*via 10\.9\.0\.1 dev net1 metric 1/,
    'the first stays first',
  );
  for (const { gateway } of [...first.ips, ...output.ips]) t.ok(pings(pod, gateway), gateway);
  t.match(node.cni('CHECK', { ...call, config: { ...call.config, prevResult: output } }), { status: 0, output: {} });
  t.equal(node.cni('DEL', call).status, 0);
  t.strictSame(linksOf(pod), ['eth0', 'lo']);
  for (const { gateway } of first.ips) t.ok(pings(pod, gateway), `${gateway} still`);
  t.match(node.cni('CHECK', { config: node.config({ prevResult: first }), netns: pod.path }), {
    status: 0,
    output: {},
  });
});

t.test('hairpin: a pod reaches itself through an address of the node', async (t) => {
  for (const hairpinMode of [true, false]) {
    const node = makeNode(t, [4]);
    const [pod, { ips }] = attach(t, node, 'pod1', { delegate: { hairpinMode, isDefaultGateway: true } });
    const own = ips[0]?.address.slice(0, -3);
    node.namespace.must('nft add table ip t');
    node.namespace.must('nft add chain ip t pre { type nat hook prerouting priority -100 ; }');
    node.namespace.must('nft add chain ip t post { type nat hook postrouting priority 100 ; }');
    node.namespace.must(`nft add rule ip t pre ip daddr 10.5.1.1 tcp dport 80 dnat to ${own}:8080`);
    node.namespace.must(`nft add rule ip t post ip saddr ${own} ip daddr ${own} masquerade`);
    await serveTcp(t, pod, 8080);
    t.equal(tcpSource(pod, '10.5.1.1', 80), hairpinMode ? '10.5.1.1' : undefined, `hairpinMode ${hairpinMode}`);
  }
});

t.test('isolated ports reach their gateway, not each other', async (t) => {
  const node = makeNode(t, [4]);
  const changes = { delegate: { portIsolation: true, isDefaultGateway: true } };
  const [one] = attach(t, node, 'pod1', changes);
  const [two, { ips }] = attach(t, node, 'pod2', changes);
  t.ok(pings(two, '10.5.1.1'));
  t.notOk(pings(one, ips[0]?.address as string));
});

t.test('the bridge keeps its MAC', async (t) => {
  const node = makeNode(t, [4]);
  const mac = () => /link\/ether (\S+)/.exec(node.namespace.must('ip link show cni0'))?.[1];
  attach(t, node, 'pod1');
  const first = mac();
  node.namespace.must('ip link add low type veth peer name low2');
  node.namespace.must('ip link set low address 02:00:00:00:00:00');
  node.namespace.must('ip link set low master cni0 up');
  t.equal(mac(), first, 'beside a port with a lower one');
  t.equal(node.cni('DEL', { config: node.config(), netns: '' }).status, 0);
  node.namespace.must('ip link delete cni0');
  const [, { interfaces }] = attach(t, node, 'pod2');
  t.strictSame([mac(), interfaces[0]?.mac], [first, first], 'and has it again when it is made again');

  node.namespace.must('ip link add br7 type bridge');
  const made = /link\/ether (\S+)/.exec(node.namespace.must('ip link show br7'))?.[1];
  const [, { interfaces: mine }] = attach(t, node, 'pod3', {
    bridge: 'br7',
    isGateway: true,
    ipam: plainIpam(node, '10.8.0.0/24'),
    delegate: undefined,
  });
  node.namespace.must('ip link set low master br7');
  const now = /link\/ether (\S+)/.exec(node.namespace.must('ip link show br7'))?.[1];
  t.strictSame([now, mine[0]?.mac], [made, made], 'one that a person made, too');
});

t.test('ipMasq: outside as the node, inside as itself', async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  const changes = { delegate: { isDefaultGateway: true, ipMasq: true } };
  const [one] = attach(t, node, 'pod1', changes);
  const [two, { ips }] = attach(t, node, 'pod2', changes);
  await serveTcp(t, machine, 8080);
  await serveTcp(t, two, 8080);
  t.equal(tcpSource(one, '192.0.2.2', 8080), '192.0.2.1');
  t.equal(tcpSource(one, '2001:db8::2', 8080), '2001:db8::1');
  for (const { address } of ips) t.match(tcpSource(one, address, 8080), /^(10\.5\.1|fd00:5:0:1)/, 'on the bridge');
  machine.must('ip address add 10.5.9.1/16 dev up0');
  node.namespace.must('ip route add 10.5.9.0/24 via 192.0.2.2');
  machine.must('ip route add 10.5.1.0/24 via 192.0.2.1');
  t.match(tcpSource(one, '10.5.9.1', 8080), /^10\.5\.1\./, "the cluster's network");

  const rules = () => node.namespace.must('nft list table inet flannel');
  const before = rules();
  attach(t, node, 'pod3', changes);
  t.equal(rules(), before, 'another pod adds nothing');
  node.namespace.must('nft delete table inet flannel');
  attach(t, node, 'pod4', changes);
  t.equal(rules(), before, 'and makes what a person removed');
  attach(t, node, 'pod5', {
    ...changes,
    bridge: 'br1',
    isDefaultGateway: true,
    ipMasq: true,
    ipam: plainIpam(node, '10.9.0.0/24'),
    name: 'b',
  });
  t.match(rules(), /elements = \{ 10\.5\.1\.0\/24, 10\.9\.0\.0\/24 \}/, 'two networks beside each other');
});

t.test('first ADDs at once: one bridge, one set of rules, every address once', async (t) => {
  const node = makeNode(t);
  const config = node.config({ delegate: { isDefaultGateway: true, ipMasq: true } });
  const pods = Array.from({ length: 8 }, (_, n) => makeNamespace(t, `pod${n}`));
  const answers = await Promise.all(
    pods.map(async (pod, n) => {
      const child = node.start('ADD', { config, containerId: `pod${n}`, netns: pod.path });
      const chunks: Buffer[] = [];
      child.stdout?.on('data', (chunk) => chunks.push(chunk));
      await once(child, 'close');
      return JSON.parse(Buffer.concat(chunks).toString());
    }),
  );
  t.strictSame(
    answers.filter(({ code }) => code !== undefined),
    [],
  );
  t.equal(new Set(answers.flatMap(({ ips }) => ips.map(({ address }: { address: string }) => address))).size, 16);
  t.equal(new Set(answers.map(({ interfaces }) => interfaces[0].mac)).size, 1);
  t.equal(node.namespace.must('nft list chain inet flannel cni-masquerade').match(/masquerade$/gm)?.length, 2);
  for (const pod of pods) t.ok(pings(pod, '10.5.1.1') && pings(pod, 'fd00:5:0:1::1'));
});

t.test('a default route learned by router advertisement survives forwarding', async (t) => {
  const node = makeNode(t, [6]);
  outside(t, node);
  node.namespace.must('ip -6 route add default via 2001:db8::2 dev up0 proto ra');
  attach(t, node, 'pod1');
  t.equal(node.namespace.must('cat /proc/sys/net/ipv6/conf/up0/accept_ra').trim(), '2');
  t.match(node.namespace.must('ip -6 route show default'), /proto ra/);
});

const MANY = count(1000);
t.test(`${MANY} pods in one process: none of its threads is in a pod's namespace`, async (t) => {
  const node = makeNode(t);
  const pods = Array.from({ length: 5 }, () => makeNamespace(t, 'pod').path).join();
  const script = join(import.meta.dirname, 'cni-many.ts');
  const child = spawn(
    'nsenter',
    [`--net=${node.namespace.path}`, process.execPath, script, JSON.stringify(node.config()), pods, String(MANY)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => child.kill('SIGKILL'));
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  await once(child, 'close');
  t.strictSame(JSON.parse(Buffer.concat(chunks).toString()), { strays: [], failures: [] });
  t.strictSame(node.files(), []);
});
