// Traffic through the udp backend's tunnel: bytes over TCP, packets put into the tunnel by hand, and what a capture shows.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import type { Ip } from '../../model/ip.ts';
import type { TestNamespace } from './namespace.ts';
import { PORT } from './udp-proxy.ts';

const TRANSFER = join(import.meta.dirname, 'transfer.ts');
const SEND_DATAGRAMS = join(import.meta.dirname, 'send-datagrams.ts');

/** Starts a command in a namespace; it ends with the test. */
export function startIn(t: Test, where: TestNamespace, command: string, args: readonly string[]): ChildProcess {
  const child = spawn('nsenter', [`--net=${where.path}`, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** Carries bytes over TCP; whether exactly these arrived. */
export async function transfer(
  t: Test,
  from: TestNamespace,
  to: TestNamespace,
  address: Ip,
  bytes: number,
): Promise<boolean> {
  const start = (where: TestNamespace, ...args: readonly string[]): AsyncIterator<string> => {
    const { stdout } = startIn(t, where, process.execPath, [TRANSFER, ...args]);
    return createInterface({ input: stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  };
  const receiver = start(to, 'receive', '5000');
  await receiver.next();
  const sent = await start(from, 'send', address, '5000', String(bytes)).next();
  return !sent.done && sent.value === (await receiver.next()).value;
}

export interface Datagram {
  readonly to: Ip;
  readonly port?: number;
  readonly data: Uint8Array;
}

/** Sends datagrams. @throws Error when they can't be sent */
export function sendDatagrams(where: TestNamespace, from: Ip, port: number, datagrams: readonly Datagram[]): void {
  const lines = datagrams.map((each) => `${each.to} ${each.port ?? PORT} ${Buffer.from(each.data).toString('hex')}`);
  const options = { input: lines.join('\n') };
  const { status, stderr } = where.run(process.execPath, [SEND_DATAGRAMS, from, String(port)], options);
  if (status !== 0) throw new Error(`send datagrams: ${stderr}`);
}

/** Whether all echo requests are answered. */
export const pingsAll = (from: TestNamespace, to: Ip, ...options: readonly string[]): boolean =>
  / 0% packet loss/.test(from.run('ping', ['-q', '-c', '3', '-i', '0.01', '-W', '2', ...options, to]).stdout);

/** What answers the first echo request: "64 bytes from …" or "From … Time to live exceeded". */
export function pingAnswer(from: TestNamespace, to: Ip, ...options: readonly string[]): string {
  const { stdout } = from.run('ping', ['-c', '1', '-W', '1', ...options, to]);
  return stdout.split('\n')[1] ?? '';
}

/**
 * Captures packets on a device while something happens. Resolves with those that matched, from the IP header on, when
 * there are `count`. @throws Error when there are fewer after five seconds
 */
export async function capture(
  t: Test,
  where: TestNamespace,
  { device, filter, count }: { readonly device: string; readonly filter: string; readonly count: number },
  happening: () => unknown,
): Promise<Buffer[]> {
  const limits = [
    '-i',
    device,
    '-c',
    String(count),
    '--immediate-mode',
    '-s',
    '2000',
    '-Q',
    'in',
    '-U',
    '-w',
    '-',
    filter,
  ];
  const tcpdump = startIn(t, where, 'tcpdump', limits);
  const chunks: Buffer[] = [];
  tcpdump.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(tcpdump.stderr as NodeJS.ReadableStream, 'data');
  const timer = setTimeout(() => tcpdump.kill('SIGKILL'), 5000);
  const ended = once(tcpdump, 'close');
  await happening();
  await ended;
  clearTimeout(timer);
  const packets = packetsOf(Buffer.concat(chunks));
  if (packets.length !== count) throw new Error(`captured ${packets.length} of ${count} packets on ${device}`);
  return packets;
}

/** Packets of a pcap file, without their Ethernet header if there is one. */
function packetsOf(file: Buffer): Buffer[] {
  const LINKTYPE_ETHERNET = 1;
  const packets: Buffer[] = [];
  const skip = file.readUInt32LE(20) === LINKTYPE_ETHERNET ? 14 : 0;
  for (let at = 24; at < file.length; ) {
    const length = file.readUInt32LE(at + 8);
    packets.push(file.subarray(at + 16 + skip, at + 16 + length));
    at += 16 + length;
  }
  return packets;
}
