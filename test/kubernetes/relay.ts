// Carries connections from a path or port to an address in its own network namespace. Does what it is told, a line on stdin
// that is answered with the same: "cut" breaks every connection, "slow MS" holds up each piece by so many milliseconds.
// `node relay.ts PATH|PORT HOST PORT`; prints "ready".

import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { Transform } from 'node:stream';

const [listen = '', host = '', port = ''] = process.argv.slice(2);
const open = new Set<Socket>();
let pauseMs = 0;

const slowly = (): Transform =>
  new Transform({
    transform(piece, _, done) {
      if (pauseMs === 0) done(null, piece);
      else setTimeout(() => done(null, piece), pauseMs);
    },
  });

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
    one.pipe(slowly()).pipe(other);
  }
});
server.listen(/^\d+$/.test(listen) ? { port: Number(listen), host: '0.0.0.0' } : { path: listen }, () =>
  process.stdout.write('ready\n'),
);
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const [verb, value = ''] = line.split(' ');
  if (verb === 'slow') pauseMs = Number(value);
  else for (const socket of open) socket.destroy();
  process.stdout.write(`${line}\n`);
});
lines.on('close', () => process.exit(0));
