// The network configuration in etcd: one key, read and watched.

import { NetError } from '../../model/errors.ts';
import { sleep, systemClock } from '../clock.ts';
import type { EtcdConnection } from './etcd-connection.ts';
import { GRPC, hasGrpcCode, RpcError } from './etcd-errors.ts';
import type { EtcdSession } from './etcd-session.ts';
import { pauses, whenNew } from './pauses.ts';

interface ConfigContext {
  readonly session: EtcdSession;
  readonly key: string;
  /** Milliseconds after which the key is read again, should a watch be silent that ought not to be. */
  readonly livenessMs: number;
}

/** @throws NetError no-network-config; RpcError */
export async function readConfig(connection: EtcdConnection, key: string): Promise<string> {
  const { text } = await read(connection, key);
  if (text !== undefined) return text;
  throw new NetError('no-network-config', `etcd ${connection.endpoint}: there is no key ${key}`, { subject: key });
}

async function read(
  connection: EtcdConnection,
  key: string,
): Promise<{ readonly text: string | undefined; readonly revision: string }> {
  const { kvs, header } = await connection.range({ key: Buffer.from(key) });
  return { text: kvs[0]?.value.toString(), revision: header.revision };
}

/** As SubnetManager's. Whatever goes wrong, it is read again. */
export async function* watchConfig(
  context: ConfigContext,
  signal: AbortSignal,
  report: (trouble: unknown) => void,
): AsyncGenerator<string | undefined> {
  const trouble = whenNew(report);
  const pause = pauses();
  while (!signal.aborted) {
    const began = Date.now();
    try {
      for await (const text of follow(context, signal)) {
        trouble(undefined);
        yield text;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!hasGrpcCode(error, GRPC.OUT_OF_RANGE)) trouble(error);
      await sleep(systemClock, pause(Date.now() - began), signal);
    }
  }
}

/** The text now and after each change, until it is time to read again. @throws NetError, RpcError: the watch broke */
async function* follow(
  { session, key, livenessMs }: ConfigContext,
  signal: AbortSignal,
): AsyncGenerator<string | undefined> {
  const { connection, found } = await session.use(
    async (connection) => ({ connection, found: await read(connection, key) }),
    signal,
  );
  const events = connection.watch({
    key: Buffer.from(key),
    range_end: Buffer.alloc(0),
    start_revision: String(BigInt(found.revision) + 1n),
  });
  // Or another connection has taken the place of this one.
  const again = new RpcError(GRPC.OUT_OF_RANGE, 'time to read again');
  const stop = () => events.end(again);
  const cancel = systemClock.after(livenessMs, stop);
  signal.addEventListener('abort', stop);
  try {
    yield found.text;
    for (;;) {
      const last = (await events.next()).at(-1);
      if (last !== undefined) yield last.type === 'put' ? last.kv.value.toString() : undefined;
    }
  } catch (error) {
    if (!(error instanceof RpcError) || error.code === GRPC.OUT_OF_RANGE || signal.aborted) throw error;
    if (!session.isInUse(connection)) throw again;
    throw await session.fail(connection, error);
  } finally {
    cancel();
    signal.removeEventListener('abort', stop);
    stop();
  }
}
