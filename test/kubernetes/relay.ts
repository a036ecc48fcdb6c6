// Carries connections from a path or port to an address in its own network namespace, and cuts them when told so: a line
// "cut" on stdin. `node relay.ts PATH|PORT HOST PORT`; prints "ready".

import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const [listen = '', host = '', port = ''] = process.argv.slice(2);
const open = new Set<Socket>();
const server = createServer((from) => {
  const to = connect({ host, port: Number(port) });
  for (const [one, other] of [
    [from, to],
    [to, from],
  ] as const) {
    open.add(one);
    one.on('error', () => other.destroy());
    one.on('close', () => {
      open.delete(one);
      other.destroy();
    });
    one.pipe(other);
  }
});
server.listen(/^\d+$/.test(listen) ? { port: Number(listen), host: '0.0.0.0' } : { path: listen }, () =>
  process.stdout.write('ready\n'),
);
const lines = createInterface({ input: process.stdin });
lines.on('line', () => {
  for (const socket of open) socket.destroy();
  process.stdout.write('cut\n');
});
lines.on('close', () => process.exit(0));
