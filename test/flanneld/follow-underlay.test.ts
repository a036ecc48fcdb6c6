// A running agent hears of changes to the host: it mends what is its own at once, and follows its interface to other nodes.

import t from 'tap';
import { ip, mac, prefix } from '../../model/ip.ts';
import type { Lease } from '../../model/lease.ts';
import type { Step } from '../../model/steps.ts';
import { rig, type Rig } from './fixtures/agent.ts';
import { dumpSorted } from './fixtures/host.ts';
import { apply, step } from './fixtures/target.ts';
import { NODE_ID, peerLease } from './fixtures/world.ts';

const ADDRESS = { device: 'eth0', address: prefix('192.168.50.1/24') };
const DEFAULT = { destination: prefix('0.0.0.0/0'), via: ip('192.168.50.254'), device: 'eth0', protocol: 4 };
const own = ({ store }: Rig): Lease => [...store.leases.values()].find(({ nodeId }) => nodeId === NODE_ID) as Lease;
const change = (name: string, kind: string, what: object): Step => ({
  verb: 'change',
  item: { type: 'link', value: { name, kind, ...what } },
});

t.test('what is taken away comes back without waiting for the resync', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const { agent } = node.start();
  await node.pass(0);
  await node.pass(100);
  const whole = dumpSorted(node.kernel);
  const { VtepMAC } = own(node).backendData[4] as { VtepMAC: string };
  const losses: readonly Step[] = [
    step('delete', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } }),
    step('delete', {
      type: 'route',
      value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1', via: ip('10.244.2.0') },
    }),
    change('flannel.1', 'vxlan', { mac: mac('06:00:00:00:00:99') }),
  ];
  for (const loss of losses) {
    apply(node.kernel, loss);
    t.not(dumpSorted(node.kernel), whole);
    await node.pass(20);
    t.equal(dumpSorted(node.kernel), whole);
    await node.pass(100);
  }
  node.kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  await node.pass(20);
  t.equal(dumpSorted(node.kernel), whole);
  t.equal((own(node).backendData[4] as { VtepMAC: string }).VtepMAC, VtepMAC, 'peers have not been told anything new');

  await node.pass(100);
  const quiet = agent.status().lastRun?.at;
  await node.pass(1000);
  t.equal(agent.status().lastRun?.at, quiet, 'no run without a reason');
});

t.test("the interface's MTU", async (t) => {
  const node = rig(t);
  const { agent, log } = node.start();
  await node.pass(0);
  const before = own(node);
  apply(node.kernel, change('eth0', 'device', { mtu: 1400 }));
  await node.pass(20);
  t.match(node.readSubnetFile(), /FLANNEL_MTU=1350/);
  t.match(dumpSorted(node.kernel), /flannel\.1 .*mtu 1350/);
  t.match(agent.status(), { mtu: 1350, families: [{ deviceMtu: 1400 }], ready: true });
  t.equal(own(node), before, 'the lease says the same as before: it is not written again');
  t.equal(node.store.reconnects, 0);
  t.match(log.lines.at(-2), /the interface to other nodes has changed: eth0 with 192\.168\.50\.1, MTU 1400/);
});

t.test("the interface's address", async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const { agent } = node.start();
  await node.pass(0);
  const before = own(node);
  const subnetFile = node.readSubnetFile();
  apply(node.kernel, step('delete', { type: 'address', value: ADDRESS }));
  await node.pass(20);
  t.match(agent.unreadiness(), /no interface with a usable IPv4 address/);
  t.match(dumpSorted(node.kernel), /10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1/, 'the data path stays');
  t.equal(own(node), before);
  t.equal(node.store.reconnects, 0);
  apply(
    node.kernel,
    step('add', { type: 'address', value: { ...ADDRESS, address: prefix('192.168.50.101/24') } }),
    step('replace', { type: 'route', value: DEFAULT }),
  );
  await node.pass(20);
  await node.pass(20);
  t.equal(agent.unreadiness(), undefined);
  t.match(dumpSorted(node.kernel), /flannel\.1 .*local 192\.168\.50\.101/);
  t.same(own(node), { ...before, publicIp: { 4: '192.168.50.101' } }, 'the same subnet and MAC at a new address');
  t.equal(node.readSubnetFile(), subnetFile);
  t.equal(node.store.reconnects, 1, 'the connection from the old address is not waited for');
});

t.test('an address that changes while the agent starts', async (t) => {
  const node = rig(t);
  const { NetError } = await import('../../model/errors.ts');
  const first = node.start();
  await node.pass(0);
  await first.stop();
  const { resolve, promise } = Promise.withResolvers<void>();
  node.store.beforeAcquire = promise;
  node.store.trouble = new NetError('etcd-unreachable', 'http://192.0.2.1:2379: connect ECONNREFUSED');
  const { agent } = node.start();
  await node.pass(0);
  apply(node.kernel, step('add', { type: 'address', value: { device: 'eth0', address: prefix('192.168.50.200/24') } }));
  await node.pass(0);
  t.equal(node.store.reconnects, 0, 'nothing was sent from one that comes');
  apply(
    node.kernel,
    step('delete', { type: 'address', value: { device: 'eth0', address: prefix('192.168.50.200/24') } }),
  );
  await node.pass(0);
  t.equal(node.store.reconnects, 1, 'what was sent from one that goes is answered nowhere');
  node.store.trouble = undefined;
  await node.pass(10_000);
  t.match(agent.unreadiness(), /waiting for a subnet/);
  apply(
    node.kernel,
    step('delete', { type: 'address', value: ADDRESS }),
    step('add', { type: 'address', value: { ...ADDRESS, address: prefix('192.168.50.101/24') } }),
    step('replace', { type: 'route', value: DEFAULT }),
  );
  resolve();
  await node.pass(0);
  await node.pass(20);
  t.equal(agent.unreadiness(), undefined);
  t.match(dumpSorted(node.kernel), /flannel\.1 .*local 192\.168\.50\.101/, 'seen at once, without a further change');
  t.same(own(node).publicIp, { 4: '192.168.50.101' });
});

t.test('an address that changes while the store is away', async (t) => {
  const { NetError } = await import('../../model/errors.ts');
  const node = rig(t);
  const { agent } = node.start();
  await node.pass(0);
  node.store.trouble = new NetError('etcd-unreachable', 'http://192.0.2.1:2379: connect ECONNREFUSED');
  const moves = ['192.168.50.101/24', '192.168.50.102/24'];
  let last = ADDRESS.address;
  for (const next of moves.map(prefix)) {
    apply(
      node.kernel,
      step('delete', { type: 'address', value: { device: 'eth0', address: last } }),
      step('add', { type: 'address', value: { device: 'eth0', address: next } }),
      step('replace', { type: 'route', value: DEFAULT }),
    );
    last = next;
    await node.pass(200);
  }
  t.match(agent.unreadiness(), /ECONNREFUSED/);
  t.match(dumpSorted(node.kernel), /flannel\.1 .*local 192\.168\.50\.102/);
  node.store.trouble = undefined;
  for (let count = 0; count < 5; count++) await node.pass(5000);
  t.equal(own(node).publicIp[4], '192.168.50.102');
  t.equal(agent.unreadiness(), undefined);
});
