// What a test can do behind the fake kernel's back.

import t from 'tap';
import { createFakeKernel } from '../../kernel/fake.ts';
import { throwFirst } from '../../kernel/kernel.ts';
import { mac, prefix } from '../../model/ip.ts';
import type { Rule } from '../../model/ruleset.ts';
import type { Step } from '../../model/steps.ts';
import { add, set } from '../compliance/kernel-subject.ts';

const bridge = add.link({ name: 'br0', kind: 'bridge', mac: '02:00:00:00:00:01', up: true });

t.test('namespaces come and go by path', async (t) => {
  const kernel = createFakeKernel();
  t.throws(() => kernel.openNamespace('/run/netns/a'), { code: 'invalid-netns', errno: 'ENOENT' });
  kernel.addNamespace('/run/netns/a');
  t.throws(() => kernel.addNamespace('/run/netns/a'), { name: 'NetError', errno: 'EEXIST' });
  const first = kernel.openNamespace('/run/netns/a');
  kernel.removeNamespace('/run/netns/a');
  t.throws(() => kernel.removeNamespace('/run/netns/a'), { name: 'NetError', errno: 'ENOENT' });
  t.throws(() => kernel.openNamespace('/run/netns/a'), { name: 'NetError', errno: 'ENOENT' });
  t.strictSame(kernel.apply(first, [bridge]), [], 'an opening keeps it alive');
  kernel.addNamespace('/run/netns/a');
  t.not(kernel.openNamespace('/run/netns/a').id, first.id, 'the path names another one now');
  first.close();
  t.throws(() => kernel.read(first, {}), { code: 'kernel', errno: 'EBADF' });
  t.throws(() => kernel.apply(first, []), { code: 'kernel', errno: 'EBADF' });
  t.equal(kernel.openNamespace(kernel.host.path).id, kernel.host.id);
});

t.test('a physical device', async (t) => {
  const kernel = createFakeKernel();
  kernel.addDevice(kernel.host, { name: 'eth0', mac: mac('02:00:00:00:00:10'), mtu: 9000 });
  t.match(kernel.read(kernel.host, { links: ['eth0'] }).links[0], {
    kind: 'device',
    up: false,
    mtu: 9000,
    mac: '02:00:00:00:00:10',
    index: 2,
  });
  throwFirst(
    kernel.apply(kernel.host, [set('eth0', { up: true }), add.address({ device: 'eth0', address: '192.0.2.1/24' })]),
  );
  t.ok(kernel.read(kernel.host, { links: ['eth0'] }).links[0]?.operational);
  t.equal(
    kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value: { name: 'eth0', kind: 'device' } } }])[0]
      ?.error.errno,
    'ENOTSUP',
  );
  t.throws(() => kernel.addDevice(kernel.host, { name: 'eth0' }), { name: 'NetError', errno: 'EEXIST' });
});

t.test('the next matching step fails, once', async (t) => {
  const kernel = createFakeKernel();
  kernel.failNext(/^ip address add .* dev br0/, 'EPERM');
  const steps = [
    bridge,
    add.address({ device: 'br0', address: '10.1.0.1/24' }),
    add.address({ device: 'br0', address: '10.2.0.1/24' }),
  ];
  const failures = kernel.apply(kernel.host, steps);
  t.strictSame(
    failures.map(({ step, error }) => [steps.indexOf(step as Step), error.code, error.errno, error.subject]),
    [[1, 'kernel', 'EPERM', '10.1.0.1/24']],
  );
  t.strictSame(
    kernel.read(kernel.host, { addresses: ['br0'] }).addresses.map(({ address }) => address),
    ['10.2.0.1/24'],
  );
  t.throws(() => throwFirst(failures), { message: 'ip address add 10.1.0.1/24 dev br0: EPERM' });
});

t.test('so does the next matching transaction', async (t) => {
  const kernel = createFakeKernel();
  const create = { family: 'inet', table: 't', commands: [{ verb: 'add', type: 'table' }] } as const;
  kernel.failNext(/add table inet t/, 'EPERM');
  t.throws(() => kernel.commit(create), { code: 'kernel', errno: 'EPERM', subject: 't' });
  t.equal(kernel.readTable('inet', 't'), undefined);
  kernel.commit(create);
  t.strictSame(kernel.readTable('inet', 't'), { family: 'inet', name: 't', chains: [], sets: [] });
});

t.test('everything as text', async (t) => {
  const kernel = createFakeKernel();
  throwFirst(
    kernel.apply(kernel.host, [
      bridge,
      add.address({ device: 'br0', address: '10.1.0.1/24' }),
      add.route({ destination: '10.9.0.0/16', via: '10.1.0.2' }),
      add.neighbour({ device: 'br0', ip: '10.1.0.2', mac: '02:00:00:00:00:02' }),
      { verb: 'change', item: { type: 'sysctl', value: { key: 'net/ipv4/conf/br0/rp_filter', value: '2' } } },
    ]),
  );
  kernel.commit({
    family: 'inet',
    table: 't',
    commands: [
      { verb: 'add', type: 'table' },
      { verb: 'add', type: 'chain', chain: { name: 'c' } },
      { verb: 'add', type: 'rule', chain: 'c', rule: `ip saddr ${prefix('10.1.0.0/24')} accept` as Rule },
    ],
  });
  t.equal(
    kernel.dump(kernel.host),
    `ip link add lo mtu 65536 address 00:00:00:00:00:00 nomaster promisc off down type device
ip link add br0 mtu 1500 address 02:00:00:00:00:01 nomaster promisc off up type bridge nf_call_iptables 0 nf_call_ip6tables 0
sysctl -w net.ipv4.conf.br0.rp_filter=2
ip address add 10.1.0.1/24 dev br0
ip neighbour add 10.1.0.2 lladdr 02:00:00:00:00:02 nud permanent dev br0
ip route add 10.1.0.0/24 dev br0 proto 2 src 10.1.0.1 table 254 scope link
ip route add 10.9.0.0/16 via 10.1.0.2 dev br0 proto 3 table 254 scope global
table inet t {
	chain c {
		ip saddr 10.1.0.0/24 accept
	}
}
`,
  );
});

t.test('two fakes know nothing of each other', async (t) => {
  const [one, two] = [createFakeKernel(), createFakeKernel()];
  throwFirst(one.apply(one.host, [bridge]));
  t.strictSame(
    two.read(two.host, { links: 'all' }).links.map(({ name }) => name),
    ['lo'],
  );
  t.throws(() => two.read(one.host, {}), { name: 'NetError', errno: 'EBADF' });
});
