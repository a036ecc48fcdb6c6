// The connection that is in use, whichever of the endpoints it goes to. A connection that failed is given up for good
// and a new one is made to the next endpoint, with certificates read and the user logged in again: so a server that
// went away, a lost leader, an expired token and a replaced certificate are the same case.

import { type ErrorCode, NetError } from '../../model/errors.ts';
import { CALL_DEADLINE, connect, type EndpointAccess, type EtcdConnection } from './etcd-connection.ts';
import { GRPC, isLost, needsNewConnection, RpcError } from './etcd-errors.ts';
import type { EtcdConfig } from './etcd-options.ts';
import { type Finding, probe } from './etcd-probe.ts';
import { readTls, type TlsMaterial } from './etcd-tls.ts';

export interface EtcdSession {
  /**
   * Runs the function on the connection, and once more on a new one when the first turned out to be broken: so the
   * function must bear to run twice.
   * @throws NetError etcd-unreachable, etcd-refused naming the endpoints; the signal's reason
   */
  use<T>(run: (connection: EtcdConnection) => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Gives up a connection that failed in other hands, and says why as `use` would. */
  fail(connection: EtcdConnection, error: RpcError): Promise<NetError>;
  /**
   * Gives up the connection although it seems to work; the next use makes a new one, to the same endpoint. One that is being
   * made starts over: what it waits for may never come.
   */
  renew(): void;
  /** Whether this connection has not been given up. */
  isInUse(connection: EtcdConnection): boolean;
  close(): void;
}

/** @throws NetError file-unreadable */
export function openSession(config: EtcdConfig): EtcdSession {
  const access = accessTo(config);
  const key = Buffer.from(`${config.prefix}/config`);
  let turn = 0;
  let current: Promise<EtcdConnection> | undefined;
  let open: EtcdConnection | undefined;
  let attempt = new AbortController();
  let closed = false;

  function connection(): Promise<EtcdConnection> {
    current ??= connectAny().then(
      (made) => {
        if (closed) made.close();
        open = made;
        return made;
      },
      (error: unknown) => {
        current = undefined;
        throw error;
      },
    );
    return current;
  }

  /** Anew whenever the attempt is given up for another. */
  async function connectAny(): Promise<EtcdConnection> {
    for (;;) {
      const { signal } = attempt;
      try {
        return await unlessAborted(() => connectOnce(signal), signal);
      } catch (error) {
        if (!signal.aborted || closed) throw error;
      }
    }
  }

  /** To the first endpoint that answers. */
  async function connectOnce(signal: AbortSignal): Promise<EtcdConnection> {
    const failures: Failure[] = [];
    while (failures.length < config.endpoints.length) {
      const target = access(config.endpoints[turn % config.endpoints.length] as string);
      try {
        return await connect(target, key, signal);
      } catch (error) {
        signal.throwIfAborted();
        failures.push(await failureOf(target, error));
        signal.throwIfAborted();
        turn++;
      }
    }
    throw asNetError(failures);
  }

  function renew(): void {
    if (open !== undefined) drop(open);
    else {
      attempt.abort();
      attempt = new AbortController();
    }
  }

  function drop(connection: EtcdConnection): void {
    open = undefined;
    current = undefined;
    connection.close();
  }

  function giveUp(broken: EtcdConnection): void {
    if (open !== broken) return;
    drop(broken);
    turn++;
  }

  async function fail(broken: EtcdConnection, error: RpcError): Promise<NetError> {
    giveUp(broken);
    return asNetError([await failureOf(access(broken.endpoint), error)]);
  }

  async function use<T>(run: (connection: EtcdConnection) => Promise<T>): Promise<T> {
    for (let first = true; ; first = false) {
      const used = await connection();
      try {
        return await run(used);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (!needsNewConnection(error)) throw refusal(used.endpoint, error);
        if (!first || closed) throw await fail(used, error);
        giveUp(used);
      }
    }
  }

  return {
    use: (run, signal) => unlessAborted(() => use(run), signal),
    fail,
    renew,
    isInUse: (connection) => open === connection,
    close() {
      closed = true;
      attempt.abort();
      open?.close();
    },
  };
}

/** Certificates as they are on disk now; those of the time before while they can't be read, as during a replacement. */
function accessTo({ tls: files, user, endpoints }: EtcdConfig): (endpoint: string) => EndpointAccess {
  const secure = (endpoint: string) => endpoint.startsWith('https:');
  let material: TlsMaterial | undefined = endpoints.some(secure) ? readTls(files) : undefined;
  const refresh = (): TlsMaterial | undefined => {
    try {
      material = readTls(files);
    } catch {
      // The last ones that could be read go on.
    }
    return material;
  };
  return (endpoint) => ({ endpoint, user, tls: secure(endpoint) ? refresh() : undefined });
}

interface Failure {
  readonly endpoint: string;
  readonly code: 'etcd-unreachable' | 'etcd-refused';
  readonly why: string;
  readonly errno: string | undefined;
  readonly cause: RpcError;
}

async function failureOf(access: EndpointAccess, thrown: unknown): Promise<Failure> {
  const cause = thrown instanceof RpcError ? thrown : RpcError.from(thrown as Error);
  const finding = isLost(cause) ? await probe(access) : undefined;
  const refused = finding?.refused ?? !isLost(cause);
  return {
    endpoint: access.endpoint,
    code: refused ? 'etcd-refused' : 'etcd-unreachable',
    why: finding === undefined ? whyOf(cause) : `${finding.refused ? 'TLS: ' : ''}${finding.code}`,
    errno: errnoOf(finding),
    cause,
  };
}

/** grpc-js ends some messages with the time, which would make every one of them new. */
const TIMESTAMP = / \(\d{4}-\d\d-\d\dT.*$/s;

const whyOf = ({ code, message }: RpcError): string =>
  code === GRPC.DEADLINE_EXCEEDED ? `no answer in ${CALL_DEADLINE / 1000} s` : message.replace(TIMESTAMP, '');

const errnoOf = (finding: Finding | undefined): string | undefined =>
  finding?.refused === false ? finding.code : undefined;

function asNetError(failures: readonly Failure[]): NetError {
  const last = failures.at(-1) as Failure;
  const code: ErrorCode = failures.some((failure) => failure.code === 'etcd-refused')
    ? 'etcd-refused'
    : 'etcd-unreachable';
  const message = `etcd ${failures.map(({ endpoint, why }) => `${endpoint}: ${why}`).join('; ')}`;
  const subject = failures.map(({ endpoint }) => endpoint).join(',');
  return new NetError(code, message, { errno: last.errno, subject, details: last.cause.message });
}

const refusal = (endpoint: string, error: RpcError): Error =>
  error.code === GRPC.NOT_FOUND
    ? error
    : asNetError([{ endpoint, code: 'etcd-refused', why: error.message, errno: undefined, cause: error }]);

/** What the function promises, or the signal's reason as soon as it aborts. */
async function unlessAborted<T>(run: () => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([run(), aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
