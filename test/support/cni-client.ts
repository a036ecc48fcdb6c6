// The C client for tests: compiled, and executed where /run, /etc and /var/lib are directories of the test's own, in a
// mount namespace; and an agent for it that answers as the test says.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import {
  type Ending,
  type ExecutedMessage,
  type ExecuteMessage,
  encode,
  type Message,
  messageReader,
  type RequestMessage,
} from '../../cni-plugin/wire.ts';
import { temporaryDirectory } from './temporary.ts';

const SOURCE = join(import.meta.dirname, '../../cni-plugin/client.c');
const STRICT = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Wshadow', '-Wconversion', '-Werror'];
const SANITIZED = [...STRICT, '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
export const NAMES = ['flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth'] as const;

/** Compiles the client with these macros, and gives the directory where it lies under all its names. */
export function compileClient(t: Test, macros: Readonly<Record<string, number>> = {}): string {
  const defines = Object.entries(macros).map(([name, value]) => `-D${name}=${value}`);
  const first = compile(t, SOURCE, [...STRICT, '-static', ...defines]);
  for (const other of NAMES.slice(1)) linkSync(first, join(dirname(first), other));
  return dirname(first);
}

/** The program of a C file, the client's if none is given, which ends with a report where it oversteps its memory. */
export const compileSanitized = (t: Test, source = SOURCE): string => compile(t, source, SANITIZED);

function compile(t: Test, source: string, flags: readonly string[]): string {
  const program = join(temporaryDirectory(t), 'flannel');
  execFileSync('cc', [...flags, '-o', program, source], { stdio: ['ignore', 'inherit', 'inherit'] });
  return program;
}

export interface Ended extends Ending {
  readonly signal: NodeJS.Signals | null;
  readonly ms: number;
}

export interface CallOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Undefined: standard input stays open without a byte. */
  readonly input?: string | Uint8Array | undefined;
  /** Commands of the shell before the client, in its mount namespace. */
  readonly before?: string;
  /** What executes the client's path, as words of the shell: "env --ignore-signal=CHLD". */
  readonly through?: string;
}

export interface Call {
  /** Ends it with SIGKILL. */
  kill(): void;
  readonly ended: Promise<Ended>;
}

/** A host for the client: its directories, which are the test's, and calls of the client. */
export interface ClientHost {
  /** The directories that the client sees as /run, /etc and /var/lib. */
  readonly run: string;
  readonly etc: string;
  readonly lib: string;
  readonly socket: string;
  start(program: string, command: string, options?: CallOptions): Call;
  call(program: string, command: string, options?: CallOptions): Promise<Ended>;
}

/** The machine may have an installation of its own. */
const ENTER = `mount --bind "$1/run" /run; mount --bind "$1/lib" /var/lib; mount --bind "$1/etc" /etc; shift
  [ ! -d /usr/lib/flannel-ts ] || mount -t tmpfs tmpfs /usr/lib/flannel-ts`;

export function clientHost(t: Test): ClientHost {
  const root = temporaryDirectory(t);
  for (const path of ['run/flannel', 'lib', 'etc/cni/net.d']) mkdirSync(join(root, path), { recursive: true });
  const start = (program: string, command: string, options: CallOptions = {}): Call => {
    const { env = {}, before = ':', through = '' } = options;
    const script = `set -e; PATH=/usr/sbin:/usr/bin:/sbin:/bin; ${ENTER}; ${before}; exec ${through} "$@"`;
    const words = ['--mount', '--propagation', 'private', '/bin/sh', '-c', script, 'sh', root, program];
    const child = spawn('/usr/bin/unshare', words, { env: { ...ATTACHMENT, CNI_COMMAND: command, ...env } });
    child.stdin.on('error', () => undefined);
    if (!('input' in options) || options.input !== undefined) child.stdin.end(options.input ?? '{}');
    return { kill: () => void child.kill('SIGKILL'), ended: endOf(child) };
  };
  return {
    run: join(root, 'run/flannel'),
    etc: join(root, 'etc/cni/net.d'),
    lib: join(root, 'lib'),
    socket: join(root, 'run/flannel/cni.sock'),
    start,
    call: (...all) => start(...all).ended,
  };
}

const ATTACHMENT = {
  CNI_CONTAINERID: 'pod1',
  CNI_NETNS: '/var/run/netns/pod1',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
};

async function endOf(child: ReturnType<typeof spawn>): Promise<Ended> {
  const started = performance.now();
  const chunks: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  for (const name of ['stdout', 'stderr'] as const) child[name]?.on('data', (chunk) => chunks[name].push(chunk));
  const [status, signal] = await once(child, 'close');
  const [output, errors] = [chunks.stdout, chunks.stderr].map((each) => Buffer.concat(each).toString()) as [
    string,
    string,
  ];
  return { status: status ?? -1, signal, output, errors, ms: performance.now() - started };
}

/** One connection of a client to the agent. */
export interface Conversation {
  readonly request: RequestMessage;
  /** Has the client execute a plugin. */
  execute(order: Partial<Omit<ExecuteMessage, 'kind'>>): Promise<ExecutedMessage>;
  answer(ending: Partial<Ending>): void;
  send(bytes: Uint8Array): void;
  /** Closes the connection as the death of the agent does. */
  drop(): void;
}

export interface TestAgent {
  /** What came, in order. */
  readonly requests: readonly RequestMessage[];
  close(): Promise<void>;
}

/** Listens on the path and serves every request. */
export async function testAgent(
  t: Test,
  path: string,
  serve: (conversation: Conversation) => void | Promise<void>,
): Promise<TestAgent> {
  const requests: RequestMessage[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    converse(socket, (conversation) => {
      requests.push(conversation.request);
      return serve(conversation);
    });
  });
  await once(server.listen(path), 'listening');
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  t.teardown(close);
  return { requests, close };
}

function converse(socket: Socket, serve: (conversation: Conversation) => void | Promise<void>): void {
  const read = messageReader();
  let executed = Promise.withResolvers<ExecutedMessage>();
  const take = (message: Message): void => {
    if (message.kind === 'executed') {
      executed.resolve(message);
      return;
    }
    if (message.kind !== 'request') throw new Error(`the client sent ${message.kind}`);
    void serve({
      request: message,
      execute: ({ plugin = 'other', environment = {}, input = '' }) => {
        executed = Promise.withResolvers();
        socket.write(encode({ kind: 'execute', plugin, environment, input }));
        return executed.promise;
      },
      answer: ({ status = 0, output = '', errors = '' }) => {
        socket.end(encode({ kind: 'result', status, output, errors }));
      },
      send: (bytes) => void socket.write(bytes),
      drop: () => socket.destroy(),
    });
  };
  socket.on('data', (chunk: Buffer) => {
    for (const message of read(chunk)) take(message);
  });
}

/** The error object that a call printed, and nothing but that. */
export function errorOf(t: Test, { status, output }: Ended, code: number, words: RegExp): void {
  t.equal(status, 1);
  const error = JSON.parse(output);
  t.match(error, { cniVersion: '1.1.0', code });
  t.match(error.msg, words);
}
