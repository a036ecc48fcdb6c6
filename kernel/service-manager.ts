// What a service tells the manager that started it (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names. Node
// has no datagrams on unix sockets.

import { NetError } from '../model/errors.ts';
import { close, sendTo, socket } from './ffi.ts';

const AF_UNIX = 1;
/** SOCK_DGRAM, SOCK_NONBLOCK and SOCK_CLOEXEC: a manager that doesn't read holds nobody up. */
const DATAGRAMS = 0o2 | 0o4000 | 0o2000000;
/** unix(7): sun_path, and with it the byte that ends a path. */
const MOST_BYTES = 108;

/**
 * Sends the state, "READY=1", to the socket: an absolute path, or "@" and an abstract name.
 * Equivalent to: systemd-notify --ready. @throws NetError kernel; io for a name that is none
 */
export function tellServiceManager(name: string, state: string): void {
  const fd = socket(AF_UNIX, DATAGRAMS, 0);
  try {
    sendTo(fd, Buffer.from(state), addressOf(name));
  } finally {
    close(fd);
  }
}

/** struct sockaddr_un (linux/un.h): an abstract name begins with a zero byte, and a path ends with one. */
function addressOf(name: string): Buffer {
  const path = Buffer.from(name.startsWith('@') ? `\0${name.slice(1)}` : `${name}\0`);
  if (!/^[/@]./.test(name) || path.length > MOST_BYTES)
    throw new NetError('io', `${name}: neither an absolute path nor @ and a name`, { subject: name });
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, path]);
}
