// Calls against a server of ours that does what etcd, a proxy or a broken connection does.

import { once } from 'node:events';
import { createServer, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { GRPC, type RpcError } from '../../../flanneld/subnet/etcd-errors.ts';
import { type Channel, openChannel } from '../../../flanneld/subnet/etcd-grpc.ts';

const frame = (text: string): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([prefix, Buffer.from(text)]);
};

/** A channel to a server that answers every call with the function. */
async function channelTo(
  t: Test,
  answer: (stream: ServerHttp2Stream, session: Http2Session) => void,
): Promise<Channel> {
  const server = createServer();
  const sessions = new Set<Http2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {});
    answer(stream, stream.session as Http2Session);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const channel = openChannel(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, undefined);
  t.teardown(async () => {
    channel.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  return channel;
}

/** What a call came to. */
function outcome(channel: Channel, timeoutMs?: number) {
  const messages: string[] = [];
  const { promise, resolve } = Promise.withResolvers<RpcError | undefined>();
  const call = channel.call({
    path: '/service/Method',
    headers: { token: 'secret' },
    timeoutMs,
    onMessage: (message) => messages.push(message.toString()),
    onEnd: resolve,
  });
  call.send(Buffer.from('question'));
  call.end();
  return { call, messages, ended: promise };
}

function respond(stream: ServerHttp2Stream, bytes: readonly Buffer[], trailers: Record<string, string>): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  for (const each of bytes) stream.write(each);
  stream.end();
}

t.test('messages, in whatever pieces they come', async (t) => {
  const long = 'x'.repeat(100_000);
  const both = Buffer.concat([frame('one'), frame(''), frame(long)]);
  const asked: Buffer[] = [];
  const channel = await channelTo(t, (stream) => {
    stream.on('data', (chunk: Buffer) => asked.push(chunk));
    stream.on('end', () =>
      respond(stream, [both.subarray(0, 3), both.subarray(3, 7), both.subarray(7, 14), both.subarray(14)], {
        'grpc-status': '0',
      }),
    );
  });
  const { messages, ended } = outcome(channel);
  t.equal(await ended, undefined);
  t.same(messages, ['one', '', long]);
  t.same(Buffer.concat(asked), frame('question'));
});

t.test('what a server says of a call that failed', async (t) => {
  const answers: readonly (readonly [(stream: ServerHttp2Stream) => void, object])[] = [
    [
      (stream) => respond(stream, [], { 'grpc-status': '5', 'grpc-message': 'caf%C3%A9 not found' }),
      { code: GRPC.NOT_FOUND, message: 'café not found' },
    ],
    [
      (stream) => stream.respond({ ':status': 200, 'grpc-status': '16', 'grpc-message': '100%' }, { endStream: true }),
      { code: GRPC.UNAUTHENTICATED, message: '100%' },
    ],
    [(stream) => stream.respond({ ':status': 502 }, { endStream: true }), { code: GRPC.UNAVAILABLE, message: /502/ }],
    [(stream) => respond(stream, [frame('half')], {}), { code: GRPC.UNAVAILABLE }],
    [(stream) => stream.close(2), { code: GRPC.UNAVAILABLE }],
    [(stream) => stream.session?.destroy(), { code: GRPC.UNAVAILABLE }],
  ];
  for (const [answer, error] of answers) t.match(await outcome(await channelTo(t, answer)).ended, error);
});

t.test('a call takes no longer than it may', async (t) => {
  const channel = await channelTo(t, () => {});
  t.match(await outcome(channel, 50).ended, { code: GRPC.DEADLINE_EXCEEDED });
});

t.test('a message that its reader refuses ends the call, not the process', async (t) => {
  const channel = await channelTo(t, (stream) => respond(stream, [frame('nonsense')], { 'grpc-status': '0' }));
  const error = await new Promise((onEnd) =>
    channel.call({
      path: '/service/Method',
      headers: {},
      onMessage: () => {
        throw new RangeError('no message');
      },
      onEnd,
    }),
  );
  t.match(error, { code: GRPC.INTERNAL, message: /no message/ });
});

t.test('closing ends every call, and there are no more', async (t) => {
  const { promise: arrived, resolve } = Promise.withResolvers<void>();
  const channel = await channelTo(t, () => resolve());
  const first = outcome(channel);
  await arrived;
  channel.close();
  channel.close();
  t.match(await first.ended, { code: GRPC.CANCELLED });
  t.match(await outcome(channel).ended, { code: GRPC.CANCELLED });
});

t.test('a server that is stopping takes no new call, and finishes the old one', async (t) => {
  const { promise: arrived, resolve } = Promise.withResolvers<ServerHttp2Stream>();
  const channel = await channelTo(t, (stream, session) => {
    session.goaway();
    resolve(stream);
  });
  const first = outcome(channel);
  const stream = await arrived;
  for (let error: RpcError | undefined; error?.code !== GRPC.UNAVAILABLE; ) error = await outcome(channel, 200).ended;
  respond(stream, [frame('late')], { 'grpc-status': '0' });
  t.equal(await first.ended, undefined);
  t.same(first.messages, ['late']);
});

t.test('nobody listens', async (t) => {
  const channel = openChannel('http://127.0.0.1:1', undefined);
  t.teardown(() => channel.close());
  t.match(await outcome(channel).ended, { code: GRPC.UNAVAILABLE, message: /ECONNREFUSED/ });
});
