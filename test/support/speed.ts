// How fast bytes travel over TCP from one namespace to another.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import type { TestNamespace } from './namespace.ts';

const SINK = `require('node:net').createServer({ allowHalfOpen: true }, (c) => c.resume().on('end', () => c.end()))
.listen(+process.argv[1], '::', () => console.log('ready'));`;

const SOURCE = `const [to, port, bytes] = process.argv.slice(1);
const socket = require('node:net').connect({ host: to, port: +port }, () => {
  const start = performance.now();
  socket.on('close', () => console.log(performance.now() - start)).resume().end(Buffer.alloc(+bytes));
});`;

const PORT = 7000;

/** Starts what receives bytes in the namespace. It ends with the test. */
export async function receiveBytes(t: Test, where: TestNamespace): Promise<void> {
  const command = [`--net=${where.path}`, process.execPath, '-e', SINK, String(PORT)];
  const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
}

/** Bits a second that so many bytes made, until the receiver had them all. */
export function speed(from: TestNamespace, to: string, bytes: number): number {
  const { status, stdout, stderr } = from.run(process.execPath, ['-e', SOURCE, to, String(PORT), String(bytes)]);
  if (status !== 0) throw new Error(`send ${bytes} bytes to ${to}: ${stderr}`);
  return (bytes * 8) / (Number(stdout) / 1000);
}
