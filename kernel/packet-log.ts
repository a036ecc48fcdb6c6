// Packets that nft rules log to a group (NFNETLINK_LOG, linux/netfilter/nfnetlink_log.h), over a socket of our own that is
// looked at many times a second, as that of the notifications is.

import { NetError } from '../model/errors.ts';
import { attribute, attributesOf, textOf } from './attributes.ts';
import { close, errnoName, send } from './ffi.ts';
import { listenTo, lookAt, receive, waiting } from './notify.ts';

const NETLINK_NETFILTER = 12;
/** NFNL_SUBSYS_ULOG << 8 with NFULNL_MSG_PACKET and NFULNL_MSG_CONFIG. */
const PACKET = 0x400;
const CONFIG = 0x401;
const NLMSG_ERROR = 2;
const [REQUEST, ACK] = [1, 4];
/** struct nlmsghdr and struct nfgenmsg. */
const HEADER = 16;
const FAMILY_HEADER = 4;
const CFG = { command: 1, mode: 2, threshold: 5 } as const;
const BIND = 1;
const COPY_PACKET = 2;
const LOGGED = { payload: 9, prefix: 10 } as const;

const MOST_DATAGRAMS = 100;
const DATAGRAM_BYTES = 1 << 16;

export interface LoggedPacket {
  /** The text of the rule that logged it. */
  readonly prefix: string;
  /** Beginning with the IP header, as much of it as the rule logs. */
  readonly packet: Buffer;
}

/**
 * Tells of the packets logged to a group in the namespace the thread is in, until the returned function is called.
 * @throws NetError kernel; errno EBUSY when another program listens to the group
 */
export function listenToLog(group: number, bytes: number, onPacket: (logged: LoggedPacket) => void): () => void {
  const fd = listenTo(NETLINK_NETFILTER, []);
  const buffer = Buffer.alloc(DATAGRAM_BYTES);
  try {
    configure(fd, group, buffer, attribute(CFG.command, Uint8Array.of(BIND)));
    const mode = Buffer.from([0, 0, 0, 0, COPY_PACKET, 0]);
    mode.writeUInt32BE(bytes);
    configure(fd, group, buffer, attribute(CFG.mode, mode), attribute(CFG.threshold, Uint8Array.of(0, 0, 0, 1)));
  } catch (error) {
    close(fd);
    throw error;
  }
  return lookAt([fd], () => {
    for (const datagram of waiting(fd, buffer, MOST_DATAGRAMS)) {
      if (datagram !== 'lost') for (const logged of packetsIn(datagram)) onPacket(logged);
    }
  });
}

/** The kernel answers inside the send. */
function configure(fd: number, group: number, buffer: Buffer, ...settings: readonly Buffer[]): void {
  const head = Buffer.alloc(HEADER + FAMILY_HEADER);
  const message = Buffer.concat([head, ...settings]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(CONFIG, 4);
  message.writeUInt16LE(REQUEST | ACK, 6);
  message.writeUInt16BE(group, HEADER + 2);
  send(fd, message);
  for (let length = receive(fd, buffer); typeof length === 'number'; length = receive(fd, buffer)) {
    if (buffer.readUInt16LE(4) !== NLMSG_ERROR) continue;
    const errno = -buffer.readInt32LE(HEADER);
    if (errno === 0) return;
    const name = errnoName(errno);
    throw new NetError('kernel', `listen to packets logged to group ${group}: ${name}`, { errno: name });
  }
}

function* packetsIn(datagram: Buffer): Generator<LoggedPacket> {
  for (let at = 0; at + HEADER + FAMILY_HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER + FAMILY_HEADER) return;
    if (datagram.readUInt16LE(at + 4) === PACKET) {
      const attributes = attributesOf(datagram.subarray(at + HEADER + FAMILY_HEADER, at + length));
      const payload = attributes.get(LOGGED.payload);
      if (payload !== undefined)
        yield { prefix: textOf(attributes.get(LOGGED.prefix)) ?? '', packet: Buffer.from(payload) };
    }
    at += (length + 3) & ~3;
  }
}
