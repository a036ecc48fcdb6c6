// SCTP as raw packets: INIT asks, INIT ACK answers (RFC 9260, 3.3.2 and 3.3.3), with right checksums, as conntrack wants them.
// The kernel need not know the protocol.

import { afterwards } from './afterwards.ts';
import rawSocket from 'raw-socket';
import { FAMILIES, type Family } from '../../model/ip.ts';

const SCTP = 132;
const [INIT, INIT_ACK] = [1, 2];
const HEADER = 12;
const CHUNK = 20;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value >>> 0;
});

/** CRC32c (RFC 9260, appendix A). */
function crc32c(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = ((CRC_TABLE[(value ^ byte) & 255] as number) ^ (value >>> 8)) >>> 0;
  return ~value >>> 0;
}

interface SctpPacket {
  readonly from: number;
  readonly to: number;
  /** Of the receiver: 0 in an INIT. */
  readonly tag: number;
  readonly type: number;
  readonly ownTag: number;
}

function sctpPacket({ from, to, tag, type, ownTag }: SctpPacket): Buffer {
  const packet = Buffer.alloc(HEADER + CHUNK);
  packet.writeUInt16BE(from, 0);
  packet.writeUInt16BE(to, 2);
  packet.writeUInt32BE(tag, 4);
  packet[HEADER] = type;
  packet.writeUInt16BE(CHUNK, HEADER + 2);
  packet.writeUInt32BE(ownTag, HEADER + 4);
  packet.writeUInt32BE(65_536, HEADER + 8);
  packet.writeUInt32BE(0x00010001, HEADER + 12);
  packet.writeUInt32BE(ownTag, HEADER + 16);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

export interface SctpProbe {
  readonly to: string;
  readonly port: number;
  /** Milliseconds. */
  readonly patience: number;
}

/** Answers on the ports, in the network namespace of this process, and gives a function that asks others. */
export function sctpProber(ports: readonly number[], resendMs: number): (probe: SctpProbe) => Promise<boolean> {
  const waiting = new Map<number, () => void>();
  const sockets = new Map(FAMILIES.map((family) => [family, open(family)]));
  let own = 30_000;

  function open(family: Family) {
    const addressFamily = family === 4 ? rawSocket.AddressFamily.IPv4 : rawSocket.AddressFamily.IPv6;
    const socket = rawSocket.createSocket({ addressFamily, protocol: SCTP, bufferSize: 4096 });
    socket.on('error', () => undefined);
    socket.on('message', (buffer: Buffer, source: string) => {
      const packet = buffer.subarray(family === 4 ? ((buffer[0] as number) & 15) * 4 : 0);
      if (packet.length < HEADER + CHUNK) return;
      const [from, to, type] = [packet.readUInt16BE(0), packet.readUInt16BE(2), packet[HEADER]];
      if (type === INIT_ACK) waiting.get(to)?.();
      if (type !== INIT || !ports.includes(to)) return;
      const tag = packet.readUInt32BE(HEADER + 4);
      const answer = sctpPacket({ from: to, to: from, tag, type: INIT_ACK, ownTag: 7 });
      socket.send(answer, 0, answer.length, source, () => undefined);
    });
    return socket;
  }

  return ({ to, port, patience }) =>
    new Promise((resolve) => {
      const from = own++;
      const packet = sctpPacket({ from, to: port, tag: 0, type: INIT, ownTag: from });
      const socket = sockets.get(to.includes(':') ? 6 : 4);
      const send = () => socket?.send(packet, 0, packet.length, to, () => undefined);
      const end = (reached: boolean) => {
        cancel();
        clearInterval(again);
        waiting.delete(from);
        resolve(reached);
      };
      const cancel = afterwards(patience, () => end(false));
      const again = setInterval(send, resendMs);
      waiting.set(from, () => end(true));
      send();
    });
}
