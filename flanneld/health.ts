// The agent's HTTP: /healthz (the process lives), /readyz (pods can be served), /status (everything, as
// JSON), /metrics (the same for Prometheus). On a TCP port
// where --healthz-port asks for it, and always on a unix socket beside the subnet file, for `flanneld status`.

import type { RequestListener, Server } from 'node:http';
import { NetError } from '../model/errors.ts';
import type { AgentConfig } from './config.ts';
import { createServer } from './http.ts';
import { METRICS_TYPE, metricsText } from './metrics.ts';
import { processFacts } from './process-facts.ts';
import type { AgentStatus } from './agent-status.ts';

/** What the answers are made of. */
export interface HealthView {
  unreadiness(): string | undefined;
  /** What is to be known of a node that is ready, a line each. */
  remarks?(): readonly string[];
  /** What {@link status} needs to be read first, where that takes long. */
  examine(): Promise<void>;
  status(): AgentStatus;
}

interface Answer {
  readonly code: number;
  readonly type: 'text/plain' | 'application/json' | typeof METRICS_TYPE;
  readonly body: string;
}

const text = (code: number, body: string): Answer => ({ code, type: 'text/plain', body: `${body}\n` });

/** Answers of others, by path. */
export type Routes = ReadonlyMap<string, RequestListener>;

async function answer(path: string, view: HealthView): Promise<Answer> {
  switch (path) {
    case '/healthz':
      return text(200, 'flanneld is running');
    case '/readyz': {
      const reason = view.unreadiness();
      return reason === undefined ? text(200, ['ready', ...(view.remarks?.() ?? [])].join('\n')) : text(503, reason);
    }
    case '/status':
      await view.examine();
      return { code: 200, type: 'application/json', body: `${JSON.stringify(view.status())}\n` };
    case '/metrics':
      await view.examine();
      return { code: 200, type: METRICS_TYPE, body: metricsText(view.status(), processFacts()) };
    default:
      return text(404, 'paths: /healthz /readyz /status /metrics');
  }
}

const listener =
  (view: HealthView, routes: Routes): RequestListener =>
  async (request, response) => {
    const other = routes.get(request.url?.split('?')[0] ?? '');
    if (other !== undefined && request.method === 'GET') return other(request, response);
    const known = request.method === 'GET' || request.method === 'HEAD';
    const { code, type, body } = known
      ? await answer(request.url?.split('?')[0] ?? '/', view)
      : text(405, 'GET and HEAD only');
    response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body), connection: 'close' });
    response.end(request.method === 'HEAD' ? undefined : body);
  };

/** A server of these answers that isn't listening yet. Its timeouts keep a silent client from holding a connection. */
export const healthServer = (view: HealthView, routes: Routes = new Map()): Server =>
  createServer({ requestTimeout: 5000, headersTimeout: 5000, keepAliveTimeout: 1000 }, listener(view, routes));

/** Serves on a TCP port. @throws NetError invalid-flag naming --healthz-ip and --healthz-port when it can't */
export async function serveHealth(
  view: HealthView,
  { address, port }: NonNullable<AgentConfig['health']>,
): Promise<Server> {
  const server = healthServer(view);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new NetError('invalid-flag', `--healthz-ip=${address} --healthz-port=${port}: ${cause.code}`, {
          cause,
          errno: cause.code,
          subject: '--healthz-port',
        }),
      ),
    );
    server.listen(port, address, resolve);
  });
  return server;
}
