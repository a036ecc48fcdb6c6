// Runs on the machine of etcd: writes and deletes leases of peers at request, a JSON line each way, and says when.
//
//   lease-writer.ts ENDPOINT

import { createInterface } from 'node:readline';
import { connect, type EtcdConnection } from '../flanneld/subnet/etcd-connection.ts';

export type WriterRequest =
  /** Each key has an etcd lease of its own, as those of agents do. */
  | { readonly verb: 'put'; readonly entries: readonly (readonly [key: string, value: string])[] }
  | { readonly verb: 'delete'; readonly key: string };

/** Nanoseconds of CLOCK_MONOTONIC, as text: when etcd was asked, and when it had answered. */
export interface WriterReply {
  readonly asked: string;
  readonly answered: string;
}

const LEASE_SECONDS = 86_400;
const AT_ONCE = 50;

async function put(etcd: EtcdConnection, [key, value]: readonly [string, string], grant: string): Promise<void> {
  await etcd.txn([], [{ request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: grant } }]);
}

/** What is asked for only once the etcd lease is there, as an agent's own key is. */
async function serve(etcd: EtcdConnection, request: WriterRequest): Promise<WriterReply> {
  if (request.verb === 'put' && request.entries.length > 1) {
    const waiting = [...request.entries];
    const work = async () => {
      for (let entry = waiting.pop(); entry !== undefined; entry = waiting.pop())
        await put(etcd, entry, await etcd.grant(LEASE_SECONDS));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return { asked: '0', answered: '0' };
  }
  const grant = request.verb === 'put' ? await etcd.grant(LEASE_SECONDS) : '';
  const asked = String(process.hrtime.bigint());
  if (request.verb === 'put') for (const entry of request.entries) await put(etcd, entry, grant);
  else await etcd.txn([], [{ request_delete_range: { key: Buffer.from(request.key) } }]);
  return { asked, answered: String(process.hrtime.bigint()) };
}

const access = { endpoint: process.argv[2] as string, tls: undefined, user: undefined };
const etcd = await connect(access, Buffer.from('/'), new AbortController().signal);
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await serve(etcd, JSON.parse(line) as WriterRequest))}\n`);
}
process.exit(0);
