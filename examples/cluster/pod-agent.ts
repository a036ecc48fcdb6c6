// Runs inside a pod of the practice cluster: a TCP server that answers with the pod's name and what it saw of the caller,
// and on request (a JSON line each on stdin) a ping or a connection to others, in parallel.

import { execFile } from 'node:child_process';
import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';

/** Port of the TCP server in every pod. */
const POD_PORT = 8080;

export interface ProbeRequest {
  readonly id: number;
  readonly kind: 'ping' | 'tcp';
  readonly to: string;
  readonly port?: number | undefined;
  /** ping: payload bytes; sent with DF. */
  readonly size?: number | undefined;
  readonly count?: number | undefined;
  /** ping: seconds between packets. */
  readonly interval?: number | undefined;
}

export interface ProbeReply {
  readonly id: number;
  readonly ok: boolean;
  /** tcp: what the server said; ping: its summary; else why it failed. */
  readonly detail: string;
}

function ping({ to, size, count = 1, interval = 0.2 }: ProbeRequest): Promise<Omit<ProbeReply, 'id'>> {
  const sized = size === undefined ? [] : ['-M', 'do', '-s', String(size)];
  const args = ['-n', '-q', '-c', String(count), '-i', String(interval), '-W', '2', ...sized, to];
  return new Promise((resolve) => {
    execFile('ping', args, (error, stdout, stderr) => {
      const summary = /(\d+) packets transmitted, (\d+) received/.exec(stdout)?.[0] ?? (stderr.trim() || String(error));
      resolve({ ok: error === null, detail: summary });
    });
  });
}

function tcp({ to, port = POD_PORT }: ProbeRequest): Promise<Omit<ProbeReply, 'id'>> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect({ host: to, port, timeout: 3000 });
    socket.on('data', (chunk) => (said += chunk));
    socket.on('end', () => resolve({ ok: said !== '', detail: said.trim() }));
    socket.on('timeout', () => socket.destroy(new Error(`no answer from ${to} within 3 s`)));
    socket.on('error', (error) => resolve({ ok: false, detail: error.message }));
  });
}

function serve(name: string): void {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`${name} ${socket.remoteAddress?.replace(/^::ffff:/, '')}\n`);
  });
  server.listen(POD_PORT, '::', () => process.stdout.write('ready\n'));
}

async function answer(line: string): Promise<void> {
  const request = JSON.parse(line) as ProbeRequest;
  const result = await (request.kind === 'ping' ? ping(request) : tcp(request));
  process.stdout.write(`${JSON.stringify({ id: request.id, ...result } satisfies ProbeReply)}\n`);
}

const name = process.argv[2];
if (name !== undefined) {
  serve(name);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => void answer(line));
  lines.on('close', () => process.exit(0));
}
