// Sends UDP datagrams from one address and port, one after the other. Run in a namespace:
//   send-datagrams.ts FROM PORT <lines of: receiver's address, port, the bytes in hexadecimal digits

import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

const [from = '', port] = process.argv.slice(2);
const socket = createSocket(from.includes(':') ? 'udp6' : 'udp4');
await new Promise<void>((resolve) => void socket.bind(Number(port), from, resolve));
for await (const line of createInterface({ input: process.stdin })) {
  const [to = '', toPort, data = ''] = line.split(' ');
  await new Promise<void>((resolve, reject) =>
    socket.send(Buffer.from(data, 'hex'), Number(toPort), to, (error) => (error ? reject(error) : resolve())),
  );
}
socket.close();
