// Nodes whose packet filters drop what is forwarded: iptables with FORWARD DROP in both its kinds, as Docker leaves it,
// firewalld, and a table of an operator's own. flannel appends its rules, so that an earlier drop wins, and says nothing.

import type { ChildProcess } from 'node:child_process';
import t, { type Test } from 'tap';
import type { Finding } from '../../flanneld/firewall/findings.ts';
import {
  agentStatus,
  type Cluster,
  DUAL_NETWORK,
  hasPeers,
  type Node,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { type Pod, startPod } from '../../examples/cluster/pod.ts';
import { FIREWALL_CMD, FIREWALLD_TABLE } from '../support/firewalld.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };
/** Where only notifications can be in time. */
const SELDOM = '--iptables-resync=600';
const PROGRAM = `${process.cwd()}/build/bin/flanneld`;

interface Rig {
  readonly cluster: Cluster;
  readonly agents: readonly ChildProcess[];
  readonly nodes: readonly [Node, Node];
  readonly pods: readonly [Pod, Pod];
}

async function start(t: Test, flags: readonly string[]): Promise<Rig> {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  const agents = nodes.map((node) => cluster.startAgent(node, flags));
  for (const node of nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1));
  const pods = [await startPod(nodes[0], { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
  await flows(t, pods, 'traffic at the start');
  return { cluster, agents, nodes, pods };
}

const shell = (node: Node, script: string) => node.must('sh', ['-ec', script]);

async function pings([a, b]: readonly [Pod, Pod]): Promise<boolean[]> {
  const probes = [
    ...b.ips.map((to) => a.probe({ kind: 'ping', to })),
    ...a.ips.map((to) => b.probe({ kind: 'ping', to })),
  ];
  return (await Promise.all(probes)).map(({ ok }) => ok);
}

async function flows(t: Test, pods: readonly [Pod, Pod], what: string): Promise<void> {
  const all = async () => (await pings(pods)).every(Boolean);
  await until(what, all, 20_000).catch(() => undefined);
  t.ok(await all(), what);
}

const findings = async (node: Node): Promise<readonly Finding[]> => (await agentStatus(node))?.firewall?.findings ?? [];
const marks = (text: string): string[] => text.split('\n').filter((line) => line.includes('flanneld forward 10.244'));
const listed = async (node: Node, program: string) => marks(await node.must(program, ['-S']));
const bothWays = (chain: string) => [
  `-A ${chain} -s 10.244.0.0/16 -m comment --comment "flanneld forward 10.244.0.0/16" -j ACCEPT`,
  `-A ${chain} -d 10.244.0.0/16 -m comment --comment "flanneld forward 10.244.0.0/16" -j ACCEPT`,
];

/** As Docker leaves the table: a policy, a chain for others and rules for its own bridge. */
const docker = (program: string) => `
  ${program} -N DOCKER-USER; ${program} -A FORWARD -j DOCKER-USER; ${program} -A DOCKER-USER -j RETURN
  ${program} -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
  ${program} -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  ${program} -P FORWARD DROP`;
const plain = (program: string) => `${program} -P FORWARD DROP`;

/** The same for both kinds of iptables. */
async function dropping(t: Test, { nodes, pods }: Rig, kind: 'nft' | 'legacy'): Promise<void> {
  const [v4, v6] = [`iptables-${kind}`, `ip6tables-${kind}`];
  const [first, second] = nodes;
  await shell(first, `${docker(v4)}\n${plain(v6)}`);
  await shell(second, `${plain(v4)}\n${plain(v6)}`);
  await flows(t, pods, 'traffic with FORWARD DROP');
  await until('rules', async () => (await listed(first, v4)).length === 2 && (await listed(second, v4)).length === 2);
  t.same(await listed(first, v4), bothWays('DOCKER-USER'));
  t.same(await listed(second, v4), bothWays('FORWARD'));
  const status = (await agentStatus(first))?.firewall;
  t.match(
    status?.accepts.map(({ chain }) => chain),
    [`${kind === 'nft' ? '' : 'legacy '}ip filter DOCKER-USER`, `${kind === 'nft' ? '' : 'legacy '}ip6 filter FORWARD`],
  );
  t.same([status?.findings, status?.troubles], [[], []]);

  const other = '-s 10.99.0.0/16 -m comment --comment "flanneld forward 10.99.0.0/16" -j ACCEPT';
  await shell(first, `${v4} -I FORWARD ${other}`);
  await shell(
    first,
    `${v4} -D DOCKER-USER -s 10.244.0.0/16 -m comment --comment 'flanneld forward 10.244.0.0/16' -j ACCEPT`,
  );
  await until('the rule is back', async () => (await listed(first, v4)).length === 2);
  t.same(await listed(first, v4), bothWays('DOCKER-USER'), 'both are back, in their order');
  await shell(second, `${v4} -I FORWARD -j REJECT`);
  await flows(t, pods, 'a drop before our rules');

  await shell(first, `${v4} -P FORWARD ACCEPT; ${v6} -P FORWARD ACCEPT`);
  await until('the rules are gone', async () => (await listed(first, v4)).length === 0);
  t.match(await first.must(v4, ['-S']), /flanneld forward 10\.99\.0\.0/, 'those of another network stay');
  await shell(first, `${v4} -P FORWARD DROP`);
  await flows(t, pods, 'traffic with FORWARD DROP again');
}

t.test('report 15: iptables-nft with FORWARD DROP', async (t) => {
  const rig = await start(t, [SELDOM]);
  await dropping(t, rig, 'nft');
  const [node] = rig.nodes;
  await stopAgent(rig.agents[0] as ChildProcess);
  const told = await node.must(PROGRAM, ['cleanup']);
  t.match(told, /^nft delete rule ip filter DOCKER-USER handle \d+$/m);
  t.same(await listed(node, 'iptables-nft'), [], 'cleanup takes them away');
  t.match(await node.must('iptables-nft', ['-S']), /flanneld forward 10\.99\.0\.0/, 'and no others');
});

/** Whether the kernel has the tables of iptables-legacy. */
async function legacyReason(node: Node): Promise<string | undefined> {
  const { code, stderr } = await node.run('iptables-legacy', ['-S', 'FORWARD']);
  return code === 0 ? undefined : `the kernel has no tables of iptables-legacy: ${stderr.trim()}`;
}

t.test('other packet filters', async (t) => {
  const rig = await start(t, ['--iptables-resync=1', '--healthz-ip=127.0.0.1', '--healthz-port=8081']);
  const { cluster, nodes, pods } = rig;
  const [node] = nodes;

  await t.test('firewalld', async (t) => {
    await node.must('nft', ['-f', '-'], { input: FIREWALLD_TABLE });
    await until('findings', async () => (await findings(node)).length > 0);
    const found = await findings(node);
    const at = (chain: string) => found.find((each) => each.chain === chain);
    t.match(at('filter_FWD_public'), { family: 'inet', table: 'firewalld', handle: Number, rule: /^reject/ });
    t.match(at('filter_FWD_public')?.advice, [
      /--zone=trusted --add-source=10\.244\.0\.0\/16/,
      /--add-source=fd00:244::\/48/,
    ]);
    t.match(at('filter_IN_public'), { rule: /^reject/, drops: [/IPv4 .* UDP port 8472/, /IPv6/] });
    t.match(at('filter_IN_public')?.advice, [/--add-port=8472\/udp/]);
    t.match(
      await node.must('nft', ['--handle', 'list', 'chain', 'inet', 'firewalld', 'filter_FWD_public']),
      `# handle ${at('filter_FWD_public')?.handle}\n`,
    );
    t.notOk((await pings(pods)).some(Boolean), 'they do drop');
    const { stdout } = await node.run(PROGRAM, ['status']);
    t.match(
      stdout,
      /packet filter: table inet firewalld, chain filter_FWD_public, handle \d+ \(reject.*\) drops IPv4 from pods/,
    );
    const readyz = await node.must('curl', ['-s', 'http://127.0.0.1:8081/readyz']);
    t.match(readyz, /^ready\n.*table inet firewalld, chain filter_FWD_public, handle/s);
    t.equal(cluster.agentLog(node).split('chain filter_FWD_public').length, 2, 'logged once');

    await shell(node, 'nft insert rule inet firewalld filter_IN_public_allow udp dport 8472 accept');
    await shell(node, 'mount -t tmpfs tmpfs /usr/local/sbin');
    await node.must('sh', ['-c', 'cat > /usr/local/sbin/firewall-cmd; chmod 755 /usr/local/sbin/firewall-cmd'], {
      input: FIREWALL_CMD,
    });
    // As at a reload of firewalld: before, it was not there.
    await shell(node, 'nft delete table inet firewalld');
    await until('no findings', async () => (await findings(node)).length === 0);
    await node.must('nft', ['-f', '-'], { input: FIREWALLD_TABLE });
    await shell(node, 'nft insert rule inet firewalld filter_IN_public_allow udp dport 8472 accept');
    await flows(t, pods, 'with firewall-cmd there is traffic');
    t.same(await findings(node), []);
    t.match(
      await node.must('nft', ['list', 'chain', 'inet', 'firewalld', 'filter_FORWARD_ZONES']),
      /ip saddr 10\.244\.0\.0\/16 goto filter_FWD_trusted/,
    );
  });

  await t.test("an operator's own table", async (t) => {
    const own = `table inet operator { chain forward { type filter hook forward priority 5; policy accept; ct state established,related accept; tcp dport 22 accept; ip daddr 10.244.0.0/16 ip saddr 10.0.0.0/8 log prefix "no " counter drop comment "mine"; }; }`;
    await node.must('nft', ['-f', '-'], { input: own });
    await until('a finding', async () => (await findings(node)).some(({ table }) => table === 'operator'));
    t.match(await findings(node), [
      {
        table: 'operator',
        chain: 'forward',
        rule: /drop comment "mine"$/,
        drops: [/IPv4 from pods/, /IPv4 from other/],
      },
    ]);
    t.match(await node.must('nft', ['list', 'table', 'inet', 'operator']), /comment "mine"/, 'it is left alone');
    await shell(node, 'nft delete table inet operator');
    await until('no finding', async () => (await findings(node)).length === 0);
  });

  const reason = await legacyReason(node);
  await t.test('iptables-legacy with FORWARD DROP', { skip: reason ?? false }, async (t) => {
    await dropping(t, rig, 'legacy');
  });

  await stopAgent(rig.agents[0] as ChildProcess);
  const told = await node.must(PROGRAM, ['cleanup']);
  t.match(told, /^firewall-cmd --zone=trusted --remove-source=10\.244\.0\.0\/16$/m);
  if (reason === undefined) t.match(told, /^iptables-legacy .*-D DOCKER-USER 1$/m);
  t.notMatch(await node.must('nft', ['list', 'ruleset']), /10\.244\./);
  if (reason === undefined) t.same(await listed(node, 'iptables-legacy'), []);
});
