// The subnet manager on a real etcd: the suite of every manager, and what is etcd's own.

import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import type { EtcdConfig } from '../../flanneld/subnet/etcd-options.ts';
import { openEtcd } from '../../flanneld/subnet/etcd.ts';
import { openGrants } from '../../flanneld/subnet/grants.ts';
import type { SubnetManager } from '../../flanneld/subnet/manager.ts';
import { describe, type NetError } from '../../model/errors.ts';
import { prefix } from '../../model/ip.ts';
import { type Lease, leaseKey } from '../../model/lease.ts';
import { attributesOf, requestOf, type Store, subnetManagerSuite } from '../compliance/subnet-manager.ts';
import { type EtcdServer, startEtcd } from '../support/etcd.ts';
import { ALWAYS, configOf, managersOn, NETWORK, QUICK } from '../support/etcd-managers.ts';

const server = await startEtcd();
t.teardown(() => server.remove());

const config = (): EtcdConfig => configOf([server.endpoint]);
const rig = (t: Test) => managersOn(t, config());

const keyOf = (etcd: EtcdConfig, lease: Lease): string => `${etcd.prefix}/subnets/${leaseKey(lease.subnet)}`;

interface Entry {
  readonly value: string;
  readonly version: number;
  /** Hexadecimal, as etcdctl wants it; "0" without. */
  readonly grant: string;
}

/** What etcd has under a key. */
async function entryOf(etcd: EtcdServer, key: string): Promise<Entry | undefined> {
  // The numbers of leases are larger than JSON's.
  const text = (await etcd.etcdctl('get', key, '--write-out=json')).replace(/"lease":(\d+)/g, '"lease":"$1"');
  const kv = JSON.parse(text).kvs?.[0];
  if (kv === undefined) return undefined;
  return {
    value: Buffer.from(kv.value, 'base64').toString(),
    version: kv.version,
    grant: BigInt(kv.lease ?? 0).toString(16),
  };
}

/** Seconds that an etcd lease lives. */
async function lifeOf(etcd: EtcdServer, grant: string): Promise<number> {
  return Number(/remaining\((\d+)s\)/.exec(await etcd.etcdctl('lease', 'timetolive', grant))?.[1] ?? -1);
}

t.test('as every subnet manager', async (t) => {
  subnetManagerSuite(t, async (): Promise<Store> => {
    const etcd = config();
    const managers: SubnetManager[] = [];
    return {
      putConfig: async (text) => void (await server.etcdctl('put', `${etcd.prefix}/config`, text)),
      remove: async (lease) => void (await server.etcdctl('del', keyOf(etcd, lease))),
      open(nodeId) {
        const manager = openEtcd({ etcd, nodeId, renewMarginMinutes: 60, times: QUICK });
        managers.push(manager);
        return manager;
      },
      async close() {
        for (const manager of managers) await manager.close();
      },
    };
  });
});

t.test('what stands in etcd is flannel’s, and a restart writes nothing', async (t) => {
  const { open, etcd } = rig(t);
  const first = open('node-a');
  const lease = await first.acquire(requestOf(1, NETWORK, { previous: { 4: prefix('10.5.34.0/24') } }), ALWAYS);
  const key = `${etcd.prefix}/subnets/10.5.34.0-24`;
  const entry = await entryOf(server, key);
  t.equal(
    entry?.value,
    '{"PublicIP":"192.0.2.1","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1},"NodeID":"node-a"}',
  );
  const life = await lifeOf(server, String(entry?.grant));
  t.ok(life > 86_300 && life <= 86_400, `lives a day: ${life} s`);
  await first.close();
  t.strictSame(await entryOf(server, key), entry, 'closing revokes nothing');
  t.strictSame(await open('node-a').acquire(requestOf(1, NETWORK), ALWAYS), lease);
  t.strictSame(await entryOf(server, key), entry, 'same entry, same etcd lease');
});

t.test('a lease that flannel left on this node goes on', async (t) => {
  const { open, etcd } = rig(t);
  const key = `${etcd.prefix}/subnets/10.5.3.0-24`;
  const grant = /lease (\w+) granted/.exec(await server.etcdctl('lease', 'grant', '86400'))?.[1] as string;
  await server.etcdctl(
    'put',
    `--lease=${grant}`,
    key,
    '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}',
  );
  t.strictSame((await open('a').acquire(requestOf(1, NETWORK), ALWAYS)).subnet, { 4: '10.5.3.0/24' });
  const entry = await entryOf(server, key);
  t.match(entry, { value: /"NodeID":"a"/, version: 2, grant: BigInt(`0x${grant}`).toString(16) });
});

t.test('defect G, report 25: a reservation is honoured and stays one', async (t) => {
  const { open, etcd, following } = rig(t);
  const key = `${etcd.prefix}/subnets/10.5.5.0-24`;
  await server.etcdctl('put', key, '{"PublicIP":"192.0.2.1"}');
  const a = open('a');
  const lease = await a.acquire(requestOf(1, NETWORK), ALWAYS);
  t.strictSame(lease.subnet, { 4: '10.5.5.0/24' });
  t.match(
    await entryOf(server, key),
    { value: /"BackendType":"vxlan".*"NodeID":"a"/, grant: '0' },
    'still without etcd lease',
  );
  await a.publish({ ...lease, ...attributesOf(2) }, ALWAYS);
  t.match(await entryOf(server, key), { value: /192\.0\.2\.2/, grant: '0' }, 'also after a change');
  t.strictSame(
    (await open('reinstalled').acquire(requestOf(2, NETWORK), ALWAYS)).subnet,
    lease.subnet,
    'made for an address',
  );
  const other = await open('b').acquire(requestOf(7, NETWORK, { previous: lease.subnet }), ALWAYS);
  t.notSame(other.subnet, lease.subnet, 'never given to another node');

  const held = open('c');
  const own = await held.acquire(requestOf(8, NETWORK), ALWAYS);
  const watch = following(held);
  await watch.until('own', (snapshot) => snapshot.own !== undefined);
  const before = await entryOf(server, keyOf(etcd, own));
  await server.etcdctl('put', keyOf(etcd, own), String(before?.value));
  await watch.until('a new snapshot', () => watch.count() > 1);
  await held.publish({ ...own, backendType: 'host-gw' }, ALWAYS);
  t.match(
    await entryOf(server, keyOf(etcd, own)),
    { value: /host-gw/, grant: '0' },
    'a lease that a person made a reservation',
  );
});

t.test('a lease is renewed without writing its key, and made again when it is lost', async (t) => {
  const { open, etcd, following } = rig(t);
  const times = { leaseSeconds: 4, renewalMs: 500 };
  const [kept, left] = [open('kept', { times }), open('left', { times })];
  const lease = await kept.acquire(requestOf(1, NETWORK), ALWAYS);
  const gone = await left.acquire(requestOf(2, NETWORK), ALWAYS);
  const stop = new AbortController();
  const troubles: unknown[] = [];
  const done = kept.keepAlive(stop.signal, (trouble) => troubles.push(trouble));
  const before = await entryOf(server, keyOf(etcd, lease));
  const watch = following(kept);
  await watch.until('the one that nobody renews to expire', ({ peers }) => peers.length === 0, 20);
  await sleep(3000);
  t.strictSame(await entryOf(server, keyOf(etcd, lease)), before, 'lives on, and no key was written');
  t.equal(await entryOf(server, keyOf(etcd, gone)), undefined);

  await server.etcdctl('lease', 'revoke', String(before?.grant));
  await watch.until('our entry gone', ({ own }) => own === undefined);
  await kept.publish(lease, ALWAYS);
  await watch.until('our entry again', ({ own }) => own !== undefined);
  await sleep(6000);
  t.ok(await entryOf(server, keyOf(etcd, lease)), 'renewed by its new etcd lease');
  t.ok(
    troubles.every((trouble) => trouble === undefined || (trouble as NetError).code === 'lease-lost'),
    troubles.map(describe).join(),
  );
  t.equal(troubles.at(-1), undefined, 'and no trouble any more');
  stop.abort();
  await done;
  await watch.stop();
  await kept.close();
  const life = await lifeOf(server, String((await entryOf(server, keyOf(etcd, lease)))?.grant));
  t.ok(life > 0, 'not revoked at the end');
});

t.test('a cloned machine gets a subnet of its own', async (t) => {
  const { open, etcd, following } = rig(t);
  const reports: unknown[] = [];
  const original = open('same');
  const lease = await original.acquire(requestOf(1, NETWORK), ALWAYS);
  const stop = new AbortController();
  const alive = original.keepAlive(stop.signal, () => {});
  const clone = open('same', { report: (trouble) => reports.push(trouble) });
  const other = await clone.acquire(requestOf(2, NETWORK), ALWAYS);
  t.notSame(other.subnet, lease.subnet, 'gets a subnet of its own while the original is alive');
  t.match(reports.map(describe).join(), new RegExp(`${keyOf(etcd, lease)}.*cloned`));
  const seen = await following(original).until('the clone', ({ peers }) => peers.length === 1);
  t.strictSame(seen, { own: lease, peers: [other] }, 'the original sees it as a peer');
  t.strictSame(
    (await open('same').acquire(requestOf(2, NETWORK), ALWAYS)).subnet,
    other.subnet,
    'and it keeps its own',
  );
  stop.abort();
  await alive;
});

t.test('its own key at a former address is no clone, for a process of the same boot', async (t) => {
  const { open, etcd } = rig(t);
  const path = `${t.testdir({})}/run/subnet.grants`;
  const original = open('same', { grants: openGrants(path, 'boot1') });
  const lease = await original.acquire(requestOf(1, NETWORK), ALWAYS);
  const stop = new AbortController();
  const alive = original.keepAlive(stop.signal, () => {});
  // Who is still alive would be taken for a clone by whoever asks.
  const moved = open('same', { grants: openGrants(path, 'boot1') });
  t.strictSame((await moved.acquire(requestOf(2, NETWORK), ALWAYS)).subnet, lease.subnet, 'taken at once');
  stop.abort();
  await alive;
  const entry = (await entryOf(server, keyOf(etcd, lease))) as Entry;
  t.match(entry.value, /192\.0\.2\.2/);
  const grant = String(BigInt(`0x${entry.grant}`));
  t.ok(openGrants(path, 'boot1').has(grant), 'what it lives by now is kept too');
  t.notOk(openGrants(path, 'boot2').has(grant), 'after a boot it may be a clone of the disk');
});

t.test('what others wrote wrongly is passed over, told once, and its subnet never taken', async (t) => {
  const { open, etcd, following } = rig(t);
  const two = parseNetworkConfig('{"Network":"10.5.0.0/28","SubnetMin":"10.5.0.8"}');
  await server.etcdctl('put', `${etcd.prefix}/subnets/10.5.0.8-30`, 'not JSON');
  await server.etcdctl('put', `${etcd.prefix}/subnets/what`, '{}');
  const a = open('a');
  const lease = await a.acquire(requestOf(1, two), ALWAYS);
  t.strictSame(lease.subnet, { 4: '10.5.0.12/30' });
  const watch = following(a);
  t.strictSame(await watch.until('own', ({ own }) => own !== undefined), { own: lease, peers: [] });
  await a.publish({ ...lease, backendType: 'udp' }, ALWAYS);
  await watch.until('the change', ({ own }) => own?.backendType === 'udp');
  t.strictSame(
    watch.troubles.map((trouble) => (trouble as NetError).code),
    ['decoding', 'decoding'],
  );
  t.match(watch.troubles.map(describe).sort(), [/10\.5\.0\.8-30.*not JSON/, /subnets\/what/]);
});

t.test('IPv6 alone: key and lease have one subnet', async (t) => {
  const { open, etcd, following } = rig(t);
  const network = parseNetworkConfig('{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}');
  const lease = await open('a').acquire(requestOf(1, network), ALWAYS);
  t.match(keyOf(etcd, lease), /\/subnets\/fc00:0:0:[\da-f]+::-64$/);
  t.strictSame((await following(open('b')).until('a', ({ peers }) => peers.length === 1)).peers, [lease]);
});

t.test('nothing keeps a process alive after close', async (t) => {
  const script = `
    import { openEtcd } from './flanneld/subnet/etcd.ts';
    import { parseNetworkConfig } from './flanneld/network-config.ts';
    const etcd = JSON.parse(process.argv[1]);
    const manager = openEtcd({ etcd, nodeId: 'a', renewMarginMinutes: 60 });
    const stop = new AbortController();
    const network = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
    const attributes = { publicIp: { 4: '192.0.2.1' }, backendType: '', backendData: {} };
    if (etcd.endpoints.length === 1) await manager.acquire({ network, attributes, previous: {}, inUse: false }, stop.signal);
    const alive = manager.keepAlive(stop.signal, () => {});
    const watch = (async () => { for await (const _ of manager.watch(stop.signal, () => {})); })();
    await new Promise((resolve) => setTimeout(resolve, 300));
    stop.abort();
    await Promise.all([alive, watch]);
    await manager.close();
    console.log(Date.now());`;
  for (const endpoints of [[server.endpoint], ['http://127.0.0.1:1', 'http://127.0.0.1:2']]) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, JSON.stringify(configOf(endpoints))]);
    let closed = '';
    child.stdout.on('data', (chunk) => {
      closed += chunk;
    });
    child.stderr.pipe(process.stderr);
    const code = await new Promise((resolve) => child.once('exit', resolve));
    const ms = Date.now() - Number(closed);
    t.equal(code, 0);
    t.ok(ms < 1000, `${endpoints.length} endpoints: gone ${ms} ms after close`);
  }
});
