// Watching Nodes through whatever happens to the API server: no change is missed, none is told that isn't one.

import t from 'tap';
import { hasCode } from '../../../model/errors.ts';
import { requestOf } from '../../compliance/subnet-manager.ts';
import { count } from '../../support/count.ts';
import type { FakeApiServer } from '../../support/fake-api-server.ts';
import { ALWAYS, NETWORK, PREFIX, rig, rigWithNode, watching } from './kube-rig.ts';

/** Until the server has a watch to cut, or to be late on. */
async function watched({ watches }: FakeApiServer): Promise<void> {
  while (watches() === 0) await new Promise((resolve) => setImmediate(resolve));
}

t.test('a trouble that has passed is told by a snapshot, though nothing has changed', async (t) => {
  const { server, open } = await rigWithNode(t);
  const watch = watching(t, open('a'));
  await watch.until('the node', () => true);
  await watched(server);
  server.refuse = () => ({ status: 401 });
  server.cut();
  while (!watch.troubles.some((trouble) => hasCode(trouble, 'kube-refused')))
    await new Promise((resolve) => setTimeout(resolve, 5));
  const before = watch.count();
  server.refuse = () => undefined;
  await watch.until('another snapshot', () => watch.count() > before);
  t.pass('it came');
});

t.test('a watch that is behind what was written takes the lease from nobody', async (t) => {
  const { server, open } = await rigWithNode(t);
  const manager = open('a');
  const watch = watching(t, manager);
  await watch.until('the first', () => true);
  await watched(server);
  const release = server.hold();
  const published = {
    [`${PREFIX}kube-subnet-manager`]: 'true',
    [`${PREFIX}backend-type`]: 'vxlan',
    [`${PREFIX}public-ip`]: '192.0.2.2',
  };
  server.put('b', { podCIDRs: ['10.5.2.0/24'], annotations: published });
  const lease = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  release(1);
  const between = await watch.until('the peer', ({ peers }) => peers.length === 1);
  t.same(between.own, lease, 'before the watch tells of it');
  t.same(between.assignment?.subnet, lease.subnet);
  release();
  server.remove('b');
  t.same((await watch.until('no peer', ({ peers }) => peers.length === 0)).own, lease, 'after it');
  server.put('a', { annotations: { [`${PREFIX}kube-subnet-manager`]: 'false' } });
  await watch.until('that somebody took it away', ({ own }) => own === undefined);
});

t.test('what is of no concern makes no snapshot, and an unchanged lease is the same object', async (t) => {
  const { server, open } = await rig(t);
  for (const [index, name] of ['a', 'b', 'c'].entries()) {
    server.put(name, { podCIDRs: [`10.5.${index}.0/24`] });
    await open(name).acquire(requestOf(index + 1, NETWORK), ALWAYS);
  }
  const watch = watching(t, open('a'));
  const first = await watch.until('both', ({ peers }) => peers.length === 2);
  const before = watch.count();
  for (let heartbeat = 0; heartbeat < 20; heartbeat++)
    server.put('b', { annotations: { heartbeat: String(heartbeat) } });
  server.put('c', { annotations: { [`${PREFIX}public-ip`]: '192.0.2.33' } });
  const last = await watch.until('the change', ({ peers }) => peers[1]?.publicIp[4] === '192.0.2.33');
  t.equal(watch.count(), before + 1);
  t.equal(last.peers[0], first.peers[0]);
});

t.test('cut, expired and compacted: nothing is missed, nothing is listed without need', async (t) => {
  const { server, open } = await rigWithNode(t);
  const watch = watching(t, open('a'));
  await watch.until('nothing', () => true);
  const put = (number: number) =>
    server.put(`n${String(number).padStart(3, '0')}`, {
      podCIDRs: [`10.5.${2 + number}.0/24`],
      annotations: { [`${PREFIX}kube-subnet-manager`]: 'true', [`${PREFIX}public-ip`]: `192.0.2.${2 + number}` },
    });
  const lists = () => server.requests.filter((line) => line.startsWith('GET /api/v1/nodes?limit')).length;
  const listed = lists();
  const cuts = count(100);
  for (let number = 0; number < cuts; number++) {
    await watch.until(`node ${number}`, ({ peers }) => peers.length === number);
    server.cut();
    put(number);
  }
  await watch.until('all', ({ peers }) => peers.length === cuts);
  t.equal(lists(), listed, 'a cut watch goes on where it was');
  await watched(server);
  server.remove('n000');
  server.compact();
  server.expire();
  await watch.until('one gone', ({ peers }) => peers.length === cuts - 1);
  put(200);
  await watch.until('a new one', ({ peers }) => peers.some(({ nodeId }) => nodeId === 'n200'));
  t.ok(lists() > listed, '410 lists again');
  t.strictSame(
    watch.troubles.filter((trouble) => (trouble as { code?: string }).code !== 'kube-unreachable'),
    [],
  );
});

t.test('a server that is silent, busy, or talks nonsense', async (t) => {
  const { server, open } = await rigWithNode(t);
  const answers = [
    { status: 500 },
    { status: 429, headers: { 'retry-after': '0' } },
    { status: 200, body: ['?'] },
    { status: 200, body: { metadata: { resourceVersion: '7' }, items: 'none' } },
    { status: 403, body: { message: 'nodes is forbidden: User "x" cannot list resource "nodes"' } },
  ];
  server.refuse = (_, path) => (path.includes('limit') ? answers.shift() : undefined);
  const watch = watching(t, open('a'));
  await watch.until('the nodes', ({ assignment }) => assignment?.subnet[4] !== undefined);
  t.match(watch.troubles, [
    { code: 'kube-unreachable' },
    { code: 'kube-unreachable' },
    { code: 'kube-unreachable', message: /none of Kubernetes/ },
    { code: 'kube-refused', message: 'GET /api/v1/nodes: nodes is forbidden: User "x" cannot list resource "nodes"' },
  ]);
});
