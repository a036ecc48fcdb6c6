// One connection to one etcd server: its calls by name, their messages as values, their failures as RpcErrors.

import { GRPC, hasGrpcCode, RpcError } from './etcd-errors.ts';
import { type DuplexStream, type EventStream, openEventStream } from './etcd-events.ts';
import { type Call, openChannel } from './etcd-grpc.ts';
import type { Compare, RangeRequest, RangeResponse, RequestOp, TxnResponse, WatchRequest } from './etcd-messages.ts';
import { METHODS } from './etcd-methods.ts';
import { decode, encode } from './etcd-protobuf.ts';
import type { TlsMaterial } from './etcd-tls.ts';

export interface EndpointAccess {
  /** "https://192.0.2.1:2379" */
  readonly endpoint: string;
  /** Undefined for http. */
  readonly tls: TlsMaterial | undefined;
  readonly user: { readonly name: string; readonly password: string } | undefined;
}

/** Every function fails with an RpcError. */
export interface EtcdConnection {
  readonly endpoint: string;
  range(request: RangeRequest): Promise<RangeResponse>;
  txn(compare: readonly Compare[], success: readonly RequestOp[]): Promise<TxnResponse>;
  /** A new etcd lease. @param seconds its time to live @returns its id */
  grant(seconds: number): Promise<string>;
  /** Renews an etcd lease. @returns the seconds it lives from now, 0 when it is gone */
  keepAlive(grant: string): Promise<number>;
  /** Seconds an etcd lease still lives (-1: it is gone) and those that each renewal gives it. */
  timeToLive(grant: string): Promise<{ readonly remaining: number; readonly granted: number }>;
  watch(request: WatchRequest): EventStream;
  /** Ends every call in flight. Twice is harmless. */
  close(): void;
}

/** Milliseconds a call may take before the server counts as gone. */
export const CALL_DEADLINE = 5000;

/**
 * Connects and makes sure that the server answers, has a quorum and lets us in, by a linearizable read of `key`.
 * @throws RpcError
 */
export async function connect(access: EndpointAccess, key: Buffer): Promise<EtcdConnection> {
  const calls = openCalls(access);
  try {
    if (access.user !== undefined) calls.useToken(await authenticate(calls, access.user));
    const connection = connectionOf(access.endpoint, calls);
    await connection.range({ key, count_only: true });
    return connection;
  } catch (error) {
    calls.close();
    throw error;
  }
}

/** A token for the user; none where authentication is off. */
async function authenticate(
  calls: Calls,
  user: { readonly name: string; readonly password: string },
): Promise<string | undefined> {
  try {
    return (await calls.unary<{ token: string }>('authenticate', user)).token;
  } catch (error) {
    if (hasGrpcCode(error, GRPC.FAILED_PRECONDITION)) return undefined;
    throw error;
  }
}

const connectionOf = (endpoint: string, calls: Calls): EtcdConnection => ({
  endpoint,
  range: (request) => calls.unary('range', request),
  txn: (compare, success) => calls.unary('txn', { compare, success }),
  grant: async (seconds) => (await calls.unary<{ ID: string }>('grant', { TTL: seconds })).ID,
  async timeToLive(grant) {
    const { TTL, grantedTTL } = await calls.unary<{ TTL: string; grantedTTL: string }>('timeToLive', { ID: grant });
    return { remaining: Number(TTL), granted: Number(grantedTTL) };
  },
  async keepAlive(grant) {
    const stream = calls.stream('keepAlive', CALL_DEADLINE);
    const { TTL } = await new Promise<{ TTL: string }>((resolve, reject) => {
      stream.on('data', resolve);
      stream.on('error', reject);
      stream.on('end', () => reject(new RpcError(GRPC.UNAVAILABLE, 'the lease stream ended')));
      stream.write({ ID: grant });
    });
    stream.end();
    return Number(TTL);
  },
  watch: (request) => openEventStream(async () => calls.stream('watch'), request, CALL_DEADLINE),
  close: calls.close,
});

type MethodName = keyof typeof METHODS;

/** Calls of one connection, all of which close() ends. */
interface Calls {
  useToken(token: string | undefined): void;
  unary<T>(name: MethodName, request: object): Promise<T>;
  stream(name: MethodName, timeoutMs?: number): DuplexStream;
  close(): void;
}

function openCalls({ endpoint, tls }: EndpointAccess): Calls {
  const channel = openChannel(endpoint, tls);
  let token: Readonly<Record<string, string>> = {};

  return {
    useToken(given) {
      token = given === undefined ? {} : { token: given };
    },
    unary: <T>(name: MethodName, request: object) =>
      new Promise<T>((resolve, reject) => {
        const { path, request: asked, response } = METHODS[name];
        let answer: T | undefined;
        const call = channel.call({
          path,
          headers: token,
          timeoutMs: CALL_DEADLINE,
          onMessage(message) {
            answer = decode(response, message) as T;
          },
          onEnd(error) {
            if (error !== undefined) reject(error);
            else if (answer === undefined) reject(new RpcError(GRPC.INTERNAL, `${path}: no answer`));
            else resolve(answer);
          },
        });
        call.send(encode(asked, request));
        call.end();
      }),
    stream(name, timeoutMs) {
      const { path, request, response } = METHODS[name];
      const listeners: { data?: (message: never) => void; error?: (error: RpcError) => void; end?: () => void } = {};
      const call: Call = channel.call({
        path,
        // Without a leader the server then ends the stream instead of staying silent (clientv3.WithRequireLeader).
        headers: { ...token, hasleader: 'true' },
        timeoutMs,
        onMessage: (message) => listeners.data?.(decode(response, message) as never),
        onEnd: (error) => (error === undefined ? listeners.end?.() : listeners.error?.(error)),
      });
      const stream: DuplexStream = {
        write: (message) => call.send(encode(request, message)),
        end: call.end,
        cancel: call.cancel,
        on(event: 'data' | 'error' | 'end', listener: (value: never) => void) {
          listeners[event] = listener as () => void;
          return stream;
        },
      };
      return stream;
    },
    close: channel.close,
  };
}
