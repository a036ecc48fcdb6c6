// Requests to a server that answers slowly, compressed, or not at all.

import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { openClient } from '../../../flanneld/kube/client.ts';
import { LIST_META, NODE, STATUS } from '../../../flanneld/kube/messages.ts';
import { encode, enveloped, frameOf, listOf } from '../../support/protobuf.ts';

const ALWAYS = new AbortController().signal;

async function rig(t: Test, listener: RequestListener, silenceMs = 30_000) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const access = {
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    authorization: 'Bearer t',
    tls: {},
  };
  const client = openClient(async () => access, { silenceMs, watchSilenceMs: silenceMs });
  t.teardown(async () => {
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { client, server };
}

t.test('a compressed answer', async (t) => {
  const { client } = await rig(t, ({ headers }, response) => {
    t.match(headers, { authorization: 'Bearer t', 'user-agent': /^flannel-ts\// });
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('{"a":1}'));
  });
  t.strictSame(await client.get('/x', { limit: 1, continue: undefined }, ALWAYS), { a: 1 });
});

t.test('binary where the server has it: a list, a watch, a refusal', async (t) => {
  const type = 'application/vnd.kubernetes.protobuf';
  const node = { metadata: { name: 'n1', resourceVersion: '5' } };
  const packed = encode(node, NODE);
  const refusal = encode({ message: 'no', code: 403 }, STATUS);
  const { client } = await rig(t, ({ url, headers }, response) => {
    t.match(headers, { accept: `${type}, application/json` });
    if (url === '/refused') return void response.writeHead(403, { 'content-type': type }).end(enveloped(refusal));
    if (url === '/watch')
      return void response.writeHead(200, { 'content-type': `${type};stream=watch` }).end(frameOf('ADDED', packed));
    const list = gzipSync(listOf([packed, packed], encode({ resourceVersion: '7' }, LIST_META)));
    response.writeHead(200, { 'content-type': type, 'content-encoding': 'gzip' }).end(list);
  });
  const of = (path: string) => ({ path, message: NODE });
  const items: unknown[] = [];
  const rest = await client.list(of('/list'), {}, ALWAYS, (item) => items.push(item));
  t.strictSame([items, rest], [[node, node], { metadata: { resourceVersion: '7' } }]);
  const seen: unknown[] = [];
  for await (const events of client.watch(of('/watch'), {}, ALWAYS)) seen.push(...events);
  t.strictSame(seen, [{ type: 'ADDED', object: node }]);
  await t.rejects(
    client.list(of('/refused'), {}, ALWAYS, () => undefined),
    { code: 'kube-refused', message: 'GET /refused: no' },
  );
});

t.test('no answer, half an answer, no JSON', async (t) => {
  const answers: RequestListener[] = [
    () => undefined,
    (_, response) => void response.writeHead(200).write('{"a":'),
    (_, response) => void response.writeHead(200).end('<html>'),
    ({ socket }) => void socket.destroy(),
  ];
  const { client } = await rig(t, (request, response) => answers.shift()?.(request, response), 100);
  while (answers.length > 0)
    await t.rejects(client.get('/x', {}, ALWAYS), { code: 'kube-unreachable', transient: true, message: /^GET \/x: / });
});

t.test('a watch that falls silent ends with an error', async (t) => {
  const { client } = await rig(t, (_, response) => void response.writeHead(200).write('{"n":1}\n{"n'), 100);
  const seen: unknown[] = [];
  await t.rejects(
    (async () => {
      for await (const events of client.watch({ path: '/x' }, {}, ALWAYS)) seen.push(...events);
    })(),
    { code: 'kube-unreachable' },
  );
  t.strictSame(seen, [{ n: 1 }]);
});

t.test('a signal ends what is under way', async (t) => {
  const { client, server } = await rig(t, () => undefined);
  const stop = new AbortController();
  server.on('request', () => stop.abort(new Error('stopped')));
  await t.rejects(client.get('/x', {}, stop.signal), { message: 'stopped' });
});

t.test('reconnect breaks what is open, and the next request works', async (t) => {
  const { client } = await rig(t, ({ url }, response) => {
    if (url === '/watch') response.writeHead(200).write('\n');
    else response.end('{}');
  });
  const broken = t.rejects(
    (async () => {
      for await (const _ of client.watch({ path: '/watch' }, {}, ALWAYS)) client.reconnect();
    })(),
    { code: 'kube-unreachable' },
  );
  await broken;
  t.strictSame(await client.get('/x', {}, ALWAYS), {});
});
