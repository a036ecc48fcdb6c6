// A client's connection, over a pair of streams in memory.

import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { encode, type Message, messageReader, type RequestMessage } from '../../../cni-plugin/wire.ts';
import { connectionOf } from '../../../flanneld/cni/connection.ts';

const REQUEST: RequestMessage = {
  kind: 'request',
  name: 'flannel',
  environment: { CNI_COMMAND: 'ADD' },
  input: '{}',
};
const RESULT = { status: 0, output: 'result', errors: '' };

/** The agent's connection, and the client with what it has received. */
function pair() {
  const [client, server] = duplexPair();
  const received: Message[] = [];
  const read = messageReader();
  client.on('data', (chunk: Buffer) => received.push(...read(chunk)));
  client.on('error', () => undefined);
  return { client, server, received, connection: connectionOf(server) };
}

const sendBytewise = async (client: Duplex, bytes: Uint8Array): Promise<void> => {
  for (const byte of bytes) {
    client.write(Uint8Array.of(byte));
    await turn();
  }
};

t.test('request, execution, result', async (t) => {
  const { client, received, connection } = pair();
  void sendBytewise(client, encode(REQUEST).subarray(0, 12)).then(() => client.write(encode(REQUEST).subarray(12)));
  t.match(await connection.request(), REQUEST);
  const execution = connection.execute('static', { CNI_COMMAND: 'ADD' }, 'input');
  await turn();
  t.match(received, [{ kind: 'execute', plugin: 'static', environment: { CNI_COMMAND: 'ADD' }, input: 'input' }]);
  client.write(encode({ kind: 'executed', status: 3, output: 'out', errors: 'err' }));
  t.match(await execution, { status: 3, output: 'out', errors: 'err' });
  t.equal(connection.gone.aborted, false);
  client.once('end', () => client.end());
  t.equal(await connection.answer(RESULT), true);
  t.match(received[1], { kind: 'result', ...RESULT });
  t.equal(connection.gone.aborted, true);
  t.equal(await connection.answer(RESULT), false, 'only once');
  await t.rejects(connection.execute('static', {}, ''), { code: 'io' });
});

t.test('the client goes', async (t) => {
  const before = pair();
  before.client.destroy();
  before.server.destroy();
  await t.rejects(before.connection.request(), { code: 'io', message: 'the client has gone' });
  t.equal(await before.connection.answer(RESULT), false);

  const during = pair();
  during.client.write(encode(REQUEST));
  await during.connection.request();
  const execution = during.connection.execute('static', {}, '');
  during.server.destroy();
  await t.rejects(execution, { code: 'io' });
  t.equal(during.connection.gone.aborted, true);
  t.equal(await during.connection.answer(RESULT), false);
});

t.test('a client that goes with the result unread has not got it', async (t) => {
  const { client, server, connection } = pair();
  client.write(encode(REQUEST));
  await connection.request();
  const answered = connection.answer(RESULT);
  server.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' }));
  t.equal(await answered, false);
});

t.test('what is not the protocol', async (t) => {
  const cases: [string, Uint8Array][] = [
    ['not a message', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['another message first', encode({ kind: 'executed', ...RESULT })],
    ['a length beyond all', Buffer.from([1, 255, 255, 255, 255])],
    ['two requests', Buffer.concat([encode(REQUEST), encode(REQUEST), encode(REQUEST)])],
  ];
  for (const [name, bytes] of cases) {
    const { client, received, connection } = pair();
    client.write(bytes);
    await turn();
    const failed = await connection
      .request()
      .then(
        () => connection.execute('static', {}, ''),
        (error: unknown) => Promise.reject(error),
      )
      .catch((error: { code: string }) => error.code);
    t.equal(failed, 'decoding', name);
    client.once('end', () => client.end());
    t.equal(await connection.answer(RESULT), true, `${name}: it can still be told`);
    t.match(received.at(-1), { kind: 'result' });
  }
});

t.test('one plugin at a time', async (t) => {
  const { client, connection } = pair();
  client.write(encode(REQUEST));
  await connection.request();
  const first = connection.execute('one', {}, '');
  await t.rejects(connection.execute('two', {}, ''), { code: 'internal' });
  client.write(encode({ kind: 'executed', ...RESULT }));
  t.match(await first, RESULT);
});

t.test('dropped: closed without a result', async (t) => {
  const { received, connection, server } = pair();
  connection.drop();
  await turn();
  t.equal(server.destroyed, true);
  t.strictSame(received, []);
  t.equal(connection.gone.aborted, true);
});

t.test('a result that is too large to be sent', async (t) => {
  const { connection } = pair();
  t.throws(() => connection.answer({ ...RESULT, output: 'x'.repeat(5 << 20) }), { code: 'internal' });
  t.equal(connection.gone.aborted, false, 'another one can be');
});
