// One connection to one etcd server. Of etcd3 it uses what is hard to have otherwise: the protocol's definitions,
// channels and TLS. The library's own retries, watches and leases are passed over: they retry a refused token without
// end, hide the gRPC code, can't take up an existing lease, and don't ask that the server has a leader.

import { isIP } from 'node:net';
import { Etcd3, type Services } from 'etcd3';
import { GRPC, hasGrpcCode, RpcError } from './etcd-errors.ts';
import { type DuplexStream, type EventStream, openEventStream } from './etcd-events.ts';
import type { Compare, RangeRequest, RangeResponse, RequestOp, TxnResponse, WatchRequest } from './etcd-messages.ts';
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

const CHANNEL = {
  // An interrupted network is noticed after 25 s at the latest. etcd refuses more than one ping in 5 s.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 5000,
  // The library's limit is 4 MB; 5000 leases are 1.2 MB.
  'grpc.max_receive_message_length': -1,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  // Otherwise every connection asks DNS for a TXT record.
  'grpc.service_config_disable_resolution': 1,
};

/**
 * Connects and makes sure that the server answers, has a quorum and lets us in, by a linearizable read of `key`. The signal
 * ends the connection, made or not.
 * @throws RpcError
 */
export async function connect(access: EndpointAccess, key: Buffer, signal: AbortSignal): Promise<EtcdConnection> {
  const calls = openCalls(access);
  signal.addEventListener('abort', calls.close);
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
    return (await calls.unary<{ token: string }>('Auth', 'authenticate', user)).token;
  } catch (error) {
    if (hasGrpcCode(error, GRPC.FAILED_PRECONDITION)) return undefined;
    throw error;
  }
}

const connectionOf = (endpoint: string, calls: Calls): EtcdConnection => ({
  endpoint,
  range: (request) => calls.unary('KV', 'range', request),
  txn: (compare, success) => calls.unary('KV', 'txn', { compare, success }),
  grant: async (seconds) => (await calls.unary<{ ID: string }>('Lease', 'leaseGrant', { TTL: seconds })).ID,
  async timeToLive(grant) {
    const { TTL, grantedTTL } = await calls.unary<{ TTL: string; grantedTTL: string }>('Lease', 'leaseTimeToLive', {
      ID: grant,
    });
    return { remaining: Number(TTL), granted: Number(grantedTTL) };
  },
  async keepAlive(grant) {
    const stream = await calls.stream('Lease', 'leaseKeepAlive', { deadline: Date.now() + CALL_DEADLINE });
    const { TTL } = await new Promise<{ TTL: string }>((resolve, reject) => {
      stream.on('data', resolve);
      stream.on('error', (error) => reject(RpcError.from(error)));
      stream.on('end', () => reject(new RpcError(GRPC.UNAVAILABLE, 'the lease stream ended')));
      stream.write({ ID: grant });
    });
    stream.end();
    return Number(TTL);
  },
  watch: (request) => openEventStream(() => calls.stream('Watch', 'watch', {}), request, CALL_DEADLINE),
  close: calls.close,
});

interface CallOptions {
  /** Milliseconds since 1970. */
  readonly deadline?: number;
}

/** What the library makes of a service's methods, which it types as nothing. */
type UnaryMethod = (
  request: object,
  metadata: Metadata,
  options: CallOptions,
  done: (error: Error | null, response: never) => void,
) => { cancel(): void };
type StreamMethod = (metadata: Metadata, options: CallOptions) => DuplexStream;

interface Metadata {
  set(key: string, value: string): void;
}

/** Calls of one connection, all of which close() ends. */
interface Calls {
  useToken(token: string | undefined): void;
  unary<T>(service: keyof typeof Services, method: string, request: object): Promise<T>;
  stream(service: keyof typeof Services, method: string, options: CallOptions): Promise<DuplexStream>;
  close(): void;
}

/** The library shows its channels to subclasses only. */
class Channels extends Etcd3 {
  with<T>(service: keyof typeof Services, use: (client: object, metadata: Metadata) => Promise<T> | T): Promise<T> {
    return this.pool.withConnection(service, ({ client, metadata }) => use(client, metadata));
  }

  /**
   * grpc-js 1.14 sends the host as TLS server name even when it is an address. RFC 6066 forbids that and Node 26
   * throws, so that no https endpoint with an address could be reached. Without a server name Node still compares the
   * certificate with the host. Neither library has an option for it.
   */
  dropAddressesAsServerName(): void {
    for (const { channelCredentials } of (this.pool as unknown as { hosts: Host[] }).hosts) {
      const connectorOf = channelCredentials._createSecureConnector.bind(channelCredentials);
      channelCredentials._createSecureConnector = (...request) => {
        const connector = connectorOf(...request);
        if (isIP(connector.connectionOptions.servername ?? '') !== 0) delete connector.connectionOptions.servername;
        return connector;
      };
    }
  }
}

/** What is touched of the libraries' insides. */
interface Host {
  readonly channelCredentials: {
    _createSecureConnector(...request: readonly unknown[]): { readonly connectionOptions: { servername?: string } };
  };
}

let connections = 0;

function openCalls({ endpoint, tls }: EndpointAccess): Calls {
  // A number of its own, or the library shares sockets, and their back-off, with connections that were given up.
  const grpcOptions = { ...CHANNEL, 'flannel.connection': ++connections };
  const channels = new Channels({
    hosts: endpoint,
    grpcOptions,
    ...(tls === undefined ? {} : { credentials: credentials(tls) }),
  });
  if (tls !== undefined) channels.dropAddressesAsServerName();
  const inFlight = new Set<{ cancel(): void }>();
  let token: string | undefined;
  let closed = false;

  /** Who is in the middle of several calls when the connection is given up finds it closed: an error like any other. */
  async function withClient<T>(
    service: keyof typeof Services,
    use: (client: object, metadata: Metadata) => Promise<T> | T,
  ): Promise<T> {
    try {
      return await channels.with(service, use);
    } catch (error) {
      if (!closed || error instanceof RpcError) throw error;
      throw new RpcError(GRPC.CANCELLED, 'the connection has been given up');
    }
  }

  function prepare<M>(client: object, method: string, metadata: Metadata): M {
    if (token !== undefined) metadata.set('token', token);
    return (client as Record<string, { bind(self: object): M }>)[method]?.bind(client) as M;
  }

  return {
    useToken(given) {
      token = given;
    },
    unary: (service, method, request) =>
      withClient(
        service,
        (client, metadata) =>
          new Promise((resolve, reject) => {
            const invoke = prepare<UnaryMethod>(client, method, metadata);
            const call = invoke(request, metadata, { deadline: Date.now() + CALL_DEADLINE }, (error, response) => {
              inFlight.delete(call);
              if (error === null) resolve(response);
              else reject(RpcError.from(error));
            });
            inFlight.add(call);
          }),
      ),
    stream: (service, method, options) =>
      withClient(service, (client, metadata) => {
        // Without a leader the server then ends the stream instead of staying silent (clientv3.WithRequireLeader).
        metadata.set('hasleader', 'true');
        const stream = prepare<StreamMethod>(client, method, metadata)(metadata, options);
        inFlight.add(stream);
        for (const event of ['end', 'error'] as const) stream.on(event as 'error', () => inFlight.delete(stream));
        return stream;
      }),
    close() {
      closed = true;
      for (const call of inFlight) call.cancel();
      inFlight.clear();
      channels.close();
    },
  };
}

const credentials = ({ authority, certificate, key }: TlsMaterial) => ({
  rootCertificate: authority,
  ...(certificate === undefined || key === undefined ? {} : { certChain: certificate, privateKey: key }),
});
