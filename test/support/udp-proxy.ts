// The udp backend's data path for tests: compiled, started in a namespace, and spoken to as the agent does. The messages
// are specified in flanneld/backend/udp-proxy.c.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import type { Test } from 'tap';
import { addressOf, familyOf, type Ip, lengthOf, type Prefix, toBytes } from '../../model/ip.ts';
import { ANSWER_BYTES, COUNTERS, type ProxyCounters } from '../../flanneld/backend/udp-control.ts';
import type { TestNamespace } from './namespace.ts';
import { temporaryDirectory } from './temporary.ts';

const SOURCE = join(import.meta.dirname, '../../flanneld/backend/udp-proxy.c');
const WARNINGS = ['-std=gnu11', '-Wall', '-Wextra', '-Wshadow', '-Wconversion', '-Werror'];
const STATIC: readonly string[] = ['-O2', '-static'];
export const SANITIZED: readonly string[] = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];

export const PORT = 8285;
export const MAX_ROUTES = 16384;
export const MESSAGE_BYTES = 40;
export interface Route {
  readonly network: Prefix;
  readonly nextHop: Ip;
  readonly port?: number;
}

const TYPES = { set: 1, delete: 2, begin: 3, commit: 4, count: 5, stop: 6 };

/** Compiles the program; it is gone after the test. */
export function compileProxy(t: Test, flags: readonly string[] = STATIC): string {
  const directory = temporaryDirectory(t);
  const binary = join(directory, 'udp-proxy');
  execFileSync('cc', [...WARNINGS, ...flags, '-o', binary, SOURCE], { stdio: ['ignore', 'inherit', 'inherit'] });
  return binary;
}

/** An address as 16 bytes. */
function wide(address: Ip): Uint8Array {
  const bytes = toBytes(address);
  return bytes.length === 16 ? bytes : Uint8Array.from([...new Array(10).fill(0), 0xff, 0xff, ...bytes]);
}

function message(type: keyof typeof TYPES, network?: Prefix): Buffer {
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  bytes[0] = TYPES[type];
  if (network === undefined) return bytes;
  bytes[1] = lengthOf(network) + (familyOf(network) === 4 ? 96 : 0);
  bytes.set(wide(addressOf(network)), 8);
  return bytes;
}

export const STOP = message('stop');
export const deletion = (network: Prefix): Buffer => message('delete', network);

export function setting({ network, nextHop, port = PORT }: Route): Buffer {
  const bytes = message('set', network);
  bytes.writeUInt16BE(port, 2);
  bytes.set(wide(nextHop), 24);
  return bytes;
}

/** The messages that put these routes in the place of all others. */
export const replacement = (routes: readonly Route[]): Buffer =>
  Buffer.concat([message('begin'), ...routes.map(setting), message('commit')]);

function countersOf(bytes: Buffer): ProxyCounters {
  const entries = COUNTERS.map((name, index) => [name, Number(bytes.readBigUInt64BE(index * 8))]);
  return Object.fromEntries(entries);
}

export interface Ended {
  readonly status: number | null;
  readonly errors: string;
}

/** A running proxy with the control descriptor's other end. */
export class UdpProxy {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #control: Duplex;
  #received = Buffer.alloc(0);
  #waiting: PromiseWithResolvers<ProxyCounters>[] = [];

  constructor(binary: string, where: TestNamespace, args: readonly string[]) {
    // Looking for leaks needs privileges, and nothing is allocated.
    const environment = { ASAN_OPTIONS: 'detect_leaks=0' };
    this.#child = spawn('nsenter', [`--net=${where.path}`, binary, ...args], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'inherit', 'pipe', 'pipe'],
    });
    this.#control = this.#child.stdio[3] as Duplex;
    this.#control.on('data', (chunk: Buffer) => this.#take(chunk));
    // What is written to a proxy that has ended is lost; its end is what tests look at.
    this.#control.on('error', () => undefined);
    this.ended = this.#end();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async #end(): Promise<Ended> {
    let errors = '';
    (this.#child.stderr as Readable).on('data', (chunk: Buffer) => (errors += chunk));
    const [status] = (await once(this.#child, 'close')) as [number | null];
    for (const { reject } of this.#waiting) reject(new Error(`the proxy ended with ${status}: ${errors}`));
    return { status, errors };
  }

  #take(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    for (; this.#received.length >= ANSWER_BYTES; this.#received = this.#received.subarray(ANSWER_BYTES))
      this.#waiting.shift()?.resolve(countersOf(this.#received));
  }

  #answer(): Promise<ProxyCounters> {
    const waiting = Promise.withResolvers<ProxyCounters>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  /** Resolves when it forwards. To be called once, at once. */
  ready(): Promise<ProxyCounters> {
    return this.#answer();
  }

  /** Sends messages, or anything else. */
  send(...messages: readonly Uint8Array[]): void {
    this.#control.write(Buffer.concat(messages));
  }

  /** The counters when everything sent before is done. @throws Error when the proxy ends instead */
  counters(): Promise<ProxyCounters> {
    this.send(message('count'));
    return this.#answer();
  }

  /** Closes control, as an agent that has gone does. */
  close(): void {
    this.#control.destroy();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Starts a proxy that ends with the test; resolves when it forwards. @throws Error when it can't start */
export async function startProxy(
  t: Test,
  binary: string,
  where: TestNamespace,
  args: readonly string[],
): Promise<UdpProxy> {
  const proxy = new UdpProxy(binary, where, args);
  t.teardown(async () => {
    proxy.kill();
    await proxy.ended;
  });
  await proxy.ready();
  return proxy;
}
