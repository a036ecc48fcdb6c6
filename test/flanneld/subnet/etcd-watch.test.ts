// The watch's loop over a connection that does what a server under stress does.

import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Tenure } from '../../../flanneld/subnet/etcd-acquire.ts';
import type { EtcdConnection } from '../../../flanneld/subnet/etcd-connection.ts';
import { GRPC, RpcError } from '../../../flanneld/subnet/etcd-errors.ts';
import { type DuplexStream, openEventStream } from '../../../flanneld/subnet/etcd-events.ts';
import type { KeyValue } from '../../../flanneld/subnet/etcd-messages.ts';
import type { EtcdSession } from '../../../flanneld/subnet/etcd-session.ts';
import { watchLeases } from '../../../flanneld/subnet/etcd-watch.ts';
import type { Snapshot } from '../../../flanneld/subnet/manager.ts';
import { NetError } from '../../../model/errors.ts';
import { ip, prefix } from '../../../model/ip.ts';
import { below, random } from '../../support/seed.ts';

const LEASES = '/net/subnets/';

const kv = (subnet: string, revision: number): KeyValue => ({
  key: Buffer.from(LEASES + subnet),
  value: Buffer.from(`{"PublicIP":"192.0.2.${revision}","PublicIPv6":null}`),
  create_revision: String(revision),
  mod_revision: String(revision),
  lease: '7',
});

/** A server with some keys, and the stream of the last watch on it. */
function fakeServer() {
  const keys = new Map<string, KeyValue>();
  let revision = 1;
  let lists = 0;
  let inUse = true;
  let send: (response: object) => void = () => {};
  let fail: (error: Error) => void = () => {};
  const header = () => ({ revision: String(revision) });

  function stream(): DuplexStream {
    const listeners: Record<string, (value: never) => void> = {};
    const duplex: DuplexStream = {
      write: () => queueMicrotask(() => send({ header: header(), created: true, events: [] })),
      end: () => {},
      cancel: () => {},
      on(event: string, listener: (value: never) => void) {
        listeners[event] = listener;
        return duplex;
      },
    };
    send = (response) => listeners.data?.({ compact_revision: '0', canceled: false, ...response } as never);
    fail = (error) => listeners.error?.(error as never);
    return duplex;
  }

  const connection = {
    endpoint: 'fake',
    async range(request: { count_only?: boolean }) {
      if (!request.count_only) lists++;
      return { header: header(), kvs: [...keys.values()], count: String(keys.size) };
    },
    watch: (request: Parameters<EtcdConnection['watch']>[0]) => openEventStream(async () => stream(), request, 1000),
  } as unknown as EtcdConnection;

  const session: EtcdSession = {
    use: (run) => run(connection),
    fail: async (_, error) => new NetError('etcd-unreachable', error.message),
    renew: () => {},
    isInUse: () => inUse,
    close: () => {},
  };

  return {
    session,
    lists: () => lists,
    /** Without telling the watch when `told` is false. */
    put(subnet: string, told = true) {
      const value = kv(subnet, ++revision);
      keys.set(subnet, value);
      if (told) send({ header: header(), created: false, events: [{ type: 'Put', kv: value }] });
    },
    delete(subnet: string) {
      keys.delete(subnet);
      const gone = { ...kv(subnet, ++revision), value: Buffer.alloc(0) };
      send({ header: header(), created: false, events: [{ type: 'Delete', kv: gone }] });
    },
    subnets: () => [...keys.keys()].filter((key) => /-24$/.test(key)).map((key) => key.replace('-', '/')),
    respond: (response: object) => send({ header: header(), created: false, events: [], ...response }),
    fail: (error: Error) => fail(error),
    /** As when the connection is given up in other hands. */
    giveUp() {
      inUse = false;
      fail(new RpcError(GRPC.CANCELLED, 'cancelled'));
    },
  };
}

const subnetsOf = ({ peers }: Snapshot): string[] => peers.map((lease) => String(lease.subnet[4])).sort();

const noTenure = (): Tenure | undefined => undefined;

function watched(server: ReturnType<typeof fakeServer>, { livenessMs = 60_000, tenure = noTenure } = {}) {
  const stop = new AbortController();
  const troubles: unknown[] = [];
  const context = {
    session: server.session,
    leases: LEASES,
    nodeId: 'me',
    livenessMs,
    tenure,
    onEntries: () => {},
    renewedBy: () => {},
  };
  const iterator = watchLeases(context, stop.signal, (trouble) => troubles.push(trouble));
  return {
    troubles,
    stop,
    snapshot: async () => (await iterator.next()).value as Snapshot,
    /** The subnets of the next snapshot. */
    async next(): Promise<string[]> {
      return subnetsOf(await this.snapshot());
    },
    end: async () => {
      stop.abort();
      return (await iterator.next()).done;
    },
  };
}

t.test('changes that come while the reader is busy share a snapshot', async (t) => {
  const server = fakeServer();
  server.put('10.5.1.0-24');
  const watch = watched(server);
  t.strictSame(await watch.next(), ['10.5.1.0/24']);
  const second = watch.next();
  await sleep(5);
  server.put('10.5.2.0-24');
  t.strictSame(await second, ['10.5.1.0/24', '10.5.2.0/24']);
  for (const third of [3, 4, 5]) server.put(`10.5.${third}.0-24`);
  t.equal((await watch.next()).length, 5, 'three at once');
  t.equal(server.lists(), 1);
  t.ok(await watch.end(), 'ends with the signal');
});

t.test('after any changes a snapshot is what is stored, and what has not changed is the same object', async (t) => {
  const server = fakeServer();
  const among = random('etcd-watch');
  for (let number = 0; number < 20; number++) server.put(`10.5.${number}.0-24`);
  const watch = watched(server);
  let before = await watch.snapshot();
  for (let round = 0; round < 100; round++) {
    const next = watch.snapshot();
    await new Promise(setImmediate);
    const touched = Array.from({ length: 1 + below(3, among) }, () => `10.5.${below(30, among)}.0-24`);
    for (const subnet of touched) {
      if (below(2, among) === 0) server.put(subnet);
      else server.delete(subnet);
    }
    const now = await next;
    t.strictSame(subnetsOf(now), server.subnets().sort());
    const old = new Map(before.peers.map((lease) => [lease.subnet[4], lease]));
    const anew = now.peers.filter((lease) => old.get(lease.subnet[4]) !== lease).map(({ subnet }) => subnet[4]);
    t.ok(anew.every((subnet) => touched.includes(String(subnet).replace('/', '-'))));
    before = now;
  }
  server.put('nonsense');
  t.strictSame(subnetsOf(await watch.snapshot()), server.subnets().sort());
  t.match(watch.troubles, [{ message: /nonsense is passed over/ }], 'told of one that came later');
  t.equal(server.lists(), 1);
  await watch.end();
});

t.test('report 9: compaction: everything is read again, and nobody is troubled', async (t) => {
  const server = fakeServer();
  const watch = watched(server);
  t.strictSame(await watch.next(), []);
  const next = watch.next();
  await sleep(5);
  server.put('10.5.1.0-24', false);
  server.respond({ canceled: true, compact_revision: '2' });
  t.strictSame(await next, ['10.5.1.0/24']);
  t.strictSame([server.lists(), watch.troubles], [2, []]);
  await watch.end();
});

t.test('a cancelled watch and a broken stream: told, and read again', async (t) => {
  const server = fakeServer();
  const watch = watched(server);
  await watch.next();
  const troubles = [
    () => server.respond({ canceled: true, cancel_reason: 'etcdserver: permission denied' }),
    () => server.fail(Object.assign(new Error('14 UNAVAILABLE'), { code: 14, details: 'gone' })),
  ];
  for (const [index, cause] of troubles.entries()) {
    const next = watch.next();
    await sleep(5);
    server.put(`10.5.${index + 1}.0-24`, false);
    cause();
    t.equal((await next).length, index + 1);
    t.equal(watch.troubles.length, index + 1);
  }
  t.match(watch.troubles, [{ message: /permission denied/ }, { message: 'gone' }]);
  await watch.end();
});

t.test('what was there before our own entry was written is not told once it is written', async (t) => {
  const server = fakeServer();
  let tenure: Tenure | undefined;
  const watch = watched(server, { tenure: () => tenure });
  t.strictSame(await watch.next(), [], 'before');
  server.put('10.5.1.0-24');
  tenure = {
    lease: { subnet: { 4: prefix('10.5.2.0/24') }, publicIp: { 4: ip('192.0.2.3') }, backendType: '', backendData: {} },
    key: `${LEASES}10.5.2.0-24`,
    grant: '7',
    revision: '3',
  };
  const next = watch.next();
  const told = Promise.race([next.then(() => 'told'), sleep(50, 'not told')]);
  t.equal(await told, 'not told');
  server.put('10.5.2.0-24');
  t.strictSame(await next, ['10.5.1.0/24'], 'a peer that came before us, and our own entry with it');
  t.equal(server.lists(), 1);
  await watch.end();
});

t.test('a connection that was given up in other hands: nobody is troubled, and read again', async (t) => {
  const server = fakeServer();
  const watch = watched(server);
  await watch.next();
  const next = watch.next();
  await sleep(5);
  server.put('10.5.1.0-24', false);
  server.giveUp();
  t.strictSame(await next, ['10.5.1.0/24']);
  t.strictSame(watch.troubles, []);
  await watch.end();
});

t.test('a change that the watch missed is found by counting', async (t) => {
  const server = fakeServer();
  const watch = watched(server, { livenessMs: 20 });
  t.strictSame(await watch.next(), []);
  const next = watch.next();
  await sleep(5);
  server.put('10.5.1.0-24', false);
  t.strictSame(await next, ['10.5.1.0/24']);
  t.strictSame(watch.troubles, []);
  await watch.end();
});

t.test('an event stream gives what came before its end, then the end', async (t) => {
  const server = fakeServer();
  const stream = await server.session.use(
    async (connection) => connection.watch({ start_revision: '1' } as never),
    new AbortController().signal,
  );
  await sleep(5);
  server.put('10.5.1.0-24');
  stream.end(new RpcError(GRPC.CANCELLED, 'over'));
  stream.end(new RpcError(GRPC.UNAVAILABLE, 'again'));
  t.equal((await stream.next()).length, 1);
  await t.rejects(stream.next(), { code: GRPC.CANCELLED, message: 'over' });
});

t.test('a watch that is never confirmed', async (t) => {
  const silent = { write: () => {}, end: () => {}, cancel: () => {}, on: () => silent } as unknown as DuplexStream;
  await t.rejects(openEventStream(async () => silent, {} as never, 20).next(), { code: GRPC.DEADLINE_EXCEEDED });
});
