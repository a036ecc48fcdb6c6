// A server for one row: answers every TCP connection and every datagram with its name and the caller's address, until it
// is ended. node echo.ts NAME PORT...; says "ready" once it listens on all of them.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

const [name = '', ...ports] = process.argv.slice(2);
const answer = (address = ''): string => `${name} ${address.replace(/^::ffff:/, '')}\n`;

for (const port of ports.map(Number)) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(answer(socket.remoteAddress));
  });
  await once(server.listen(port, '::'), 'listening');
  const datagrams = createSocket('udp6');
  datagrams.on('message', (_, { address, port: from }) => datagrams.send(answer(address), from, address));
  datagrams.bind(port, '::');
  await once(datagrams, 'listening');
}
process.stdout.write('ready\n');
