// Subnet managers whose etcd goes away, comes back, loses its history or all it had, or stops answering; and one server of
// three after the other.

import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { patience } from '../../examples/cluster/patience.ts';
import { connect } from '../../flanneld/subnet/etcd-connection.ts';
import { GRPC } from '../../flanneld/subnet/etcd-errors.ts';
import { describe, type NetError } from '../../model/errors.ts';
import { attributesOf, requestOf } from '../compliance/subnet-manager.ts';
import { type EtcdServer, startEtcd, startEtcdCluster } from '../support/etcd.ts';
import { ALWAYS, configOf, managersOn, NETWORK, QUICK } from '../support/etcd-managers.ts';

async function ownServer(t: Test) {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  const { open, following } = managersOn(t, configOf([etcd.endpoint]));
  const manager = open('a');
  const lease = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(manager);
  await watch.until('own', ({ own }) => own !== undefined);
  return { etcd, open, manager, lease, watch };
}

t.test('etcd stopped and started', async (t) => {
  const { etcd, open, manager, lease, watch } = await ownServer(t);
  const stop = new AbortController();
  const alive = manager.keepAlive(stop.signal, () => {});
  await etcd.stop();
  await sleep(2500);
  t.strictSame(watch.last(), { own: lease, peers: [] }, 'the last snapshot stands');
  t.strictSame([...new Set(watch.troubles.map((trouble) => (trouble as NetError).code))], ['etcd-unreachable']);
  t.equal(watch.troubles.length, 1, 'told once');
  await etcd.start();
  const began = Date.now();
  const peer = await open('b').acquire(requestOf(2, NETWORK), ALWAYS);
  t.strictSame((await watch.until('the peer', ({ peers }) => peers.length === 1)).peers, [peer]);
  t.ok(Date.now() - began < 5000 * patience(), 'within 5 s');
  stop.abort();
  await alive;
});

t.test('this node has another address: connected anew, and nobody is troubled', async (t) => {
  const { open, manager, lease, watch } = await ownServer(t);
  const stop = new AbortController();
  const troubles: unknown[] = [];
  const configs = manager.watchConfig(stop.signal, (trouble) => troubles.push(trouble))[Symbol.asyncIterator]();
  t.equal((await configs.next()).value, undefined);
  for (let round = 0; round < 3; round++) {
    const publishing = manager.publish({ ...lease, ...attributesOf(10 + round) }, ALWAYS);
    manager.reconnect();
    await publishing;
    await watch.until('the change', ({ own }) => own?.publicIp[4] === `192.0.2.${10 + round}`);
  }
  const following = configs.next();
  manager.reconnect();
  const peer = await open('b').acquire(requestOf(2, NETWORK), ALWAYS);
  t.strictSame((await watch.until('the peer', ({ peers }) => peers.length === 1)).peers, [peer]);
  await following;
  stop.abort();
  t.strictSame([...watch.troubles, ...troubles], []);
});

t.test('defect K, report 9: history compacted', async (t) => {
  const { etcd, open, lease, watch } = await ownServer(t);
  const connection = await connect(
    { endpoint: etcd.endpoint, tls: undefined, user: undefined },
    Buffer.from('any'),
    ALWAYS,
  );
  t.teardown(() => connection.close());
  await etcd.etcdctl('put', 'any', '1');
  await etcd.compact();
  const stale = connection.watch({ key: Buffer.from('a'), range_end: Buffer.from('b'), start_revision: '1' });
  await t.rejects(stale.next(), { name: 'RpcError', code: GRPC.OUT_OF_RANGE }, 'a watch from before');
  const future = connection.watch({ key: Buffer.from('a'), range_end: Buffer.from('b'), start_revision: '1000' });
  await t.rejects(future.next(), { name: 'RpcError', code: GRPC.OUT_OF_RANGE }, 'a watch from a history that is gone');

  await open('b').acquire(requestOf(2, NETWORK), ALWAYS);
  await watch.until('b', ({ peers }) => peers.length === 1);
  await etcd.stop();
  await etcd.start();
  await open('c').acquire(requestOf(3, NETWORK), ALWAYS);
  await etcd.compact();
  const seen = await watch.until('c', ({ peers }) => peers.length === 2);
  t.strictSame(seen.peers.map(({ nodeId }) => nodeId).sort(), ['b', 'c'], 'what came while the watch was away');
  t.strictSame(seen.own, lease, 'our own lease is still there');
});

t.test('etcd wiped empty: the lease is published again', async (t) => {
  const { etcd, manager, lease, watch } = await ownServer(t);
  await etcd.wipe();
  t.strictSame(await watch.until('nothing', ({ own }) => own === undefined), { own: undefined, peers: [] });
  await manager.publish(lease, ALWAYS);
  await watch.until('own', ({ own }) => own !== undefined);
  t.pass('published again');
});

t.test('a server that stops answering', async (t) => {
  const [first, other] = [await startEtcd(), await startEtcd()];
  t.teardown(async () => {
    await first.remove();
    await other.remove();
  });
  const { open, following } = managersOn(t, configOf([first.endpoint, other.endpoint]));
  const a = open('a', { times: { ...QUICK, livenessMs: 500 } });
  await a.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(a);
  await watch.until('own', ({ own }) => own !== undefined);
  first.freeze();
  await watch.until('the other server’s leases', ({ own }) => own === undefined, 20);
  t.match(watch.troubles.map(describe).join(), `${first.endpoint}: no answer in 5 s`);
  first.thaw();
});

t.test('three servers: one killed, then the majority', async (t) => {
  const members = await startEtcdCluster();
  t.teardown(async () => {
    for (const member of members) await member.remove();
  });
  const [first, second, third] = members as [EtcdServer, EtcdServer, EtcdServer];
  const { open, following } = managersOn(t, configOf(members.map(({ endpoint }) => endpoint)));
  const a = open('a');
  const lease = await a.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(a);
  await watch.until('own', ({ own }) => own !== undefined);
  await first.stop();
  const b = open('b');
  const peer = await b.acquire(requestOf(2, NETWORK), ALWAYS);
  await watch.until('b', ({ peers }) => peers.length === 1, 20);
  t.strictSame(watch.last(), { own: lease, peers: [peer] }, 'one away: goes on');

  await second.stop();
  while (watch.troubles.length === 0) await sleep(50);
  t.match(watch.troubles.map(describe).join(), /etcd http/, 'no leader: the watch says so, not only after a minute');
  await first.start();
  await b.publish({ ...peer, backendType: 'udp' }, ALWAYS);
  await watch.until('the change', ({ peers }) => peers[0]?.backendType === 'udp', 20);
  await third.stop();
  await second.start();
  await b.publish({ ...peer, backendType: 'host-gw' }, ALWAYS);
  await watch.until('the next change', ({ peers }) => peers[0]?.backendType === 'host-gw', 20);
});
