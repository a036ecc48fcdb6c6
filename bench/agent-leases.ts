// The leases of the peers that an agent is measured with: subnets, addresses and MACs that are different for each.

import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { formatLeaseValue } from '../flanneld/subnet/lease-record.ts';
import { endChild, type Machine } from '../examples/cluster/machine.ts';
import { ip, mac } from '../model/ip.ts';
import type { WriterReply, WriterRequest } from './lease-writer.ts';

/** Holds 8192 subnets. The agent's own is one of the first that no peer has. */
export const NETWORK = '10.0.0.0/11';
export const CONFIG = { Network: NETWORK, Backend: { Type: 'vxlan' } };
const RESERVED = 200;

export interface PeerLease {
  /** Network address of its /24. */
  readonly subnet: string;
  readonly publicIp: string;
  readonly mac: string;
}

/** The peer of a number from 0. */
export function peerLease(number: number): PeerLease {
  const [high, low] = [number >> 8, number & 255];
  const place = number + RESERVED;
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return {
    subnet: `10.${place >> 8}.${place & 255}.0`,
    publicIp: `172.16.${high}.${low}`,
    mac: `02:11:22:33:${hex(high)}:${hex(low)}`,
  };
}

/** Key and value in etcd. */
export const entryOf = (prefix: string, peer: PeerLease): [key: string, value: string] => [
  `${prefix}/subnets/${peer.subnet}-24`,
  formatLeaseValue({
    publicIp: { 4: ip(peer.publicIp) },
    backendType: 'vxlan',
    backendData: { 4: { VNI: 1, VtepMAC: mac(peer.mac) } },
  }),
];

export interface LeaseWriter {
  ask(request: WriterRequest): Promise<WriterReply>;
  close(): Promise<void>;
}

/** Starts bench/lease-writer.ts on etcd's machine. */
export function startWriter(etcd: Machine, endpoint: string): LeaseWriter {
  const program = fileURLToPath(new URL('./lease-writer.ts', import.meta.url));
  const child = etcd.start(process.execPath, [program, endpoint]);
  child.stderr?.pipe(process.stderr);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the lease writer ended')));
  ended.catch(() => undefined);
  return {
    async ask(request) {
      child.stdin?.write(`${JSON.stringify(request)}\n`);
      const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
      return JSON.parse(line) as WriterReply;
    },
    async close() {
      await endChild(child);
    },
  };
}
