// The agent among other people's packet filters, on the fake host with programs that the test makes up.

import t from 'tap';
import { firewallChanges, printFirewallChanges } from '../../../flanneld/firewall/changes.ts';
import type { Programs, Said } from '../../../flanneld/firewall/programs.ts';
import { printStatus } from '../../../flanneld/status.ts';
import type { FakeKernel } from '../../../kernel/fake.ts';
import { prefix } from '../../../model/ip.ts';
import type { BaseChain, NftCommand, Rule, Table } from '../../../model/ruleset.ts';
import { type Rig, rig } from '../fixtures/agent.ts';
import { peerLease } from '../fixtures/world.ts';

const said = (output = '', status = 0, errors = ''): Said => ({ status, output, errors });
const FORWARD: BaseChain = { type: 'filter', hook: 'forward', priority: 'filter', policy: 'drop' };

/** Programs by name, and what each says to its arguments. */
function programs(table: Readonly<Record<string, (args: readonly string[]) => Said>>, legacy: readonly string[] = []) {
  const calls: string[] = [];
  const result: Programs & { readonly calls: string[] } = {
    calls,
    find: (name) => (name in table ? `/usr/sbin/${name}` : undefined),
    async run(path, args) {
      const name = path.split('/').at(-1) as string;
      calls.push([name, ...args].join(' '));
      return table[name]?.(args) ?? said('', 127, 'not there');
    },
    legacyTables: (family) => (family === 4 ? legacy : []),
  };
  return result;
}

function put(
  kernel: FakeKernel,
  family: Table['family'],
  table: string,
  base: BaseChain,
  rules: readonly string[],
): void {
  const name = table === 'filter' ? 'FORWARD' : 'forward';
  kernel.commit({
    family,
    table,
    commands: [
      { verb: 'add', type: 'table' },
      { verb: 'add', type: 'chain', chain: { name, base } },
      ...rules.map((rule): NftCommand => ({ verb: 'add', type: 'rule', chain: name, rule: rule as Rule })),
    ],
  });
}

const forward = (kernel: FakeKernel, family = 'ip') =>
  kernel.readChain({ family, table: 'filter', name: 'FORWARD' })?.map(({ text }) => text);
/** A look ends a turn later than it begins, and what it missed waits for the next. */
async function passLooks(node: Rig, ms: number): Promise<void> {
  for (let count = 0; count < 3; count++) await node.pass(ms);
}

const ACCEPTS = ['saddr', 'daddr'].map(
  (side) => `ip ${side} 10.244.0.0/16 counter accept comment "flanneld forward 10.244.0.0/16"`,
);

t.test('FORWARD of iptables-nft', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  put(node.kernel, 'ip', 'filter', FORWARD, ['ct state established counter accept']);
  put(node.kernel, 'ip6', 'filter', FORWARD, []);
  const { agent, log } = node.start(['--iptables-resync=600']);
  await node.pass(0);
  t.same(forward(node.kernel), [...ACCEPTS, 'ct state established counter accept']);
  t.same(forward(node.kernel, 'ip6'), [], 'a family that has no network');
  t.same(agent.status().firewall, {
    accepts: [{ chain: 'ip filter FORWARD', network: '10.244.0.0/16' }],
    findings: [],
    troubles: [],
  });
  t.match(
    printStatus(agent.status(), 0),
    'packet filter: 10.244.0.0/16 is accepted in ip filter FORWARD by rules of ours',
  );

  const flush: NftCommand = { verb: 'flush', type: 'chain', chain: { name: 'FORWARD' } };
  node.kernel.commit({ family: 'ip', table: 'filter', commands: [flush] });
  await passLooks(node, 10_000);
  t.same(forward(node.kernel), ACCEPTS, 'they are back, by a notification');
  for (let count = 0; count < 2; count++) node.kernel.failNext(/insert rule/, 'EBUSY');
  node.kernel.commit({ family: 'ip', table: 'filter', commands: [flush] });
  await passLooks(node, 10_000);
  t.match(agent.status().firewall?.troubles, [/change table ip filter: EBUSY/]);
  t.match(agent.remarks(), [
    /^packet filter: table ip filter, chain FORWARD, handle \d+ \(policy drop\) drops IPv4/,
    /EBUSY/,
  ]);
  for (let count = 0; count < 3; count++) await passLooks(node, 600_000);
  t.same(forward(node.kernel), ACCEPTS, 'tried again');
  t.same(agent.remarks(), []);
  t.equal(log.lines.filter((line) => line.includes('EBUSY')).length, 2, 'told when it came and when it went');
});

t.test('--iptables-forward-rules=false: it is only said', async (t) => {
  const node = rig(t);
  put(node.kernel, 'ip', 'filter', FORWARD, []);
  const { agent } = node.start(['--iptables-forward-rules=false']);
  await node.pass(0);
  t.same(forward(node.kernel), []);
  t.match(agent.status().firewall?.findings, [
    {
      family: 'ip',
      table: 'filter',
      chain: 'FORWARD',
      rule: 'policy drop',
      advice: [/^iptables -I FORWARD -s 10\.244/],
    },
  ]);
});

t.test('another table is named, and never touched', async (t) => {
  const node = rig(t);
  put(node.kernel, 'inet', 'operator', { ...FORWARD, policy: 'accept' }, ['ip saddr 10.0.0.0/8 drop']);
  const before = node.kernel.readTable('inet', 'operator');
  const { agent, log } = node.start(['--iptables-resync=5']);
  await node.pass(0);
  await node.pass(20_000);
  t.same(node.kernel.readTable('inet', 'operator'), before);
  const line =
    /packet filter: table inet operator, chain forward, handle \d+ \(ip saddr 10\.0\.0\.0\/8 drop\) drops IPv4 from pods to other nodes, IPv4 from other nodes to pods, IPv4 from pods to the outside: nft insert rule inet operator forward ip saddr 10\.244\.0\.0\/16 accept/;
  t.match(agent.remarks(), [line]);
  t.equal(log.lines.filter((each) => line.test(each)).length, 1, 'logged once');
  t.equal(agent.unreadiness(), undefined);
});

t.test('iptables-legacy is not there', async (t) => {
  for (const [what, made] of [
    ['no program', programs({}, ['filter'])],
    [
      'iptables is the other kind',
      programs({ iptables: () => said('iptables v1.8.9 (nf_tables)\n') }, ['nat', 'filter']),
    ],
  ] as const) {
    const node = rig(t);
    const { agent } = node.start([], { programs: made });
    await node.pass(0);
    t.match(agent.remarks(), [/iptables-legacy is not there, but its table filter is in use: install it/], what);
  }
  const idle = programs({ 'iptables-legacy': () => said('', 1) }, ['nat']);
  const node = rig(t);
  const { agent } = node.start([], { programs: idle });
  await node.pass(0);
  t.same([agent.remarks(), idle.calls], [[], []], 'where there is no table of its kind it is not run');
});

t.test('iptables-legacy', async (t) => {
  let rules = ['-P INPUT ACCEPT', '-P FORWARD DROP'];
  const iptables = (args: readonly string[]): Said => {
    if (args.includes('--version')) return said('iptables v1.4.21\n');
    if (args.includes('-S')) return said(`${rules.join('\n')}\n`);
    const rule = args.slice(7).map((word) => (word.includes(' ') ? `"${word}"` : word));
    rules = [...rules.slice(0, 2), `-A FORWARD ${rule.join(' ')}`, ...rules.slice(2)];
    return said();
  };
  const node = rig(t);
  const { agent } = node.start([], { programs: programs({ iptables }, ['filter']) });
  await node.pass(0);
  t.match(rules.slice(2), [/^-A FORWARD -s 10\.244\.0\.0\/16 -m comment --comment "flanneld forward 10/, /-d 10/]);
  t.match(agent.status().firewall, { accepts: [{ chain: 'legacy ip filter FORWARD' }], findings: [], troubles: [] });
  rules = rules.slice(0, 2);
  await node.pass(5000);
  t.equal(rules.length, 4, 'back at the next resync');

  const refusing = programs(
    { 'iptables-legacy': (args) => (args.includes('-S') ? said('-P FORWARD DROP\n') : said('', 4, 'x\nlocked\n')) },
    ['filter'],
  );
  const other = rig(t);
  const second = other.start([], { programs: refusing });
  await other.pass(0);
  t.match(second.agent.remarks(), [
    /table legacy ip filter, chain FORWARD, handle 0/,
    /iptables-legacy -w 5 .*: exit code 4: locked$/,
  ]);
});

t.test('firewalld', async (t) => {
  const REJECT = 'reject with icmpx admin-prohibited';
  const TRUST = 'ip saddr 10.244.0.0/16 accept';
  const fill = (kernel: FakeKernel) => put(kernel, 'inet', 'firewalld', { ...FORWARD, policy: 'accept' }, [REJECT]);
  const node = rig(t);
  fill(node.kernel);
  const made = programs({
    'firewall-cmd': () => {
      const insert: NftCommand = { verb: 'insert', type: 'rule', chain: 'forward', rule: TRUST as Rule };
      node.kernel.commit({ family: 'inet', table: 'firewalld', commands: [insert] });
      return said('success\n');
    },
  });
  const { agent } = node.start(['--iptables-resync=600'], { programs: made });
  await node.pass(0);
  t.same(made.calls, ['firewall-cmd --zone=trusted --add-source=10.244.0.0/16']);
  t.same(agent.status().firewall?.findings, []);
  node.kernel.commit({ family: 'inet', table: 'firewalld', commands: [{ verb: 'delete', type: 'table' }] });
  await passLooks(node, 10_000);
  fill(node.kernel);
  await passLooks(node, 10_000);
  t.equal(made.calls.length, 2, 'told again after a reload');

  const stubborn = programs({ 'firewall-cmd': () => said('', 252, 'FirewallD is not running\n') });
  const other = rig(t);
  fill(other.kernel);
  const second = other.start(['--iptables-resync=5'], { programs: stubborn });
  await other.pass(0);
  await other.pass(20_000);
  t.equal(stubborn.calls.length, 1, 'not told again and again');
  t.match(second.agent.remarks(), [
    /table inet firewalld, chain forward, handle \d+ \(reject.*: firewall-cmd --permanent --zone=trusted --add-source=10\.244\.0\.0\/16/,
    /exit code 252: FirewallD is not running/,
  ]);
  await other.pass(60_000);
  t.equal(stubborn.calls.length, 2);
});

t.test('--dry-run tells what it would do', async (t) => {
  const node = rig(t);
  put(node.kernel, 'ip', 'filter', FORWARD, []);
  put(node.kernel, 'inet', 'firewalld', { ...FORWARD, policy: 'accept' }, ['reject']);
  const made = programs({ 'iptables-legacy': () => said('-P FORWARD DROP\n') }, ['filter']);
  const wish = {
    sites: [
      {
        family: 4 as const,
        network: prefix('10.244.0.0/16'),
        subnet: prefix('10.244.1.0/24'),
        pods: 'cni0',
        overlay: 'flannel.1',
      },
    ],
    networks: [prefix('10.244.0.0/16')],
    forwardRules: true,
  };
  t.match(printFirewallChanges(await firewallChanges(node.kernel, made, wish)), [
    /^nft 'insert rule ip filter FORWARD ip daddr 10\.244\.0\.0\/16 counter accept comment "flanneld/,
    /^nft 'insert rule ip filter FORWARD ip saddr/,
    "iptables-legacy -w 5 -t filter -I FORWARD 1 -d 10.244.0.0/16 -m comment --comment 'flanneld forward 10.244.0.0/16' -j ACCEPT",
    /-I FORWARD 1 -s /,
    'firewall-cmd --zone=trusted --add-source=10.244.0.0/16',
  ]);
  t.same(forward(node.kernel), [], 'and does none of it');
});
