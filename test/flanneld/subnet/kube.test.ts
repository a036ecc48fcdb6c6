// The Kubernetes subnet manager: what it writes and reads, as flannel does, and what Nodes may look like. On a real API server:
// test/kubernetes/.

import { writeFileSync } from 'node:fs';
import t from 'tap';
import { parseNetworkConfig } from '../../../flanneld/network-config.ts';
import { type Lease, leaseChanges, leaseKey } from '../../../model/lease.ts';
import { assigningManagerSuite, attributesOf, requestOf, type Store } from '../../compliance/subnet-manager.ts';
import { ALWAYS, NETWORK, openRig, PREFIX, rig, rigWithNode, watching } from './kube-rig.ts';

const DUAL = parseNetworkConfig(
  '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}',
);

t.test('as every subnet manager', (t) => {
  assigningManagerSuite(t, async (): Promise<Store> => {
    const { server, configPath, open, close } = await openRig();
    return {
      putConfig: async (text) => writeFileSync(configPath, text),
      remove: async ({ nodeId = '' }) =>
        void server.put(nodeId, { annotations: { [`${PREFIX}kube-subnet-manager`]: 'false' } }),
      open(node) {
        if (!server.nodes.has(node)) server.put(node, { podCIDRs: [`10.5.${server.nodes.size + 1}.0/24`] });
        return open(node);
      },
      close,
    };
  });
  t.end();
});

t.test('what is written is what flannel writes', async (t) => {
  const { server, open } = await rig(t);
  server.put('a', { podCIDRs: ['10.5.1.0/24', 'fd00:5:0:1::/64'], annotations: { other: 'stays' } });
  const backendData = { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:01' }, 6: { VNI: 1 } };
  const request = requestOf(1, DUAL, { attributes: { ...attributesOf(1), backendData } });
  await open('a').acquire(request, ALWAYS);
  t.strictSame(server.nodes.get('a')?.metadata.annotations, {
    other: 'stays',
    [`${PREFIX}kube-subnet-manager`]: 'true',
    [`${PREFIX}backend-type`]: 'vxlan',
    [`${PREFIX}backend-data`]: '{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}',
    [`${PREFIX}backend-v6-data`]: '{"VNI":1}',
    [`${PREFIX}public-ip`]: '192.0.2.1',
    [`${PREFIX}public-ipv6`]: 'fd00::1',
  });
  const patches = () => server.requests.filter((line) => line.startsWith('PATCH')).length;
  const before = patches();
  await open('a').acquire(request, ALWAYS);
  t.equal(patches(), before, 'a restart writes nothing');
  await open('a').acquire(
    {
      ...requestOf(1, NETWORK),
      attributes: { publicIp: { 4: attributesOf(1).publicIp[4] }, backendType: 'host-gw', backendData: {} },
    },
    ALWAYS,
  );
  t.strictSame(
    server.nodes.get('a')?.metadata.annotations,
    {
      other: 'stays',
      [`${PREFIX}kube-subnet-manager`]: 'true',
      [`${PREFIX}backend-type`]: 'host-gw',
      [`${PREFIX}backend-data`]: 'null',
      [`${PREFIX}public-ip`]: '192.0.2.1',
    },
    'what the other family said is taken away with it',
  );
});

t.test('report 19: waits for a pod CIDR without asking for it, and says so in an Event', async (t) => {
  const { server, open } = await rig(t);
  server.put('a', {});
  const manager = open('a');
  const watch = watching(t, manager);
  await watch.until('nothing', () => true);
  const before = server.requests.length;
  for (let tries = 0; tries < 5; tries++)
    await t.rejects(manager.acquire(requestOf(1, NETWORK), ALWAYS), {
      code: 'no-pod-cidr',
      transient: true,
      message: 'node a: no IPv4 pod CIDR is assigned (spec.podCIDRs)',
    });
  t.strictSame(
    server.requests.slice(before).filter((line) => !line.includes('/events')),
    [],
  );
  server.put('a', { podCIDRs: ['10.99.1.0/24'] });
  await watch.until('a pod CIDR', ({ assignment }) => assignment?.subnet[4] !== undefined);
  await t.rejects(manager.acquire(requestOf(1, NETWORK), ALWAYS), {
    message: 'node a: pod CIDR 10.99.1.0/24 is not inside 10.5.0.0/16',
  });
  t.match(
    [...server.events.values()],
    [{ reason: 'NoPodCIDR', type: 'Warning', involvedObject: { kind: 'Node', name: 'a' }, count: 1 }],
  );
});

t.test('a Node that does not exist yet', async (t) => {
  const { server, open } = await rig(t);
  const manager = open('a');
  await t.rejects(manager.acquire(requestOf(1, NETWORK), ALWAYS), { code: 'not-in-kube', transient: true });
  server.put('a', { podCIDRs: ['10.5.1.0/24'] });
  t.equal(leaseKey((await manager.acquire(requestOf(1, NETWORK), ALWAYS)).subnet), '10.5.1.0-24');
});

t.test('a Node that is made again with another pod CIDR', async (t) => {
  const { server, open } = await rigWithNode(t);
  const manager = open('a');
  const lease = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = watching(t, manager);
  await watch.until('our lease', ({ own }) => own !== undefined);
  server.remove('a');
  await watch.until('no lease', ({ own }) => own === undefined);
  await t.rejects(manager.publish(lease, ALWAYS), { code: 'not-in-kube' });
  server.put('a', { podCIDRs: ['10.5.7.0/24'] });
  await watch.until('another', ({ assignment }) => assignment?.subnet[4] === '10.5.7.0/24');
  await t.rejects(manager.publish(lease, ALWAYS), {
    code: 'lease-lost',
    message: /10\.5\.7\.0\/24 now, not 10\.5\.1\.0-24/,
  });
  const moved = { ...lease, subnet: { 4: '10.5.7.0/24' as never } };
  await manager.publish(moved, ALWAYS);
  t.strictSame((await watch.until('ours', ({ own }) => own !== undefined)).own, moved);
});

t.test('addresses that a person gives the node: of the family that they stand for, else left out', async (t) => {
  const annotations = { [`${PREFIX}node-public-ip`]: '198.51.100.4', [`${PREFIX}node-public-ipv6`]: '2001:db8::4' };
  const { server, open } = await rigWithNode(t, annotations);
  const watch = watching(t, open('a'));
  const found = await watch.until('both', ({ assignment }) => assignment?.publicIp[6] !== undefined);
  t.strictSame(found.assignment?.publicIp, { 4: '198.51.100.4', 6: '2001:db8::4' });
  server.put('a', { annotations: { [`${PREFIX}node-public-ip`]: '2001:db8::4', [`${PREFIX}node-public-ipv6`]: 'x' } });
  await watch.until('none', ({ assignment }) => Object.keys(assignment?.publicIp ?? {}).length === 0);
});

t.test('an overwrite is published in place of the address, and is no difference to it', async (t) => {
  const { server, open } = await rigWithNode(t, { [`${PREFIX}public-ip-overwrite`]: '198.51.100.1' });
  const manager = open('a');
  const lease = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  t.equal(server.nodes.get('a')?.metadata.annotations[`${PREFIX}public-ip`], '198.51.100.1');
  t.strictSame((await watching(t, manager).until('ours', ({ own }) => own !== undefined)).own, { ...lease });
});

t.test('an overwrite that comes and goes while the agent runs', async (t) => {
  const { server, open } = await rigWithNode(t);
  const manager = open('a');
  const lease = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = watching(t, manager);
  const published = () => server.nodes.get('a')?.metadata.annotations[`${PREFIX}public-ip`];
  const same = (own: Lease | undefined) => own !== undefined && leaseChanges([own], [lease]).changed.length === 0;
  for (const overwrite of ['198.51.100.1', '198.51.100.2', '']) {
    server.put('a', { annotations: { [`${PREFIX}public-ip-overwrite`]: overwrite } });
    await watch.until(`another lease for ${overwrite}`, ({ own }) => !same(own));
    await manager.publish(lease, ALWAYS);
    await watch.until('ours', ({ own }) => same(own));
    t.equal(published(), overwrite || '192.0.2.1');
  }
});

t.test('what others wrote is left out where it makes no sense', async (t) => {
  const { server, open } = await rig(t);
  const lease = { [`${PREFIX}kube-subnet-manager`]: 'true', [`${PREFIX}backend-type`]: 'vxlan' };
  server.put('a', { podCIDRs: ['10.5.1.0/24'] });
  server.put('no-address', { podCIDRs: ['10.5.2.0/24'], annotations: lease });
  server.put('no-cidr', { annotations: { ...lease, [`${PREFIX}public-ip`]: '192.0.2.3' } });
  server.put('bad-data', {
    podCIDRs: ['10.5.4.0/24'],
    annotations: { ...lease, [`${PREFIX}public-ip`]: '192.0.2.4', [`${PREFIX}backend-data`]: '{' },
  });
  server.put('bad-cidr', {
    podCIDRs: ['x', '10.5.5.0/24'],
    annotations: { ...lease, [`${PREFIX}public-ip`]: '192.0.2.5' },
  });
  const { peers } = await watching(t, open('a')).until('all', () => true);
  t.strictSame(
    peers.map(({ nodeId, subnet, backendData }) => [nodeId, leaseKey(subnet), backendData]),
    [
      ['bad-cidr', '10.5.5.0-24', {}],
      ['bad-data', '10.5.4.0-24', {}],
    ],
  );
});

t.test('defect J: with two families, a change of one is a change', async (t) => {
  const { server, open } = await rig(t);
  server.put('a', { podCIDRs: ['10.5.1.0/24', 'fd00:5:0:1::/64'] });
  server.put('b', { podCIDRs: ['10.5.2.0/24', 'fd00:5:0:2::/64'] });
  const peer = open('b');
  const data = { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:04' }, 6: { VNI: 1, VtepMAC: '02:00:00:00:00:06' } };
  const request = requestOf(2, DUAL, { attributes: { ...attributesOf(2), backendData: data } });
  const lease = await peer.acquire(request, ALWAYS);
  const watch = watching(t, open('a'));
  await watch.until('the peer', ({ peers }) => peers.length === 1);
  for (const family of [4, 6] as const) {
    const changed = { ...lease, backendData: { ...data, [family]: { VNI: 1, VtepMAC: '02:00:00:00:00:99' } } };
    await peer.publish(changed, ALWAYS);
    const seen = await watch.until(`IPv${family}`, ({ peers }) =>
      JSON.stringify(peers[0]?.backendData[family]).includes('99'),
    );
    t.strictSame(seen.peers, [changed]);
    const moved = { ...lease, publicIp: { ...lease.publicIp, [family]: family === 4 ? '192.0.2.77' : 'fd00::77' } };
    await peer.publish(moved as typeof lease, ALWAYS);
    await watch.until(`IPv${family} address`, ({ peers }) => String(peers[0]?.publicIp[family]).endsWith('77'));
  }
});

t.test('the condition is cleared once for each Node, when pods can be served', async (t) => {
  const { server, open } = await rigWithNode(t);
  const manager = open('a');
  const watch = watching(t, manager);
  await watch.until('the node', () => true);
  const conditions = () => server.nodes.get('a')?.status.conditions ?? [];
  const until = async (met: () => boolean) => {
    for (let turn = 0; turn < 1000 && !met(); turn++) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  manager.observe?.({ ready: false, peers: [], problems: [], config: undefined });
  t.strictSame(conditions(), []);
  for (let run = 0; run < 3; run++) manager.observe?.({ ready: true, peers: [], problems: [], config: undefined });
  await until(() => conditions().length > 0);
  t.match(conditions(), [
    { type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp', message: 'Flannel is running on this node' },
  ]);
  t.equal(server.requests.filter((line) => line.startsWith('PATCH')).length, 1);
  server.remove('a');
  server.put('a', { podCIDRs: ['10.5.1.0/24'] });
  await until(() => conditions().length > 0);
  t.equal(conditions().length, 1, 'again for a Node that was made again');
});
