// The agent's life: start, restart, and everything the store can do to it. The host is the fake kernel.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { firstOf, ip, plus, type Prefix, prefix, withLength } from '../../model/ip.ts';
import { type Lease, leaseKey } from '../../model/lease.ts';
import { rig } from './fixtures/agent.ts';
import { dumpSorted } from './fixtures/host.ts';
import { NODE_ID, ourLease, peerLease } from './fixtures/world.ts';

const unreachable = new NetError('etcd-unreachable', 'http://192.0.2.1:2379: connect ECONNREFUSED');

t.test('start', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const { agent, log, ended } = node.start();
  await node.pass(0);
  t.equal(agent.unreadiness(), undefined);
  const lease = [...node.store.leases.values()].find(({ nodeId }) => nodeId === NODE_ID) as Lease;
  t.match(lease, {
    publicIp: { 4: '192.168.50.1' },
    backendType: 'vxlan',
    backendData: { 4: { VNI: 1, VtepMAC: /:/ } },
  });
  t.equal(
    node.readSubnetFile(),
    `FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=${lease.subnet[4]?.replace('.0/', '.1/')}
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`,
  );
  const host = dumpSorted(node.kernel);
  for (const line of [/10\.244\.2\.0\/24 via 10\.244\.2\.0 dev flannel\.1/, /chain masquerade-10\.244\.0\.0-16/])
    t.match(host, line);
  t.match(agent.status(), {
    ready: true,
    backend: 'vxlan',
    mtu: 1450,
    peers: [{ key: '10.244.2.0-24', state: 'programmed' }],
    differences: [],
  });
  t.match(log.lines.at(-1), /^info ready: 10\.244\./);
  t.equal(ended(), undefined);
});

t.test('told once that everything is in its place', async (t) => {
  const node = rig(t);
  let told = 0;
  node.start([], { onSettled: () => void told++ });
  await node.pass(0);
  t.equal(told, 0, 'not by the run that puts it there');
  for (let count = 0; count < 5; count++) await node.pass(5000);
  t.equal(told, 1);
  node.store.put(peerLease([4], 2));
  for (let count = 0; count < 5; count++) await node.pass(5000);
  t.equal(told, 1, 'and never again');
});

t.test('etcd away, then no configuration, then one', async (t) => {
  const node = rig(t, null);
  node.store.config = undefined;
  node.store.trouble = unreachable;
  const before = dumpSorted(node.kernel);
  const { agent, log, ended } = node.start();
  await node.pass(0);
  t.match(agent.unreadiness(), /waiting for the network configuration: http:\/\/192\.0\.2\.1:2379/);
  for (let minute = 0; minute < 60; minute++) await node.pass(60_000);
  t.equal(log.lines.length, 1, 'an hour of it is one line');
  t.match(log.lines[0], /^warn read the network configuration: http:\/\/192\.0\.2\.1:2379: .*trying again/);
  node.store.trouble = undefined;
  await node.pass(30_000);
  t.match(agent.unreadiness(), /there is no key config/);
  t.equal(dumpSorted(node.kernel), before);
  t.notOk(node.identityKept());
  node.store.config = '{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}';
  await node.pass(30_000);
  t.equal(agent.unreadiness(), undefined);
  t.equal(ended(), undefined);
});

t.test('refused, with nothing changed anywhere', async (t) => {
  const refused = async (what: string, config: unknown, flags: readonly string[], expected: object) => {
    const node = rig(t, config);
    const before = dumpSorted(node.kernel);
    const { ended } = node.start(flags);
    await node.pass(0);
    t.match(ended(), expected, what);
    t.equal(dumpSorted(node.kernel), before, what);
    t.same([node.identityKept(), node.store.leases.size, node.readSubnetFile()], [false, 0, undefined], what);
  };
  await refused('network too small', { Network: '10.1.0.0/30' }, [], {
    code: 'invalid-network-config',
    message: /Network: .*10\.1\.0\.0\/30/,
  });
  await refused('unknown backend', { Network: '10.1.0.0/16', Backend: { Type: 'pigeon' } }, [], { message: /pigeon/ });
  await refused('option', { Network: '10.1.0.0/16', Backend: { Type: 'vxlan', VNI: 'one' } }, [], {
    message: /VNI.*"one"/,
  });
  await refused('interface', { Network: '10.1.0.0/16', Backend: { Type: 'vxlan' } }, ['--iface=nope0'], {
    code: 'no-interface',
    message: /--iface=nope0/,
  });
});

t.test('a device of that name that belongs to another agent', async (t) => {
  const node = rig(t);
  node.kernel.apply(node.kernel.host, [
    {
      verb: 'add',
      item: {
        type: 'link',
        value: { name: 'flannel.1', kind: 'vxlan', up: true, vxlan: { vni: 1, port: 8472, device: 'eth0' } },
      },
    },
    { verb: 'add', item: { type: 'address', value: { device: 'flannel.1', address: prefix('10.99.7.0/32') } } },
  ]);
  const { ended } = node.start();
  await node.pass(0);
  t.match(ended(), { code: 'foreign-object', message: /flannel\.1 has the address 10\.99\.7\.0\/32/ });
});

t.test('leases come, change and go', async (t) => {
  const node = rig(t);
  const { agent } = node.start();
  await node.pass(0);
  const empty = dumpSorted(node.kernel);
  node.store.put(peerLease([4], 2));
  await node.pass(100);
  t.match(dumpSorted(node.kernel), /fdb add 02:00:00:00:00:02 .* 192\.168\.50\.2 /);
  node.store.put(peerLease([4], 2, { mac: '02:00:00:00:00:22', host: 22 }));
  await node.pass(100);
  t.match(dumpSorted(node.kernel), /fdb add 02:00:00:00:00:22 .* 192\.168\.50\.22 /);
  t.notMatch(dumpSorted(node.kernel), /02:00:00:00:00:02 /, 'the old MAC is gone');
  node.store.remove(peerLease([4], 2));
  await node.pass(100);
  t.equal(dumpSorted(node.kernel), empty);
  t.equal(agent.unreadiness(), undefined);
});

t.test('a restart with changes made meanwhile', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2), peerLease([4], 3));
  const first = node.start();
  await node.pass(0);
  const file = node.readSubnetFile();
  const before = dumpSorted(node.kernel);
  await first.stop();
  t.equal(first.ended(), 'stopped');
  t.equal(dumpSorted(node.kernel), before, 'a stop leaves everything');
  node.store.remove(peerLease([4], 3));
  node.store.put(peerLease([4], 2, { mac: '02:00:00:00:00:22' }));
  node.start();
  await node.pass(0);
  t.equal(node.readSubnetFile(), file, 'the same subnet');
  const after = dumpSorted(node.kernel);
  t.match(after, /02:00:00:00:00:22/);
  t.notMatch(after, /10\.244\.3\.0|02:00:00:00:00:0[23]/, 'nothing stale');
});

t.test('another backend after a restart', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const first = node.start();
  await node.pass(0);
  await first.stop();
  node.store.config = '{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}';
  node.store.put(peerLease([4], 2, { type: 'host-gw' }));
  const { agent, log } = node.start();
  await node.pass(0);
  t.equal(agent.unreadiness(), undefined);
  const host = dumpSorted(node.kernel);
  t.notMatch(host, /flannel\.1/);
  t.match(host, /10\.244\.2\.0\/24 via 192\.168\.50\.2 dev eth0/);
  await node.pass(60_000);
  t.notMatch(log.lines.join(), /the interface to other nodes has changed/, 'a device of ours went, and no other');
});

t.test('another Network after a restart', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const first = node.start();
  await node.pass(0);
  await first.stop();
  node.store.config = '{"Network":"10.77.0.0/16","Backend":{"Type":"vxlan"}}';
  const { agent } = node.start();
  await node.pass(0);
  t.equal(agent.unreadiness(), undefined);
  const host = dumpSorted(node.kernel);
  t.notMatch(host, /10\.244/, 'nothing of the old one');
  t.match(host, /10\.77\./);
  t.match(agent.status().peers, [{ state: 'refused', reason: /10\.244\.2\.0\/24 is not inside 10\.77\.0\.0\/16/ }]);
});

t.test('another Network while pods run: their subnet stays, whatever restarts', async (t) => {
  const node = rig(t);
  const first = node.start();
  await node.pass(0);
  const subnet = first.agent.status().families[0]?.subnet as Prefix;
  await first.stop();
  const pod = { type: 'link', value: { name: 'pod', kind: 'veth', peer: { name: 'p' } } } as const;
  const address = withLength(plus(firstOf(subnet), 1n), 24);
  node.kernel.apply(node.kernel.host, [
    { verb: 'add', item: { type: 'link', value: { name: 'cni0', kind: 'bridge', up: true } } },
    { verb: 'add', item: { type: 'address', value: { device: 'cni0', address } } },
    { verb: 'add', item: pod },
    { verb: 'change', item: { type: 'link', value: { name: 'pod', kind: 'veth', master: 'cni0' } } },
  ]);
  node.store.config = '{"Network":"10.77.0.0/16","Backend":{"Type":"vxlan"}}';
  for (const restart of ['first', 'second', 'third']) {
    const { agent, ended, stop } = node.start();
    await node.pass(0);
    t.equal(ended(), undefined, `${restart} restart`);
    t.match(agent.status(), { ready: false, families: [{ network: '10.77.0.0/16', subnet }], differences: [] });
    t.equal(
      agent.unreadiness(),
      `pods use ${subnet}, which doesn't fit the network configuration: delete the pods of this node, then restart the agent`,
    );
    t.match(dumpSorted(node.kernel), `ip saddr ${subnet} ip daddr != 224.0.0.0/4 masquerade`);
    await stop();
  }
  node.kernel.apply(node.kernel.host, [{ verb: 'delete', item: pod }]);
  const { agent } = node.start();
  await node.pass(0);
  t.equal(agent.unreadiness(), undefined, 'without pods: a subnet that fits');
  t.notMatch(dumpSorted(node.kernel), /10\.244/, 'nothing of the old one');
});

t.test(
  "a Network that nodes' own addresses are in is told of, unless no subnet around them is handed out",
  async (t) => {
    const start = async (config: object) => {
      const node = rig(t, { Backend: { Type: 'vxlan' }, ...config });
      const { agent, log } = node.start();
      await node.pass(0);
      t.equal(agent.unreadiness(), undefined, 'it is ready all the same');
      return { notes: agent.remarks(), log: log.lines.filter((line) => line.startsWith('warn')) };
    };
    const note =
      /^subnets of pods \(192\.168\.1\.0\/24 to 192\.168\.255\.0\/24\) may hold 192\.168\.50\.1, the address of eth0/;
    const inside = await start({ Network: '192.168.0.0/16' });
    t.match(inside.notes, [note]);
    t.match(inside.log, [/^warn subnets of pods /]);
    const narrowed = { Network: '192.168.0.0/16', SubnetMin: '192.168.100.0', SubnetMax: '192.168.199.0' };
    for (const config of [narrowed, { Network: '10.244.0.0/16' }]) {
      t.strictSame(await start(config), { notes: [], log: [] });
    }
  },
);

t.test('the store is wiped', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2), peerLease([4], 3));
  const { agent, log } = node.start();
  await node.pass(0);
  const before = dumpSorted(node.kernel);
  node.store.wipe();
  await node.pass(0);
  t.equal(
    [...node.store.leases.values()].filter(({ nodeId }) => nodeId === NODE_ID).length,
    1,
    'our lease is written again',
  );
  t.match(log.lines.join('\n'), /our lease is not in the store/);
  await node.pass(5000);
  t.equal(dumpSorted(node.kernel), before, 'no peer is removed');
  t.match(agent.status(), { ready: true, graceUntil: /T/, peers: [{ state: 'programmed' }, { state: 'programmed' }] });
  node.kernel.apply(node.kernel.host, [
    { verb: 'delete', item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } } },
  ]);
  await node.pass(5000);
  t.equal(dumpSorted(node.kernel), before, 'and they are healed');
  node.store.put(peerLease([4], 2));
  await node.pass(49_000);
  t.equal(dumpSorted(node.kernel), before, 'c is not back yet');
  await node.pass(2000);
  t.notMatch(dumpSorted(node.kernel), /10\.244\.3\.0/, 'after the grace period it is gone');
  t.match(dumpSorted(node.kernel), /10\.244\.2\.0/);
});

t.test('the store is wiped while the agent is down', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2), peerLease([4], 3));
  const first = node.start();
  await node.pass(0);
  const [before, file] = [dumpSorted(node.kernel), node.readSubnetFile()];
  await first.stop();
  node.store.wipe();
  const { agent } = node.start();
  await node.pass(0);
  t.equal(node.readSubnetFile(), file, 'the same subnet');
  t.equal(agent.unreadiness(), undefined);
  t.equal(dumpSorted(node.kernel), before, 'no peer is removed');
  node.store.put(peerLease([4], 2));
  await node.pass(61_000);
  t.notMatch(dumpSorted(node.kernel), /10\.244\.3\.0/);
  t.match(dumpSorted(node.kernel), /10\.244\.2\.0/);
});

t.test('another node takes our subnet', async (t) => {
  const node = rig(t);
  const { agent } = node.start();
  await node.pass(0);
  const own = [...node.store.leases.values()][0] as Lease;
  const thief: Lease = { ...own, publicIp: { 4: ip('192.168.50.66') }, nodeId: 'thief' };
  const before = dumpSorted(node.kernel);
  node.store.put(thief);
  await node.pass(100);
  t.match(agent.unreadiness(), /is held by 192\.168\.50\.66/);
  t.match(agent.status().peers, [{ state: 'refused', reason: /overlaps our own/ }]);
  await node.pass(60_000);
  t.equal(dumpSorted(node.kernel), before, 'the data path stays');
  t.same(node.store.leases.get(leaseKey(own.subnet)), thief, 'and the thief keeps it');
  node.store.remove(thief);
  await node.pass(60_000);
  t.equal(agent.unreadiness(), undefined);
  t.same(node.store.leases.get(leaseKey(own.subnet)), own);
});

t.test('our lease is changed by somebody', async (t) => {
  const node = rig(t);
  const { log } = node.start();
  await node.pass(0);
  const own = [...node.store.leases.values()][0] as Lease;
  node.store.put({ ...own, backendData: { 4: { VNI: 1, VtepMAC: '02:ff:ff:ff:ff:ff' } } });
  await node.pass(0);
  t.same(node.store.leases.get(leaseKey(own.subnet)), own);
  t.match(log.lines.join('\n'), /our lease in the store differs: writing it again/);
});

t.test("flannel's lease of this node goes on, with its MAC", async (t) => {
  const node = rig(t);
  const { nodeId: _, ...flannels } = { ...ourLease([4]), backendData: { 4: { VNI: 1, VtepMAC: 'e2:5a:84:0d:d0:bb' } } };
  node.store.put(flannels);
  node.start();
  await node.pass(0);
  t.match(
    [...node.store.leases.values()],
    [{ subnet: { 4: '10.244.1.0/24' }, nodeId: NODE_ID, backendData: { 4: { VtepMAC: 'e2:5a:84:0d:d0:bb' } } }],
  );
  t.match(dumpSorted(node.kernel), /flannel\.1 .*e2:5a:84:0d:d0:bb/);
});

t.test('report 2: the subnet file', async (t) => {
  const node = rig(t);
  const { agent, log } = node.start();
  await node.pass(0);
  const file = node.readSubnetFile();
  rmSync(node.subnetFile);
  await node.pass(5000);
  t.equal(node.readSubnetFile(), file, 'comes back');
  rmSync(node.subnetFile);
  mkdirSync(node.subnetFile);
  await node.pass(5000);
  await node.pass(5000);
  t.match(agent.unreadiness(), /^write .*subnet\.env: EISDIR$/);
  t.match(
    log.lines.filter((line) => line.includes('EISDIR')),
    [/^warn write .*subnet\.env: EISDIR; trying again/],
    'once',
  );
  rmSync(node.subnetFile, { recursive: true });
  writeFileSync(node.subnetFile, 'FLANNEL_MTU=1\n');
  await node.pass(5000);
  t.equal(node.readSubnetFile(), file);
  t.equal(agent.unreadiness(), undefined);
});

t.test('it waits for a free subnet', async (t) => {
  const node = rig(t, {
    Network: '10.244.0.0/28',
    SubnetLen: 30,
    SubnetMin: '10.244.0.12',
    Backend: { Type: 'alloc' },
  });
  const other: Lease = {
    ...ourLease([4], ''),
    subnet: { 4: prefix('10.244.0.12/30') },
    publicIp: { 4: ip('192.168.50.9') },
    nodeId: 'other',
  };
  node.store.put(other);
  const { agent } = node.start();
  await node.pass(0);
  t.match(agent.unreadiness(), /waiting for a subnet: no free subnet/);
  node.store.remove(other);
  await node.pass(30_000);
  t.equal(agent.unreadiness(), undefined);
});

t.test("a device that can't be made is not ready, and tried again", async (t) => {
  const node = rig(t);
  for (let count = 0; count < 3; count++) node.kernel.failNext(/ip link add flannel\.1/, 'EPERM');
  const { agent } = node.start();
  await node.pass(0);
  t.match(agent.unreadiness(), /ip link add flannel\.1.*EPERM/);
  t.equal(node.readSubnetFile(), undefined);
  await node.pass(1000);
  t.equal(agent.unreadiness(), undefined);
  t.ok(node.readSubnetFile());
});
