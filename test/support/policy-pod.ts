// A pod of the policy tests, run inside its network namespace: it answers on TCP, UDP and SCTP, ports 80 and 81, and
// probes others when a line on standard input tells it to. It ends with its standard input.

import { createSocket } from 'node:dgram';
import { afterwards } from './afterwards.ts';
import { sctpProber } from './sctp.ts';
import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';

interface Order {
  readonly id: number;
  /** probe: ask once; open: begin a flow that stays; say: ask on it; hear: wait for what comes on it; shout: send to all. */
  readonly kind: 'probe' | 'open' | 'say' | 'hear' | 'shout';
  readonly to: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  /** Of say and hear: the order that opened it. */
  readonly flow: number;
  /** Milliseconds. */
  readonly patience: number;
}

const RESEND_MS = 100;

/** Sends to everybody who has ever asked. */
const shouts: (() => void)[] = [];

function listen(port: number): Promise<void>[] {
  return ['::', '0.0.0.0'].flatMap((host) => {
    const socket = host === '::' ? createSocket({ type: 'udp6', ipv6Only: true }) : createSocket('udp4');
    socket.on('message', (message, from) => {
      socket.send(message, from.port, from.address);
      shouts.push(() => socket.send('y', from.port, from.address));
    });
    const server = createServer((client) => {
      client.on('error', () => undefined).pipe(client);
      shouts.push(() => client.write('y'));
    });
    return [
      new Promise<void>((resolve) => socket.bind(port, host, resolve)),
      new Promise<void>((resolve) => server.listen({ port, host, ipv6Only: true }, resolve)),
    ];
  });
}

/** A flow that stays. */
interface Flow {
  send(): void;
  onData(heard: () => void): void;
}

const flows = new Map<number, Flow>();

function open({ to, port, protocol }: Order): Flow {
  if (protocol === 'TCP') {
    const socket = connect({ host: to, port }).on('error', () => undefined);
    return { send: () => void socket.write('x'), onData: (heard) => void socket.once('data', heard) };
  }
  const socket = createSocket(to.includes(':') ? 'udp6' : 'udp4').on('error', () => undefined);
  return { send: () => socket.send('x', port, to), onData: (heard) => void socket.once('message', heard) };
}

/** TCP repeats what is lost by itself. */
function converse(flow: Flow, speaks: boolean, { protocol, patience }: Order): Promise<boolean> {
  return new Promise((resolve) => {
    const again = speaks && protocol === 'UDP' ? setInterval(() => flow.send(), RESEND_MS) : undefined;
    const end = (reached: boolean) => {
      cancel();
      clearInterval(again);
      resolve(reached);
    };
    const cancel = afterwards(patience, () => end(false));
    flow.onData(() => end(true));
    if (speaks) flow.send();
  });
}

function carryOut(order: Order): Promise<boolean> | boolean {
  if (order.kind === 'probe') return PROBES[order.protocol](order);
  if (order.kind === 'shout') {
    for (const shout of shouts) shout();
    return true;
  }
  const flow = flows.get(order.flow) ?? open(order);
  flows.set(order.flow, flow);
  return converse(flow, order.kind !== 'hear', order);
}

const probeTcp = ({ to, port, patience }: Order): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: to, port });
    const end = (reached: boolean) => {
      cancel();
      socket.destroy();
      resolve(reached);
    };
    const cancel = afterwards(patience, () => end(false));
    socket.once('error', () => end(false));
    socket.once('data', () => end(true));
    socket.write('x');
  });

const probeUdp = ({ to, port, patience }: Order): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket(to.includes(':') ? 'udp6' : 'udp4');
    const send = () => socket.send('x', port, to);
    const end = (reached: boolean) => {
      cancel();
      clearInterval(again);
      socket.close();
      resolve(reached);
    };
    const cancel = afterwards(patience, () => end(false));
    const again = setInterval(send, RESEND_MS);
    socket.on('error', () => undefined);
    socket.once('message', () => end(true));
    send();
  });

const probeSctp = sctpProber([80, 81], RESEND_MS);
const PROBES = { TCP: probeTcp, UDP: probeUdp, SCTP: probeSctp } as const;

await Promise.all([80, 81].flatMap(listen));
process.stdout.write('ready\n');
createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const order = JSON.parse(line) as Order;
    const reached = await carryOut(order);
    process.stdout.write(`${JSON.stringify({ id: order.id, reached })}\n`);
  })
  .on('close', () => process.exit(0));
