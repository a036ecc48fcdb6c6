// Calls of gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), with messages as bytes. A
// channel is one connection, which is never made again: whatever breaks it ends every call, and a new channel is opened.

import { type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { GRPC, RpcError } from './etcd-errors.ts';
import type { TlsMaterial } from './etcd-tls.ts';

export interface CallOptions {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds that the call may take; as long as it likes when undefined. */
  readonly timeoutMs?: number | undefined;
  onMessage(message: Buffer): void;
  /** Once, when nothing more comes. Undefined: the server has ended the call and is content. */
  onEnd(error: RpcError | undefined): void;
}

export interface Call {
  send(message: Buffer): void;
  /** Nothing more is sent. */
  end(): void;
  /** Ends the call, without another word. */
  cancel(): void;
}

export interface Channel {
  call(options: CallOptions): Call;
  /** Ends every call. Twice is harmless. */
  close(): void;
}

/** A connection that leads nowhere is noticed within the sum of both. etcd refuses more than one ping in 5 s. */
const PING_MS = 20_000;
const PONG_MS = 5000;
/** What the server may send before it is allowed more: 5000 leases are 1.2 MB. */
const WINDOW_BYTES = 4 << 20;

/** Connects; that it can't is what the calls end with. @param endpoint "https://192.0.2.1:2379" @param tls undefined for http */
export function openChannel(endpoint: string, tls: TlsMaterial | undefined): Channel {
  const session = connect(endpoint, {
    settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
    ...(tls !== undefined && { ca: tls.authority, cert: tls.certificate, key: tls.key }),
  });
  const calls = new Set<(error: RpcError) => void>();
  let failure: RpcError | undefined;
  let pong: NodeJS.Timeout | undefined;

  function fail(error: RpcError): void {
    failure ??= error;
    clearInterval(ping);
    clearTimeout(pong);
    for (const end of calls) end(failure);
    session.destroy();
  }

  const ping = setInterval(() => {
    if (calls.size === 0 || session.connecting) return;
    pong = setTimeout(() => fail(lost('the connection is silent')), PONG_MS).unref();
    session.ping(() => clearTimeout(pong));
  }, PING_MS).unref();
  session.on('connect', () => session.setLocalWindowSize(WINDOW_BYTES));
  session.on('error', (error) => fail(lost(error.message)));
  session.on('close', () => fail(lost('the connection was closed')));

  return {
    call(options) {
      if (failure !== undefined || session.closed) return stillborn(options, failure ?? lost('the server is stopping'));
      const call = startCall(session.request(headersOf(options)), options, () => calls.delete(call.fail));
      calls.add(call.fail);
      return call;
    },
    close: () => fail(new RpcError(GRPC.CANCELLED, 'the connection was given up')),
  };
}

const lost = (why: string): RpcError => new RpcError(GRPC.UNAVAILABLE, why);

/** A call on a connection that is no more. */
function stillborn({ onEnd }: CallOptions, error: RpcError): Call {
  queueMicrotask(() => onEnd(error));
  return { send() {}, end() {}, cancel() {} };
}

const headersOf = ({ path, headers, timeoutMs }: CallOptions): Record<string, string> => ({
  ...headers,
  [constants.HTTP2_HEADER_METHOD]: 'POST',
  [constants.HTTP2_HEADER_PATH]: path,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
  [constants.HTTP2_HEADER_TE]: 'trailers',
  ...(timeoutMs !== undefined && { 'grpc-timeout': `${timeoutMs}m` }),
});

function startCall(
  stream: ClientHttp2Stream,
  { timeoutMs, onMessage, onEnd }: CallOptions,
  forget: () => void,
): Call & { fail(error: RpcError): void } {
  let ended = false;
  let response: IncomingHttpHeaders = {};

  function finish(error: RpcError | undefined): void {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    forget();
    onEnd(error);
  }
  function fail(error: RpcError): void {
    finish(error);
    stream.close(constants.NGHTTP2_CANCEL);
  }
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => fail(new RpcError(GRPC.DEADLINE_EXCEEDED, `no answer in ${timeoutMs} ms`)), timeoutMs);

  const read = messageReader((message) => ended || onMessage(message));
  const conclude = () => stream.readableEnded && response['grpc-status'] !== undefined && finish(statusOf(response));
  const learn = (headers: IncomingHttpHeaders) => {
    response = { ...response, ...headers };
    conclude();
  };
  stream.on('response', learn);
  stream.on('trailers', learn);
  stream.on('data', (chunk: Buffer) => {
    try {
      read(chunk);
    } catch (error) {
      fail(new RpcError(GRPC.INTERNAL, `an answer that can't be understood: ${(error as Error).message}`));
    }
  });
  stream.on('end', conclude);
  stream.on('error', (error) => finish(lost(error.message)));
  stream.on('close', () => finish(statusOf(response)));
  return {
    send: (message) => void stream.write(framed(message)),
    end: () => void stream.end(),
    cancel() {
      ended = true;
      clearTimeout(timer);
      forget();
      stream.close(constants.NGHTTP2_CANCEL);
    },
    fail,
  };
}

/** A message's flag (not compressed) and length stand before it. */
const PREFIX = 5;

function framed(message: Buffer): Buffer {
  const frame = Buffer.alloc(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX);
  return frame;
}

/** Puts messages together from the pieces that arrive; a long one is copied once. */
function messageReader(onMessage: (message: Buffer) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let have = 0;
  let want = PREFIX;
  return (chunk) => {
    chunks.push(chunk);
    have += chunk.length;
    while (have >= want) {
      const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [bytes];
      const end = PREFIX + bytes.readUInt32BE(1);
      want = end;
      if (have < end) continue;
      onMessage(bytes.subarray(PREFIX, end));
      chunks = [bytes.subarray(end)];
      have -= end;
      want = PREFIX;
    }
  };
}

/** What a server that ends a call says of it; undefined for success. */
function statusOf(headers: IncomingHttpHeaders): RpcError | undefined {
  const status = headers['grpc-status'];
  if (status === undefined) return withoutStatus(Number(headers[':status'] ?? 200));
  const code = Number(status);
  return code === 0 ? undefined : new RpcError(code, decoded(String(headers['grpc-message'] ?? `status ${status}`)));
}

/** Reset, or answered by a proxy or something that is no etcd. */
const withoutStatus = (http: number): RpcError =>
  lost(http === 200 ? 'the call was cut off' : `HTTP status ${http} instead of an answer`);

/** Percent-encoded; one that isn't, as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
