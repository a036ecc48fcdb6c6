// A small API server for what a real one can't be brought to show: histories that end when the test says so, connections cut
// in the middle of a line, silence. One kind of object (Nodes) with list, watch, get, patch, and Events that are only kept.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeNode {
  metadata: {
    name: string;
    uid: string;
    resourceVersion: string;
    annotations: Record<string, string>;
  };
  spec: { podCIDRs?: string[]; podCIDR?: string };
  status: { conditions: Record<string, unknown>[] };
}

type Kind = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface FakeApiServer {
  readonly url: string;
  readonly nodes: ReadonlyMap<string, FakeNode>;
  /** Events that were created or patched, as they stand. */
  readonly events: Map<string, Record<string, unknown>>;
  /** Requests that were answered, "GET /api/v1/nodes?…". */
  readonly requests: string[];
  /** Answers in place of its own; undefined leaves it to the server. */
  refuse: (
    method: string,
    path: string,
  ) => { status: number; headers?: Record<string, string>; body?: unknown } | undefined;
  put(name: string, change: { podCIDRs?: string[]; annotations?: Record<string, string> }): FakeNode;
  remove(name: string): void;
  /** History before now is gone. */
  compact(): void;
  /** Ends every watch, in the middle of a line. */
  cut(): void;
  /** Sends each watch an error, as for a history that has gone. */
  expire(): void;
  bookmark(): void;
  /** From now on watches are told nothing; the function tells them the next so many changes, and without a number all. */
  hold(): (changes?: number) => void;
  /** Watches that are open. */
  watches(): number;
  close(): Promise<void>;
}

export async function startFakeApiServer(): Promise<FakeApiServer> {
  const nodes = new Map<string, FakeNode>();
  const events = new Map<string, Record<string, unknown>>();
  const requests: string[] = [];
  const history: { version: number; type: Kind; node: string }[] = [];
  const watches = new Set<ServerResponse>();
  let held: string[] | undefined;
  let [version, oldest, uids] = [1, 0, 0];

  function record(type: Kind, node: FakeNode): void {
    node.metadata.resourceVersion = String(++version);
    const line = JSON.stringify({ type, object: node });
    history.push({ version, type, node: line });
    if (held !== undefined) held.push(line);
    else tell(line);
  }

  function tell(line: string): void {
    for (const watch of watches) watch.write(`${line}\n`);
  }

  function list(url: URL, response: ServerResponse): void {
    const all = [...nodes.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const [from, of] = (url.searchParams.get('continue') ?? `0 ${version}`).split(' ').map(Number) as [number, number];
    if (of < oldest) {
      send(response, 410, { message: 'the provided continue parameter is too old' });
      return;
    }
    const end = from + Number(url.searchParams.get('limit') ?? all.length);
    const more = end < all.length ? { continue: `${end} ${of}` } : {};
    send(response, 200, { metadata: { resourceVersion: String(of), ...more }, items: all.slice(from, end) });
  }

  function watch(url: URL, response: ServerResponse): void {
    const since = Number(url.searchParams.get('resourceVersion'));
    if (since < oldest) {
      send(response, 410, { message: 'too old resource version' });
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of history) if (event.version > since) response.write(`${event.node}\n`);
    watches.add(response);
    response.on('close', () => watches.delete(response));
  }

  function patch(
    node: FakeNode,
    body: { metadata?: { annotations?: Record<string, string | null> }; status?: FakeNode['status'] },
  ): void {
    for (const [key, value] of Object.entries(body.metadata?.annotations ?? {})) {
      if (value === null) delete node.metadata.annotations[key];
      else node.metadata.annotations[key] = value;
    }
    for (const condition of body.status?.conditions ?? []) {
      const others = node.status.conditions.filter(({ type }) => type !== condition.type);
      node.status.conditions = [...others, condition];
    }
    record('MODIFIED', node);
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake');
    const method = request.method ?? 'GET';
    requests.push(`${method} ${request.url}`);
    const refused = server.refuse(method, `${url.pathname}${url.search}`);
    if (refused !== undefined) return send(response, refused.status, refused.body ?? {}, refused.headers);
    const body = method === 'GET' ? undefined : JSON.parse(await textOf(request));
    if (url.pathname === '/api/v1/nodes')
      return url.searchParams.has('watch') ? watch(url, response) : list(url, response);
    const [, events_, event] = /^\/api\/v1\/namespaces\/default\/(events)\/?(.*)$/.exec(url.pathname) ?? [];
    if (events_ !== undefined) {
      const name = event || body.metadata.name;
      events.set(name, { ...events.get(name), ...body });
      return send(response, 200, {});
    }
    const [, name = ''] = /^\/api\/v1\/nodes\/([^/]+)(\/status)?$/.exec(url.pathname) ?? [];
    const node = nodes.get(name);
    if (node === undefined) return send(response, 404, { message: `nodes "${name}" not found` });
    if (method === 'PATCH') patch(node, body);
    send(response, 200, node);
  }

  const http = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const server: FakeApiServer = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    nodes,
    events,
    requests,
    refuse: () => undefined,
    put(name, { podCIDRs, annotations = {} }) {
      const known = nodes.get(name);
      const node = known ?? {
        metadata: { name, uid: `uid-${++uids}`, resourceVersion: '', annotations: {} },
        spec: {},
        status: { conditions: [] },
      };
      Object.assign(node.metadata.annotations, annotations);
      if (podCIDRs !== undefined) node.spec = { podCIDRs, ...(podCIDRs[0] && { podCIDR: podCIDRs[0] }) };
      nodes.set(name, node);
      record(known === undefined ? 'ADDED' : 'MODIFIED', node);
      return node;
    },
    remove(name) {
      const node = nodes.get(name);
      nodes.delete(name);
      if (node !== undefined) record('DELETED', node);
    },
    compact() {
      oldest = version;
      history.length = 0;
    },
    cut() {
      for (const watch of watches) {
        watch.write('{"type":"MODIFIED","object":{"metad');
        watch.destroy();
      }
    },
    expire() {
      const status = { kind: 'Status', code: 410, message: 'too old resource version' };
      for (const watch of watches) watch.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
    },
    bookmark() {
      const object = { metadata: { resourceVersion: String(version) } };
      for (const watch of watches) watch.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    },
    hold() {
      const lines: string[] = [];
      held = lines;
      return (changes) => {
        for (const line of lines.splice(0, changes ?? lines.length)) tell(line);
        if (changes === undefined) held = undefined;
      };
    },
    watches: () => watches.size,
    async close() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
  return server;
}

function send(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}
