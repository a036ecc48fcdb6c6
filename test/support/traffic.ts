// Packets between namespaces: whether they arrive, and what they arrive as.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import type { TestNamespace } from './namespace.ts';

const address = (text: string): string => text.replace(/\/.*/, '');

/** Whether the first echo request is answered, within a second. */
export const pings = (from: TestNamespace, to: string): boolean =>
  from.run('ping', ['-c', '1', '-W', '1', address(to)]).status === 0;

const SERVER = `require('node:net').createServer((c) => c.end(c.remoteAddress)).listen(+process.argv[1], '::', () => console.log('ready'))`;
const CLIENT = `const c = require('node:net').connect({ host: process.argv[1], port: +process.argv[2], timeout: 2000 });
c.on('timeout', () => process.exit(2)).on('error', () => process.exit(1)).on('data', (d) => console.log(String(d)))`;

/** Starts a TCP server that tells each client its address; it ends with the test. */
export async function serveTcp(t: Test, where: TestNamespace, port: number): Promise<ChildProcess> {
  const command = [`--net=${where.path}`, process.execPath, '-e', SERVER, String(port)];
  const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** The address that a server sees when connected to; undefined when it can't be reached. */
export function tcpSource(from: TestNamespace, to: string, port: number): string | undefined {
  const { status, stdout } = from.run(process.execPath, ['-e', CLIENT, address(to), String(port)]);
  return status === 0 && stdout !== '' ? stdout.trim().replace('::ffff:', '') : undefined;
}
