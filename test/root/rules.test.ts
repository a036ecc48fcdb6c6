// The agent's rules in the real nft: that they are listed in the very words in which they were written, whatever the
// network, since what is wanted and what is there are compared as text; and what they do to packets.

import { once } from 'node:events';
import t, { type Test } from 'tap';
import { type Machine, startMachine } from '../../examples/cluster/machine.ts';
import { ownsChains, rulesTable } from '../../flanneld/rules/table.ts';
import { parseTable } from '../../kernel/nftables.ts';
import { addressOf, prefix } from '../../model/ip.ts';
import { diffTable, printTable, type Table } from '../../model/ruleset.ts';

const ALL = { masquerade: true, masqueradeFullyRandom: true };

const EXEMPT = ['0.0.0.0/0', '10.0.0.0/8', '192.0.2.9/32', '::/0', '2001:db8::/33', '2001:db8::1/128'].map(prefix);

async function machine(t: Test, name: string): Promise<Machine> {
  const made = await startMachine(name);
  t.teardown(() => made.stop());
  return made;
}

async function load(host: Machine, table: Table): Promise<void> {
  await host.must('nft', ['-f', '-'], { input: printTable(table) });
}

/** Networks of every length that a configuration may well have, with a subnet in each. */
const NETWORKS = Array.from({ length: 21 }, (_, index) => index + 8).map((length) => ({
  network: { 4: prefix(`10.0.0.0/${length}`), 6: prefix(`fd00::/${length * 4}`) },
  subnet: { 4: prefix(`10.0.0.0/${length + 2}`), 6: prefix(`fd00::/${length * 4 + 2}`) },
}));
/** Subnets that pods kept when the Network became another. */
const KEPT = {
  network: { 4: prefix('10.77.0.0/16'), 6: prefix('fd77::/48') },
  subnet: { 4: prefix('10.244.1.0/24'), 6: prefix('fd00:244:0:1::/64') },
};

t.test('nft lists the rules as they are written', async (t) => {
  const host = await machine(t, 'rules');
  for (const { network, subnet } of [...NETWORKS, KEPT]) {
    for (const settings of [ALL, { ...ALL, masqueradeFullyRandom: false, unmasqueraded: EXEMPT }]) {
      const table = rulesTable(network, subnet, settings);
      await load(host, table);
      const listed = parseTable(await host.must('nft', ['list', 'table', 'inet', 'flannel']));
      const owns = ownsChains([network[4], network[6]]);
      t.same(diffTable(listed, table, owns), undefined, `${network[4]} ${network[6]}`);
      await host.must('nft', ['delete', 'table', 'inet', 'flannel']);
    }
  }
});

// The world of the packets. The node forwards between three links:
//   pod     10.244.1.5, fd00:244:0:1::5                the node is .1 and ::1
//   remote  10.244.2.5, fd00:244:0:2::5 a pod of another node; 192.0.2.9, 2001:db8::9 a server outside. The node is
//           192.168.50.1, fd00:50::1, and has 172.31.9.9, fd31::9 besides
//   third   10.244.3.5, fd00:244:0:3::5 a pod of a third node
const NETWORK = { 4: prefix('10.244.0.0/16'), 6: prefix('fd00:244::/48') };
const SUBNET = { 4: prefix('10.244.1.0/24'), 6: prefix('fd00:244:0:1::/64') };

const LINKS = [
  ['pod', '10.244.1.1/24 fd00:244:0:1::1/64', '10.244.1.5/24 fd00:244:0:1::5/64', '10.244.1.1 fd00:244:0:1::1'],
  [
    'remote',
    '192.168.50.1/24 fd00:50::1/64',
    '192.168.50.2/24 fd00:50::2/64 10.244.2.5/32 fd00:244:0:2::5/128 192.0.2.9/32 2001:db8::9/128',
    '192.168.50.1 fd00:50::1',
  ],
  [
    'third',
    '192.168.60.1/24 fd00:60::1/64',
    '192.168.60.2/24 fd00:60::2/64 10.244.3.5/32 fd00:244:0:3::5/128',
    '192.168.60.1 fd00:60::1',
  ],
] as const;

const ROUTES = ['10.244.2.0/24 via 192.168.50.2', '192.0.2.0/24 via 192.168.50.2', '10.244.3.0/24 via 192.168.60.2'];
const ROUTES6 = [
  'fd00:244:0:2::/64 via fd00:50::2',
  '2001:db8::/32 via fd00:50::2',
  'fd00:244:0:3::/64 via fd00:60::2',
];

interface World {
  readonly node: Machine;
  readonly machines: Readonly<Record<string, Machine>>;
}

async function startWorld(t: Test): Promise<World> {
  const node = await machine(t, 'node');
  const machines: Record<string, Machine> = { node };
  for (const [name, near, far, gateways] of LINKS) {
    const other = await machine(t, name);
    machines[name] = other;
    await node.must('ip', [
      'link',
      'add',
      name,
      'up',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      String(other.pid),
    ]);
    await node.must('sh', [
      '-ec',
      near
        .split(' ')
        .map((each) => `ip address add ${each} dev ${name} ${each.includes(':') ? 'nodad' : ''}`)
        .join('\n'),
    ]);
    await other.must('sh', [
      '-ec',
      [
        'ip link set eth0 up',
        ...far.split(' ').map((each) => `ip address add ${each} dev eth0 ${each.includes(':') ? 'nodad' : ''}`),
      ].join('\n'),
    ]);
    await other.must('sh', [
      '-ec',
      gateways
        .split(' ')
        .map((each) => `ip route add default via ${each}`)
        .join('\n'),
    ]);
  }
  await node.must('sh', ['-ec', [...ROUTES, ...ROUTES6].map((each) => `ip route add ${each}`).join('\n')]);
  await node.must('sh', ['-ec', 'ip address add 172.31.9.9/32 dev lo; ip address add fd31::9/128 dev lo nodad']);
  await node.must('sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  return { node, machines };
}

/** One socket for each address, so that the answer comes from where the question went. */
const SERVER = `
const { createSocket } = require('node:dgram');
const all = process.argv.slice(1).map((address) => new Promise((resolve) => {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (_, from) => socket.send(from.address, from.port, from.address));
  socket.bind(9999, address, resolve);
}));
Promise.all(all).then(() => console.log('ready'));
`;

const CLIENT = `
const [from, to] = process.argv.slice(1);
const socket = require('node:dgram').createSocket({ type: to.includes(':') ? 'udp6' : 'udp4' });
socket.on('message', (text) => { console.log(String(text)); process.exit(0); });
socket.bind(0, from, () => socket.send('who am I', 9999, to));
setTimeout(() => { console.log('no answer'); process.exit(0); }, 3000);
`;

/** The address that a server at \`to\` sees when \`from\` of the machine asks. */
const seen = async (from: Machine, address: string, to: string): Promise<string> =>
  (await from.must(process.execPath, ['-e', CLIENT, address, to])).trim();

interface Case {
  readonly what: string;
  readonly from: 'pod' | 'remote' | 'node';
  readonly source: string;
  readonly to: string;
  readonly sees: string;
}

const CASES: readonly Case[] = [
  {
    what: 'a pod asks the world: it is hidden',
    from: 'pod',
    source: '10.244.1.5',
    to: '192.0.2.9',
    sees: '192.168.50.1',
  },
  {
    what: 'a pod asks a remote pod: it is seen',
    from: 'pod',
    source: '10.244.1.5',
    to: '10.244.2.5',
    sees: '10.244.1.5',
  },
  {
    what: 'the world asks a local pod: it is seen',
    from: 'remote',
    source: '192.0.2.9',
    to: '10.244.1.5',
    sees: '192.0.2.9',
  },
  {
    what: 'a remote pod asks a local one: it is seen',
    from: 'remote',
    source: '10.244.2.5',
    to: '10.244.1.5',
    sees: '10.244.2.5',
  },
  {
    what: 'this host, by an address nobody can answer, asks a remote pod',
    from: 'node',
    source: '172.31.9.9',
    to: '10.244.2.5',
    sees: '192.168.50.1',
  },
  {
    what: 'this host asks a local pod: it is seen',
    from: 'node',
    source: '172.31.9.9',
    to: '10.244.1.5',
    sees: '172.31.9.9',
  },
  {
    what: 'pods of two other nodes, passing through: seen',
    from: 'remote',
    source: '10.244.2.5',
    to: '10.244.3.5',
    sees: '10.244.2.5',
  },
  {
    what: 'the world asks a remote pod by this node: hidden, so that the answer comes back',
    from: 'remote',
    source: '192.0.2.9',
    to: '10.244.3.5',
    sees: '192.168.60.1',
  },
];

const SIX: Readonly<Record<string, string>> = {
  '10.244.1.5': 'fd00:244:0:1::5',
  '10.244.2.5': 'fd00:244:0:2::5',
  '10.244.3.5': 'fd00:244:0:3::5',
  '192.0.2.9': '2001:db8::9',
  '192.168.50.1': 'fd00:50::1',
  '192.168.60.1': 'fd00:60::1',
  '172.31.9.9': 'fd31::9',
};

t.test('report 16: what the rules do to packets', async (t) => {
  const { node, machines } = await startWorld(t);
  for (const [name, , far] of LINKS) {
    const addresses = far.split(' ').map((each) => addressOf(prefix(each)));
    const server = (machines[name] as Machine).start(process.execPath, ['-e', SERVER, ...addresses]);
    await once(server.stdout as NodeJS.ReadableStream, 'data');
  }
  await load(node, rulesTable(NETWORK, SUBNET, ALL));
  for (const { what, from, source, to, sees } of CASES) {
    const machine = machines[from] as Machine;
    t.equal(await seen(machine, source, to), sees, what);
    t.equal(await seen(machine, SIX[source] as string, SIX[to] as string), SIX[sees], `IPv6: ${what}`);
  }
  const mark = `table inet marks { chain marking { type filter hook prerouting priority mangle; meta mark set 0x4001; }; }`;
  await node.must('nft', ['-f', '-'], { input: mark });
  const pod = machines.pod as Machine;
  t.equal(await seen(pod, '10.244.1.5', '192.0.2.9'), '10.244.1.5', "kube-proxy's mark, with another bit: left to it");
});
