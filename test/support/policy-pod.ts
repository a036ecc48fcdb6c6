// A pod of the policy tests, run inside its network namespace: it answers on TCP and UDP, ports 80 and 81, and probes others
// when a line on standard input tells it to. It ends with its standard input.

import { createSocket } from 'node:dgram';
import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';

interface Order {
  readonly id: number;
  readonly to: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP';
  /** Milliseconds. */
  readonly patience: number;
}

const RESEND_MS = 100;

function listen(port: number): Promise<void>[] {
  return ['::', '0.0.0.0'].flatMap((host) => {
    const socket = host === '::' ? createSocket({ type: 'udp6', ipv6Only: true }) : createSocket('udp4');
    socket.on('message', (message, from) => socket.send(message, from.port, from.address));
    const server = createServer((client) => client.on('error', () => undefined).pipe(client));
    return [
      new Promise<void>((resolve) => socket.bind(port, host, resolve)),
      new Promise<void>((resolve) => server.listen({ port, host, ipv6Only: true }, resolve)),
    ];
  });
}

const probeTcp = ({ to, port, patience }: Order): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: to, port });
    const end = (reached: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reached);
    };
    const timer = setTimeout(end, patience, false);
    socket.once('error', () => end(false));
    socket.once('data', () => end(true));
    socket.write('x');
  });

const probeUdp = ({ to, port, patience }: Order): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket(to.includes(':') ? 'udp6' : 'udp4');
    const send = () => socket.send('x', port, to);
    const end = (reached: boolean) => {
      clearTimeout(timer);
      clearInterval(again);
      socket.close();
      resolve(reached);
    };
    const timer = setTimeout(end, patience, false);
    const again = setInterval(send, RESEND_MS);
    socket.on('error', () => undefined);
    socket.once('message', () => end(true));
    send();
  });

await Promise.all([80, 81].flatMap(listen));
process.stdout.write('ready\n');
createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const order = JSON.parse(line) as Order;
    const reached = await (order.protocol === 'TCP' ? probeTcp(order) : probeUdp(order));
    process.stdout.write(`${JSON.stringify({ id: order.id, reached })}\n`);
  })
  .on('close', () => process.exit(0));
