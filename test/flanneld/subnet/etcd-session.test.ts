// The session over servers that are TCP sockets only: what it does before anybody has answered.

import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { openSession } from '../../../flanneld/subnet/etcd-session.ts';

/** A server that accepts everybody and never says a word. */
async function silentServer(t: Test) {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => void sockets.add(socket.on('error', () => {})));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, endpoint };
}

t.test('a connection that is being made starts over when the address of this node has changed', async (t) => {
  const { server, endpoint } = await silentServer(t);
  const session = openSession({ endpoints: [endpoint], prefix: '/net', tls: undefined, user: undefined });
  const stop = new AbortController();
  const ended = t.rejects(
    session.use(async () => undefined, stop.signal),
    /stop/,
    'and goes on until it is told to end',
  );
  await once(server, 'connection');
  session.renew();
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [words] = (await once(socket, 'data')) as [Buffer];
  t.match(words.toString(), /^PRI \* HTTP\/2/, 'a new connection, and no mere look at why the first one failed');
  stop.abort(new Error('stop'));
  await ended;
  session.close();
});
