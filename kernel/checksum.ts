// Whether a device leaves the checksums of what it sends to whatever comes after it: the ioctls of ethtool (linux/ethtool.h:
// ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM), on a socket of the namespace the thread is in.

import { asNetError, NetError } from '../model/errors.ts';
import { close, ethtool, socket } from './ffi.ts';

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const GET = 0x16;
const SET = 0x17;

/** Equivalent to: ethtool -k NAME, of each; a device that is not there is left out. @throws NetError kernel */
export function readTxChecksums(names: readonly string[]): Map<string, boolean> {
  if (names.length === 0) return new Map();
  return withSocket((fd) => new Map(names.flatMap((name) => readOne(fd, name))));
}

function readOne(fd: number, name: string): [string, boolean][] {
  try {
    return [[name, ethtool(fd, name, GET, 0) !== 0]];
  } catch (error) {
    const { errno } = asNetError(error);
    if (errno === 'ENODEV' || errno === 'EOPNOTSUPP' || errno === 'ENOTSUP') return [];
    throw error;
  }
}

/** Equivalent to: ethtool -K NAME tx on|off. @throws NetError kernel naming the device */
export function setTxChecksum(name: string, on: boolean): void {
  try {
    withSocket((fd) => ethtool(fd, name, SET, Number(on)));
  } catch (cause) {
    const { errno } = asNetError(cause);
    const attempt = `switch checksum offload of ${name} ${on ? 'on' : 'off'}`;
    throw new NetError('kernel', `${attempt}: ${errno}`, { errno, subject: name, cause });
  }
}

function withSocket<T>(use: (fd: number) => T): T {
  const fd = socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  try {
    return use(fd);
  } finally {
    close(fd);
  }
}
