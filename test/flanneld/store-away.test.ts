// A lease store that is away for an hour, with time in the test's hands: nothing on the data path changes, what is taken
// away comes back, and the agent never ends.

import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { type Rig, rig } from './fixtures/agent.ts';
import { dumpSorted } from './fixtures/host.ts';
import { apply, step } from './fixtures/target.ts';
import { peerLease } from './fixtures/world.ts';

const AWAY = new NetError('etcd-unreachable', 'etcd http://192.0.2.1:2379: ECONNREFUSED');
const HOUR = 60;

async function minutes(node: Rig, count: number, each: () => void = () => undefined): Promise<void> {
  for (let minute = 0; minute < count; minute++) {
    await node.pass(60_000);
    each();
  }
}

t.test('report 6: etcd away for an hour', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2), peerLease([4], 3));
  const { agent, ended } = node.start();
  await node.pass(0);
  await node.pass(100);
  const [host, file] = [dumpSorted(node.kernel), node.readSubnetFile()];
  node.store.trouble = AWAY;
  await minutes(node, HOUR, () => {
    if (dumpSorted(node.kernel) !== host) t.equal(dumpSorted(node.kernel), host);
  });
  t.equal(agent.unreadiness(), undefined, 'ready all the time');
  apply(node.kernel, step('delete', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } }));
  await node.pass(100);
  t.equal(dumpSorted(node.kernel), host, 'a device that is deleted meanwhile is back with all peers');
  node.store.trouble = undefined;
  node.store.put(peerLease([4], 4));
  await node.pass(100);
  t.match(dumpSorted(node.kernel), /10\.244\.4\.0\/24/, 'then new leases are heard of');
  t.same([node.readSubnetFile(), ended()], [file, undefined]);
});

t.test('report 6: an agent that is started while etcd is away', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const before = node.start();
  await node.pass(0);
  await node.pass(100);
  const [host, file] = [dumpSorted(node.kernel), node.readSubnetFile()];
  await before.stop();
  node.store.trouble = AWAY;
  const { agent, ended } = node.start();
  await minutes(node, HOUR);
  t.match(agent.unreadiness(), /ECONNREFUSED/, 'it waits, and says for what');
  t.same([dumpSorted(node.kernel), node.readSubnetFile(), ended()], [host, file, undefined], 'and touches nothing');
  node.store.trouble = undefined;
  await minutes(node, 1);
  t.equal(agent.unreadiness(), undefined);
  t.equal(dumpSorted(node.kernel), host);
});

t.test('a lease that is not renewed for a while: told once, and no more when it is renewed', async (t) => {
  const node = rig(t);
  const { agent, log } = node.start();
  await node.pass(0);
  await node.pass(100);
  for (let times = 0; times < 2; times++) node.store.renewal(AWAY);
  t.match(agent.status(), { ready: true, trouble: /ECONNREFUSED/, troubles: { store: /ECONNREFUSED/ } });
  t.equal(log.lines.filter((line) => line.includes('ECONNREFUSED')).length, 1);
  node.store.renewal(undefined);
  t.equal(agent.status().trouble, undefined, 'although no lease has changed since');
});
