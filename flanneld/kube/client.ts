// Requests to the API server: one exchange each, and watches as streams of events. Connections are kept and used again, and
// made anew when certificates change.

import http, { Agent as HttpAgent, type IncomingMessage } from 'node:http';
import https, { Agent as HttpsAgent } from 'node:https';
import { createGunzip } from 'node:zlib';
import type { Readable } from 'node:stream';
import packageJson from '../../package.json' with { type: 'json' };
import { NetError } from '../../model/errors.ts';
import type { Credentials } from './credentials.ts';
import { apiError, connectionError } from './failure.ts';
import { acceptOf, formatOf } from './formats.ts';
import type { Message } from './protobuf.ts';

/** Kubernetes' own words for the bodies of patches. */
const STRATEGIC = 'application/strategic-merge-patch+json';
const JSON_TYPE = 'application/json';

/** Milliseconds without a byte after which a server counts as gone. */
const SILENCE_MS = 15_000;
/** A whole answer takes no longer, however it drips. */
const CALL_MS = 60_000;
/** An API server tells how far a watch has got (a bookmark) about once a minute. */
const WATCH_SILENCE_MS = 150_000;
/** Of an object: etcd takes none over 1.5 MB. */
const MOST_BYTES = 8 << 20;

/** What an answer is unpacked into at a time: a list of a big cluster is hundreds of megabytes. */
const UNPACKED_BYTES = 64 << 10;

export type Query = Readonly<Record<string, string | number | undefined>>;

/** All objects of one kind. */
export interface Collection {
  /** "/api/v1/nodes" */
  readonly path: string;
  /** What is wanted of each object; undefined: all of it. A server that has only JSON tells all of it, too. */
  readonly message?: Message | undefined;
}

/** Told whole: of a policy, what we don't know counts too. */
export const NETWORK_POLICIES: Collection = { path: '/apis/networking.k8s.io/v1/networkpolicies' };

/** Every function fails with a NetError: kube-unreachable, kube-refused, not-in-kube, file-unreadable. */
export interface KubeClient {
  get(path: string, query: Query, signal: AbortSignal): Promise<unknown>;
  /** Gives each item of a list as it comes in, so that no more than one is held. @returns the list without its items */
  list(of: Collection, query: Query, signal: AbortSignal, onItem: (item: unknown) => void): Promise<unknown>;
  /** A strategic merge patch: lists merge by their keys, null takes a key away. */
  patch(path: string, body: unknown, signal: AbortSignal): Promise<unknown>;
  create(path: string, body: unknown, signal: AbortSignal): Promise<unknown>;
  /**
   * What is told of changes, in groups as they came in; first an empty one, when the server has accepted. Ends when the
   * server ends it.
   */
  watch(of: Collection, query: Query, signal: AbortSignal): AsyncIterable<readonly unknown[]>;
  /** Makes new connections in place of those that are there. */
  reconnect(): void;
  close(): void;
}

export interface ClientTimes {
  readonly silenceMs?: number | undefined;
  readonly watchSilenceMs?: number | undefined;
}

interface Call {
  readonly method: 'GET' | 'PATCH' | 'POST';
  readonly path: string;
  readonly query?: Query;
  readonly type?: string;
  readonly body?: unknown;
  readonly message?: Message | undefined;
  readonly silenceMs: number;
}

/** Connects when used. */
export function openClient(
  credentials: () => Promise<Credentials>,
  { silenceMs = SILENCE_MS, watchSilenceMs = WATCH_SILENCE_MS }: ClientTimes = {},
): KubeClient {
  let pool: { readonly key: string; readonly agent: HttpAgent } | undefined;

  function agentFor({ server, tls }: Credentials): HttpAgent {
    const key = JSON.stringify([server, tls]);
    if (pool?.key === key) return pool.agent;
    pool?.agent.destroy();
    const agent = server.startsWith('https:')
      ? new HttpsAgent({ keepAlive: true, ...tls })
      : new HttpAgent({ keepAlive: true });
    pool = { key, agent };
    return agent;
  }

  /** The answer's head, whose status says that it is what was asked for. */
  async function open(call: Call, signal: AbortSignal): Promise<IncomingMessage> {
    signal.throwIfAborted();
    const access = await credentials();
    const url = new URL(`${access.server}${call.path}`);
    for (const [key, value] of Object.entries(call.query ?? {}))
      if (value !== undefined) url.searchParams.set(key, String(value));
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const what = `${call.method} ${call.path}`;
    const headers = {
      accept: acceptOf(call.message),
      'accept-encoding': 'gzip',
      'user-agent': `flannel-ts/${packageJson.version}`,
      ...(access.authorization && { authorization: access.authorization }),
      ...(body && { 'content-type': call.type ?? JSON_TYPE, 'content-length': body.length }),
    };
    const { request } = url.protocol === 'https:' ? https : http;
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(url, { method: call.method, agent: agentFor(access), headers, signal });
      sent.setTimeout(call.silenceMs, () =>
        sent.destroy(new NetError('timeout', `no answer for ${call.silenceMs} ms`)),
      );
      sent.on('response', resolve);
      sent.on('error', (error) => reject(signal.aborted ? signal.reason : connectionError(what, access.server, error)));
      sent.end(body);
    });
    const { statusCode: status = 0 } = response;
    if (status >= 200 && status < 300) return response;
    throw apiError(
      what,
      status,
      await whole(response)
        .then(formatOf(response.headers['content-type'], call.message).status)
        .catch(() => undefined),
      response.headers['retry-after'],
    );
  }

  async function exchange(
    call: Omit<Call, 'silenceMs'>,
    signal: AbortSignal,
    read: (response: IncomingMessage) => Promise<unknown> = async (response) =>
      JSON.parse((await whole(response)).toString()),
  ): Promise<unknown> {
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]);
    try {
      return await read(await open({ ...call, silenceMs }, bounded));
    } catch (error) {
      signal.throwIfAborted();
      throw error instanceof NetError ? error : connectionError(`${call.method} ${call.path}`, 'answer', error);
    }
  }

  return {
    get: (path, query, signal) => exchange({ method: 'GET', path, query }, signal),
    list: ({ path, message }, query, signal, onItem) =>
      exchange({ method: 'GET', path, query, message }, signal, (response) => itemsOf(response, message, onItem)),
    patch: (path, body, signal) => exchange({ method: 'PATCH', path, body, type: STRATEGIC }, signal),
    create: (path, body, signal) => exchange({ method: 'POST', path, body }, signal),
    async *watch({ path, message }, query, signal) {
      const response = await open({ method: 'GET', path, query, message, silenceMs: watchSilenceMs }, signal);
      const cut = formatOf(response.headers['content-type'], message).events(MOST_BYTES);
      yield [];
      try {
        for await (const chunk of plain(response)) {
          const events = cut(chunk as Buffer);
          if (events.length > 0) yield events;
        }
      } catch (error) {
        signal.throwIfAborted();
        throw connectionError(`watch ${path}`, 'connection', error);
      } finally {
        response.destroy();
      }
    },
    reconnect() {
      pool?.agent.destroy();
      pool = undefined;
    },
    close: () => pool?.agent.destroy(),
  };
}

function plain(response: IncomingMessage): Readable {
  if (response.headers['content-encoding'] !== 'gzip') return response;
  return response.pipe(createGunzip({ chunkSize: UNPACKED_BYTES }));
}

async function itemsOf(
  response: IncomingMessage,
  message: Message | undefined,
  onItem: (item: unknown) => void,
): Promise<unknown> {
  const reader = formatOf(response.headers['content-type'], message).list(MOST_BYTES);
  for await (const chunk of plain(response)) for (const item of reader.push(chunk as Buffer)) onItem(item);
  return reader.rest();
}

async function whole(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of plain(response)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
