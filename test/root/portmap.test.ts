// Host ports with real packets: as a capability of flannel, behind the reference's bridge, and beside its portmap.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { attach, type CniNode, makeNode, outside, REFERENCE } from '../support/cni.ts';
import { chainOf, goBridge } from '../support/cni-chain.ts';
import { compilePrograms, makeHost } from '../support/cni-host.ts';
import { isClean } from '../support/cni-host-checks.ts';
import { ask, serveUdp } from '../support/datagrams.ts';
import { makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { serveTcp, tcpSource } from '../support/traffic.ts';

const WEB = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };
const asking = (...portMappings: object[]) => ({ runtimeConfig: { portMappings } });

const elements = (node: CniNode): string[] =>
  ['hostport', 'hostip']
    .flatMap((name) =>
      [4, 6].flatMap((family) => {
        const text = node.namespace.must(`nft list map inet flannel cni-${name}-v${family}`);
        return (/elements = \{([^}]*)\}/.exec(text)?.[1] ?? '').split(',').map((each) => each.trim());
      }),
    )
    .filter((each) => each !== '');

/** Whether the bridge hands frames to nftables (br_netfilter), as Kubernetes wants it, or not. */
function bridgeFilter(node: CniNode, on: boolean): void {
  for (const name of ['iptables', 'ip6tables']) {
    node.namespace.must(`sysctl -qw net.bridge.bridge-nf-call-${name}=${Number(on)}`);
  }
}

interface World {
  readonly node: CniNode;
  readonly pod: TestNamespace;
  readonly neighbour: TestNamespace;
  readonly machine: TestNamespace;
}

/** Who is seen at the pod's port 80 when a connection is made from there to that. */
type Row = readonly [
  from: 'machine' | 'node' | 'pod' | 'neighbour',
  to: string,
  port: number,
  seen: string | undefined,
];

const POD = ['10.5.1.2', 'fd00:5:0:1::2'] as const;
const NEIGHBOUR = ['10.5.1.3', 'fd00:5:0:1::3'] as const;
const GATEWAY = ['10.5.1.1', 'fd00:5:0:1::1'] as const;

const rows = (bridgeFilters: boolean): Row[] => [
  ['machine', '192.0.2.1', 8080, '192.0.2.2'],
  ['machine', '2001:db8::1', 8080, '2001:db8::2'],
  ['node', '192.0.2.1', 8080, '192.0.2.1'],
  ['node', '2001:db8::1', 8080, '2001:db8::1'],
  ['node', GATEWAY[0], 8080, GATEWAY[0]],
  ['node', '127.0.0.1', 8080, GATEWAY[0]],
  ['node', '127.1.2.3', 8080, GATEWAY[0]],
  ['node', '::1', 8080, undefined],
  ['pod', '192.0.2.1', 8080, GATEWAY[0]],
  ['pod', '2001:db8::1', 8080, GATEWAY[1]],
  ['pod', GATEWAY[0], 8080, GATEWAY[0]],
  // Frames that nftables sees on the bridge find their way back by themselves.
  ['neighbour', '192.0.2.1', 8080, bridgeFilters ? NEIGHBOUR[0] : GATEWAY[0]],
  ['neighbour', '2001:db8::1', 8080, bridgeFilters ? NEIGHBOUR[1] : GATEWAY[1]],
  ['neighbour', GATEWAY[0], 8080, bridgeFilters ? NEIGHBOUR[0] : GATEWAY[0]],
  ['neighbour', POD[0], 80, NEIGHBOUR[0]],
  ['neighbour', POD[1], 80, NEIGHBOUR[1]],
  // One address only.
  ['machine', '192.0.2.1', 8081, '192.0.2.2'],
  ['node', GATEWAY[0], 8081, undefined],
  ['machine', '2001:db8::1', 8081, '2001:db8::2'],
  ['node', '127.0.0.1', 8082, GATEWAY[0]],
  ['machine', '192.0.2.1', 8082, undefined],
  ['machine', '192.0.2.1', 8083, undefined],
];

function check(t: Test, world: World, cases: readonly Row[]): void {
  for (const [from, to, port, seen] of cases) {
    const where = from === 'node' ? world.node.namespace : world[from];
    t.equal(tcpSource(where, to, port), seen, `${from} to ${to} port ${port}`);
  }
}

for (const bridgeFilters of [false, true]) {
  t.test(`who is seen, br_netfilter ${bridgeFilters ? 'on' : 'off'}`, async (t) => {
    const node = makeNode(t);
    bridgeFilter(node, bridgeFilters);
    const machine = outside(t, node);
    const changes = asking(
      WEB,
      { ...WEB, hostPort: 8081, hostIP: '192.0.2.1' },
      { ...WEB, HostPort: 8081, HostIP: '2001:db8::1', hostPort: undefined },
      { ...WEB, hostPort: 8082, hostIP: '127.0.0.1' },
      { ...WEB, hostPort: 8080, protocol: 'SCTP' },
    );
    const [pod, result] = attach(t, node, 'pod1', changes);
    const [neighbour] = attach(t, node, 'pod2');
    const world = { node, pod, neighbour, machine };
    await serveTcp(t, pod, 80);
    check(t, world, rows(bridgeFilters));
    t.ok(elements(node).includes('sctp . 8080 : 10.5.1.2 . 80'));

    const call = { config: node.config({ ...changes, prevResult: result }), netns: pod.path };
    t.match(node.cni('CHECK', call), { status: 0, output: {} }, 'the rules are listed as they are written');
    node.namespace.must('nft delete element inet flannel cni-hostip-v4 { 127.0.0.1 . tcp . 8082 }');
    t.match(node.cni('CHECK', call), { status: 1, output: { code: 101, msg: /127\.0\.0\.1 \. tcp \. 8082/ } });

    t.equal(node.cni('DEL', { config: node.config(), containerId: 'pod1', netns: '' }).status, 0);
    t.strictSame(elements(node), []);
    check(t, world, [['machine', '192.0.2.1', 8080, undefined]]);
    t.equal(node.cni('DEL', { config: node.config(), containerId: 'pod1', netns: '' }).status, 0, 'again');
  });
}

t.test("neighbours don't reach 127.0.0.1", async (t) => {
  const node = makeNode(t, [4]);
  const [pod] = attach(t, node, 'pod1', asking(WEB));
  await serveTcp(t, node.namespace, 9999);
  t.equal(tcpSource(node.namespace, '127.0.0.1', 9999), '127.0.0.1');
  // What an attacker does to get such packets out of the pod, and their answers in.
  pod.must('sysctl -qw net.ipv4.conf.eth0.route_localnet=1');
  pod.must('ip address delete 127.0.0.1/8 dev lo');
  pod.must('ip route add 127.0.0.1 via 10.5.1.1');
  t.equal(tcpSource(pod, '127.0.0.1', 9999), undefined);
  const guard = node.namespace.must('nft -a list chain inet flannel cni-hostport-guard');
  t.equal(guard.match(/drop # handle/g)?.length, 2);
  node.namespace.must('nft flush chain inet flannel cni-hostport-guard');
  t.equal(tcpSource(pod, '127.0.0.1', 9999), '10.5.1.2', 'as they would without the guard');
});

t.test('a flow of datagrams follows the port', async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  const config = asking({ hostPort: 5353, containerPort: 53, protocol: 'UDP' });
  // Without any rule about it the kernel would track nothing yet.
  node.namespace.must('nft add table inet t');
  node.namespace.must('nft add chain inet t c { type filter hook input priority 0 ; }');
  node.namespace.must('nft add rule inet t c ct state new accept');
  const askers = ['192.0.2.1', '2001:db8::1'].map((to) => ask(t, machine, to, 5353));
  const all = async (name: string | undefined) => Promise.all(askers.map((asker) => asker.hears(name)));
  await sleep(500);
  t.strictSame(await all(undefined), [true, true]);
  t.match(node.namespace.must('conntrack -L -p udp'), /dport=5353/, 'tracked before there is a port');
  const pods = [];
  for (const name of ['pod1', 'pod2', 'pod3']) {
    const pod = makeNamespace(t, name);
    await serveUdp(t, pod, 53, name);
    pods.push({ containerId: name, netns: pod.path });
  }
  const [one, two, three] = pods as [(typeof pods)[0], (typeof pods)[0], (typeof pods)[0]];
  const add = (call: typeof one) => node.cni('ADD', { config: node.config(config), ...call }).status;
  const del = (call: typeof one) => node.cni('DEL', { config: node.config(), ...call }).status;
  t.equal(add(one), 0);
  t.strictSame(await all('pod1'), [true, true], 'the first pod');
  t.equal(del(one), 0);
  t.strictSame(await all(undefined), [true, true], 'nobody');
  t.equal(add(two), 0);
  t.strictSame(await all('pod2'), [true, true], 'the second pod');
  t.equal(add(three), 0);
  t.strictSame(await all('pod3'), [true, true], 'the third, which took the port over');
  t.equal(del(two), 0);
  t.strictSame(await all('pod3'), [true, true], 'still');
  t.equal(del(three), 0);
});

t.test('many at once: one set of rules, every port once, nothing left', async (t) => {
  const node = makeNode(t, [4]);
  const pods = Array.from({ length: 8 }, (_, n) => ({
    containerId: `pod${n}`,
    netns: makeNamespace(t, `pod${n}`).path,
  }));
  const run = async (verb: 'ADD' | 'DEL', calls: readonly object[]) =>
    Promise.all(
      calls.map(async (call) => {
        const child = node.start(verb, call as Parameters<CniNode['start']>[1]);
        child.stdout?.resume();
        return (await once(child, 'exit'))[0];
      }),
    );
  const adds = pods.map((pod, n) => ({ ...pod, config: node.config(asking(WEB, { ...WEB, hostPort: 9000 + n })) }));
  t.strictSame(await run('ADD', adds), Array(8).fill(0));
  t.equal(elements(node).length, 9, 'one has 8080');
  t.equal(node.namespace.must('nft list table inet flannel').match(/masquerade$/gm)?.length, 4);
  t.match(node.namespace.must('nft list table inet flannel'), /"cni0" \. "cni0"/);
  const dels = [...pods, ...pods].map((pod) => ({ ...pod, config: node.config() }));
  t.strictSame(await run('DEL', dels), Array(16).fill(0), 'each twice');
  t.strictSame(elements(node), []);
  t.strictSame(node.files(), []);
});

for (const cniVersion of ['0.4.0', '1.0.0']) {
  t.test(`${cniVersion}: flannel-portmap behind the reference's bridge`, async (t) => {
    const node = makeNode(t);
    bridgeFilter(node, true);
    const machine = outside(t, node);
    const [pod, neighbour] = ['pod1', 'pod2'].map((name) => makeNamespace(t, name)) as [TestNamespace, TestNamespace];
    const chain = chainOf(node, cniVersion, pod, [
      [goBridge(node), REFERENCE],
      [{ type: 'flannel-portmap', ...asking(WEB) }],
    ]);
    t.equal(chain.add(t).ips.length, 2);
    const { config } = { config: { cniVersion, name: 'chain', ...goBridge(node) } };
    t.equal(node.cni('ADD', { config, containerId: 'pod2', netns: neighbour.path }, REFERENCE).status, 0);
    await serveTcp(t, pod, 80);
    // Go's bridge detects duplicates of its own IPv6 address for a second.
    await sleep(2000);
    check(
      t,
      { node, pod, neighbour, machine },
      rows(true).filter(([, , port]) => port <= 8080),
    );
    t.strictSame(chain.check(), [0, 0]);
    node.namespace.must('nft flush map inet flannel cni-hostport-v6');
    t.strictSame(chain.check(), [0, 1]);
    t.strictSame(chain.del(), [0, 0]);
    t.strictSame(elements(node), []);
    t.strictSame(chain.del(false), [0, 0], 'again, without a result');
  });
}

t.test("the reference's portmap behind ours", async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  const pod = makeNamespace(t, 'pod1');
  const chain = chainOf(node, '1.0.0', pod, [
    [node.config({ name: 'chain', cniVersion: '1.0.0' })],
    [{ type: 'portmap', snat: true, ...asking(WEB) }, REFERENCE],
  ]);
  chain.add(t);
  await serveTcp(t, pod, 80);
  const neighbour = pod;
  check(t, { node, pod, neighbour, machine }, [
    ['machine', '192.0.2.1', 8080, '192.0.2.2'],
    ['node', '127.0.0.1', 8080, GATEWAY[0]],
    ['pod', '192.0.2.1', 8080, GATEWAY[0]],
  ]);
  t.equal(chain.check()[0], 0, "ours; Debian's portmap looks for IPv4 rules among those of IPv6, and fails always");
  t.strictSame(chain.del(), [0, 0]);
  t.strictSame(node.files(), []);
});

t.test('what the host calls protocols means nothing', async (t) => {
  const host = await makeHost(t, compilePrograms(t), 60);
  await host.startAgent();
  await host.addPods(['pod1']);
  const portMappings = ['tcp', 'udp', 'sctp'].map((protocol) => ({ ...WEB, protocol }));
  for (const names of ['rm /etc/protocols', 'printf "other 6\\ntcp 17\\n" > /etc/protocols']) {
    await host.machine.must('sh', ['-ec', names]);
    const { status, output } = await host.one('ADD', 'pod1', { config: asking(...portMappings) });
    t.equal(status, 0, names);
    const config = { ...asking(...portMappings), prevResult: output };
    t.match(await host.one('CHECK', 'pod1', { config }), { status: 0 }, names);
    t.match(await host.one('DEL', 'pod1', { config }), { status: 0 }, names);
    await isClean(t, host, names);
  }
});
