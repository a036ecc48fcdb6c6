// The subnet manager on a real etcd: the suite of every manager, and what is etcd's own.

import { spawn } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { EtcdConfig } from '../../flanneld/subnet/etcd-options.ts';
import { patience } from '../../examples/cluster/patience.ts';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import { connect } from '../../flanneld/subnet/etcd-connection.ts';
import { GRPC } from '../../flanneld/subnet/etcd-errors.ts';
import { type EtcdOptions, openEtcd } from '../../flanneld/subnet/etcd.ts';
import { openGrants } from '../../flanneld/subnet/grants.ts';
import type { SubnetManager } from '../../flanneld/subnet/manager.ts';
import { describe, NetError } from '../../model/errors.ts';
import { prefix } from '../../model/ip.ts';
import { type Lease, leaseKey } from '../../model/lease.ts';
import { attributesOf, requestOf, type Store, subnetManagerSuite } from '../compliance/subnet-manager.ts';
import { makeCertificates, type TestCertificates } from '../support/certificates.ts';
import { type EtcdServer, startEtcd, startEtcdCluster } from '../support/etcd.ts';
import { type Follower, follow } from '../support/snapshots.ts';

const NETWORK = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
const ALWAYS = new AbortController().signal;

const server = await startEtcd();
t.teardown(() => server.remove());

/** Quick renewals, so that tests of them take seconds. */
const QUICK = { renewalMs: 500 };

const config = (more: Partial<EtcdConfig> = {}): EtcdConfig => ({
  endpoints: [server.endpoint],
  prefix: `/test-${prefixes++}`,
  tls: undefined,
  user: undefined,
  ...more,
});
let prefixes = 0;

interface Rig {
  open(nodeId: string, options?: Partial<EtcdOptions>): SubnetManager;
  following(manager: SubnetManager): Follower;
  readonly etcd: EtcdConfig;
}

/** Managers on one prefix, all closed at the end of the test. */
function rig(t: Test, etcd: EtcdConfig = config()): Rig {
  const closing: (() => Promise<void>)[] = [];
  t.teardown(async () => {
    for (const close of closing.reverse()) await close();
  });
  return {
    etcd,
    open(nodeId, options = {}) {
      const manager = openEtcd({ etcd, nodeId, renewMarginMinutes: 60, times: QUICK, ...options });
      closing.push(() => manager.close());
      return manager;
    },
    following(manager) {
      const follower = follow(manager);
      closing.push(() => follower.stop());
      return follower;
    },
  };
}

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

t.test('renewing', async (t) => {
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

t.test('a cloned machine', async (t) => {
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

t.test('IPv6 alone', async (t) => {
  const { open, etcd, following } = rig(t);
  const network = parseNetworkConfig('{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}');
  const lease = await open('a').acquire(requestOf(1, network), ALWAYS);
  t.match(keyOf(etcd, lease), /\/subnets\/fc00:0:0:[\da-f]+::-64$/);
  t.strictSame((await following(open('b')).until('a', ({ peers }) => peers.length === 1)).peers, [lease]);
});

/** A server for tests that stop it, and a follower of an acquired lease on it. */
async function ownServer(t: Test, options: Partial<EtcdOptions> = {}) {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  const { open, following } = rig(t, config({ endpoints: [etcd.endpoint] }));
  const manager = open('a', options);
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

t.test('etcd wiped empty', async (t) => {
  const { etcd, manager, lease, watch } = await ownServer(t);
  await etcd.wipe();
  t.strictSame(await watch.until('nothing', ({ own }) => own === undefined), { own: undefined, peers: [] });
  await manager.publish(lease, ALWAYS);
  await watch.until('own', ({ own }) => own !== undefined);
  t.pass('published again');
});

t.test('a server that stops answering', async (t) => {
  const first = await startEtcd();
  t.teardown(() => first.remove());
  const etcd = config({ endpoints: [first.endpoint, server.endpoint] });
  const { open, following } = rig(t, etcd);
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
  const { open, following } = rig(t, config({ endpoints: members.map(({ endpoint }) => endpoint) }));
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

/** The code and line of networkConfig's error, and how long it took. */
async function refusalOf(t: Test, etcd: Partial<EtcdConfig>): Promise<{ code: string; line: string; ms: number }> {
  const manager = rig(t, config(etcd)).open('a');
  const began = Date.now();
  try {
    await manager.networkConfig(ALWAYS);
    return { code: 'none', line: '', ms: Date.now() - began };
  } catch (error) {
    if (!(error instanceof NetError)) throw error;
    return { code: error.code, line: describe(error), ms: Date.now() - began };
  }
}

t.test('what etcd refuses and what can’t be reached', async (t) => {
  const nowhere = 'http://127.0.0.1:1';
  t.match(await refusalOf(t, { endpoints: [nowhere] }), {
    code: 'etcd-unreachable',
    line: `etcd ${nowhere}: ECONNREFUSED`,
  });
  const name = 'http://no-such-host.invalid:2379';
  t.match(await refusalOf(t, { endpoints: [name] }), {
    code: 'etcd-unreachable',
    line: new RegExp(`^etcd ${name}: E`),
  });
  const both = await refusalOf(t, { endpoints: [nowhere, server.endpoint] });
  t.match(
    both,
    { code: 'no-network-config', line: new RegExp(`${server.endpoint}: there is no key /test-\\d+/config$`) },
    'the next endpoint',
  );

  const certificates = makeCertificates();
  const others = makeCertificates();
  const secure = await startEtcd({ tls: certificates });
  t.teardown(async () => {
    await secure.remove();
    certificates.remove();
    others.remove();
  });
  const { authority, client } = certificates;
  const endpoints = [secure.endpoint];
  const good = { authority, ...client };
  t.match(await refusalOf(t, { endpoints, tls: good }), { code: 'no-network-config' }, 'the right certificate');
  const wrong: readonly (readonly [string, EtcdConfig['tls'], RegExp])[] = [
    ['no client certificate', { authority, certificate: undefined, key: undefined }, /CERTIFICATE/],
    ['a client certificate of another authority', { authority, ...others.client }, /CERTIFICATE/],
    ['a server certificate of another authority', { authority: others.authority, ...client }, /VERIFY/],
  ];
  for (const [what, tls, line] of wrong) {
    const refusal = await refusalOf(t, { endpoints, tls });
    t.match(refusal, { code: 'etcd-refused', line }, what);
    t.ok(refusal.line.includes(secure.endpoint), 'names the endpoint');
  }
  const localhost = secure.endpoint.replace('127.0.0.1', 'localhost');
  t.match(
    await refusalOf(t, { endpoints: [localhost], tls: good }),
    { code: 'etcd-refused', line: /ALTNAME/ },
    'a name it is not for',
  );
  const plain = secure.endpoint.replace('https', 'http');
  t.match(
    await refusalOf(t, { endpoints: [plain] }),
    { code: 'etcd-unreachable', line: new RegExp(plain) },
    'http to an https port',
  );
  t.match(
    await refusalOf(t, { endpoints: [server.endpoint.replace('http', 'https')], tls: good }),
    { code: 'etcd-refused', line: /TLS/ },
    'https to an http port',
  );
});

t.test('certificate files', async (t) => {
  const { authority, client, server: pair, directory, remove } = makeCertificates();
  t.teardown(remove);
  const open = (tls: EtcdConfig['tls']) => () =>
    openEtcd({ etcd: config({ endpoints: ['https://127.0.0.1:1'], tls }), nodeId: 'a', renewMarginMinutes: 60 });
  const faults: readonly (readonly [EtcdConfig['tls'], string])[] = [
    [{ authority: '/nope', certificate: undefined, key: undefined }, '--etcd-cafile /nope: ENOENT'],
    [{ authority: directory, certificate: undefined, key: undefined }, `--etcd-cafile ${directory}: EISDIR`],
    [
      { authority: client.key, certificate: undefined, key: undefined },
      `--etcd-cafile ${client.key}: not a certificate in PEM form`,
    ],
    [{ authority, certificate: '/nope', key: client.key }, '--etcd-certfile /nope: ENOENT'],
    [{ authority, certificate: client.certificate, key: '/nope' }, '--etcd-keyfile /nope: ENOENT'],
    [
      { authority, certificate: client.certificate, key: authority },
      `--etcd-keyfile ${authority}: not a private key in PEM form`,
    ],
    [
      { authority, certificate: client.certificate, key: pair.key },
      `--etcd-keyfile ${pair.key}: not the key of ${client.certificate}`,
    ],
  ];
  for (const [tls, message] of faults) t.throws(open(tls), { code: 'file-unreadable', message });
});

t.test('certificates replaced on disk', async (t) => {
  const [old, fresh] = [makeCertificates(), makeCertificates()];
  const first = await startEtcd({ tls: old });
  t.teardown(async () => {
    await first.remove();
    old.remove();
    fresh.remove();
  });
  const tls = { authority: old.authority, ...old.client };
  const { open, following } = rig(t, config({ endpoints: [first.endpoint], tls }));
  const a = open('a');
  await a.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(a);
  await watch.until('own', ({ own }) => own !== undefined);
  const replaced: (keyof TestCertificates & ('server' | 'client'))[] = ['server', 'client'];
  copyFileSync(fresh.authority, old.authority);
  for (const name of replaced) {
    copyFileSync(fresh[name].certificate, old[name].certificate);
    copyFileSync(fresh[name].key, old[name].key);
  }
  await first.stop();
  await first.start();
  const peer = await open('b').acquire(requestOf(2, NETWORK), ALWAYS);
  t.strictSame((await watch.until('the peer', ({ peers }) => peers.length === 1)).peers, [peer]);
});

t.test('user and password', async (t) => {
  const etcd = await startEtcd({ flags: ['--auth-token-ttl=2'] });
  t.teardown(() => etcd.remove());
  const shared = config({ endpoints: [etcd.endpoint], user: { name: 'flannel', password: 'right' } });
  t.match(await refusalOf(t, shared), { code: 'no-network-config' }, 'while authentication is off');
  for (const words of [
    'user add root:admin',
    'user add flannel:right',
    'role add flannel',
    `role grant-permission flannel readwrite --prefix=true ${shared.prefix}/`,
    'user grant-role root root',
    'user grant-role flannel flannel',
    'auth enable',
  ]) {
    await etcd.etcdctl(...words.split(' '));
  }
  t.match(await refusalOf(t, shared), { code: 'no-network-config' }, 'right');
  const refused = { endpoints: [etcd.endpoint], prefix: shared.prefix };
  t.match(await refusalOf(t, { ...refused, user: { name: 'flannel', password: 'wrong' } }), {
    code: 'etcd-refused',
    line: /authentication failed/,
  });
  t.match(await refusalOf(t, { ...refused }), { code: 'etcd-refused' }, 'no user');
  t.match(await refusalOf(t, { ...shared, prefix: '/elsewhere' }), { code: 'etcd-refused', line: /permission denied/ });

  const { open, following } = rig(t, shared);
  const a = open('a', { times: { renewalMs: 60_000, livenessMs: 60_000 } });
  const lease = await a.acquire(requestOf(1, NETWORK), ALWAYS);
  await sleep(5000);
  await a.publish({ ...lease, backendType: 'udp' }, ALWAYS);
  t.pass('a token that expired is renewed');
  const watch = following(a);
  await watch.until('own', ({ own }) => own?.backendType === 'udp');
  await etcd.etcdctl('--user=root:admin', 'role', 'add', 'other');
  await a.publish({ ...lease, backendType: 'host-gw' }, ALWAYS);
  await watch.until('the change', ({ own }) => own?.backendType === 'host-gw');
  t.pass('roles that changed since the token was given');
  await etcd.stop();
  await etcd.start();
  await a.publish({ ...lease, backendType: 'vxlan' }, ALWAYS);
  await watch.until('the change', ({ own }) => own?.backendType === 'vxlan');
  t.pass('a token that a restarted server does not know');
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
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, JSON.stringify(config({ endpoints }))]);
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
