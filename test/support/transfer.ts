// Carries bytes over TCP and tells their SHA-256 at both ends. Run in a namespace, once for each role:
//   transfer.ts receive PORT            prints "ready", then the sum of what the first client sends
//   transfer.ts send ADDRESS PORT BYTES prints the sum of what it has sent

import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';

const CHUNK = 1 << 18;
/** What takes longer has got stuck. */
const SECONDS = 60;
setTimeout(() => process.exit(1), SECONDS * 1000).unref();

const hash = createHash('sha256');
const [role, ...rest] = process.argv.slice(2);

/** Bytes without any pattern, so that one in a wrong place is seen. */
function* patternless(bytes: number): Generator<Buffer> {
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  for (let left = bytes; left > 0; left -= CHUNK) {
    const chunk = stream.update(Buffer.alloc(Math.min(CHUNK, left)));
    hash.update(chunk);
    yield chunk;
  }
}

if (role === 'send') {
  const [address = '', port, bytes] = rest;
  const socket = connect(Number(port), address);
  Readable.from(patternless(Number(bytes))).pipe(socket);
  socket.resume();
  await finished(socket);
} else {
  const server = createServer().listen(Number(rest[0]), '::', () => console.log('ready'));
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  for await (const chunk of socket) hash.update(chunk);
}
console.log(hash.digest('hex'));
