// Runs in the network of a pod: every 10 ms a datagram of one flow to each address of a peer, a byte on a connection
// that stays, and a new connection. Nothing is sent twice, so that what is lost is seen. `node steady-pod.ts
// ADDRESS...` says "ready", begins with the first line on standard input, and at the second tells what came of it: a
// JSON line, SteadyReport. It answers others to the end of its standard input.

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SteadyReport {
  readonly sent: number;
  readonly answered: number;
  /** Datagrams that arrived in this pod, and found no room since a process was too slow. */
  readonly overflowed: number;
  /** Bytes on connections that stay, and those that came back. */
  readonly written: number;
  readonly echoed: number;
  /** New connections, and those of them that failed. */
  readonly connections: number;
  readonly failed: readonly string[];
  /** First packets of connections that the kernel had to send again. */
  readonly repeated: number;
}

const PORT = 9090;
const EVERY_MS = 10;
const DRAIN_MS = 20_000;
/** Connections that wait for a process which is late. */
const BACKLOG = 4096;

function serve(): Promise<unknown> {
  const datagrams = createSocket({ type: 'udp6', ipv6Only: false });
  datagrams.on('message', (message, { port, address }) => datagrams.send(message, port, address));
  const connections = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  return Promise.all([
    new Promise<void>((resolve) => datagrams.bind(PORT, '::', resolve)),
    new Promise<void>((resolve) => connections.listen({ port: PORT, host: '::', backlog: BACKLOG }, resolve)),
  ]);
}

/** A counter of the kernel for this network namespace; both protocols' where `name` is in several. */
function counted(file: string, name: RegExp): number {
  const words = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/));
  // snmp6 has a name and a number on each line; the others a line of names above one of numbers.
  const pairs = words.flatMap((line, at) =>
    /^\w+6/.test(line[0] ?? '')
      ? [[line[0], line[1]]]
      : line.map((word, column) => [`${line[0]}${word}`, words[at + 1]?.[column]]),
  );
  return pairs.reduce(
    (sum, [key = '', value]) => sum + (name.test(key) && /^\d+$/.test(value ?? '') ? Number(value) : 0),
    0,
  );
}

const overflows = (): number =>
  counted('/proc/net/snmp', /^Udp:RcvbufErrors$/) + counted('/proc/net/snmp6', /^Udp6RcvbufErrors$/);
const repeats = (): number => counted('/proc/net/netstat', /^TcpExt:TCPSynRetrans$/);

const report = { sent: 0, answered: 0, written: 0, echoed: 0, connections: 0, open: 0, failed: [] as string[] };

/** What sends a packet of the flow to an address. */
function flowTo(address: string): () => void {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', () => report.answered++).on('error', ({ message }) => report.failed.push(message));
  socket.connect(PORT, address);
  let connected = false;
  socket.once('connect', () => (connected = true));
  return () => {
    if (!connected) return;
    report.sent++;
    socket.send('x');
  };
}

/** What writes a byte on a connection to an address. */
function streamTo(address: string): () => void {
  const socket = connect({ host: address, port: PORT, noDelay: true });
  socket.on('data', ({ length }) => (report.echoed += length));
  socket.on('error', ({ message }) => report.failed.push(`the connection to ${address}: ${message}`));
  return () => {
    report.written++;
    socket.write('x');
  };
}

function connectTo(address: string): void {
  report.connections++;
  report.open++;
  const socket = connect({ host: address, port: PORT }, () => socket.write('x'));
  socket.once('data', () => socket.resetAndDestroy());
  socket.on('error', ({ message }) => report.failed.push(`a connection to ${address}: ${message}`));
  socket.on('close', () => report.open--);
}

const isDrained = (): boolean =>
  report.answered === report.sent && report.echoed === report.written && report.open === 0;

const addresses = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
await serve();
process.stdout.write('ready\n');
await lines.next();
const before = { overflowed: overflows(), repeated: repeats() };
const senders = addresses.flatMap((address) => [flowTo(address), streamTo(address)]);
let turn = 0;
const timer = setInterval(() => {
  for (const send of senders) send();
  connectTo(addresses[turn++ % addresses.length] as string);
}, EVERY_MS);
await lines.next();
clearInterval(timer);
for (let waited = 0; waited < DRAIN_MS && !isDrained(); waited += EVERY_MS) await sleep(EVERY_MS);
const { open, ...rest } = report;
const stuck = Array.from({ length: open }, () => 'a connection without an answer');
const result: SteadyReport = {
  ...rest,
  failed: [...report.failed, ...stuck],
  overflowed: overflows() - before.overflowed,
  repeated: repeats() - before.repeated,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
await lines.next();
process.exit(0);
