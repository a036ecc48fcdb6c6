// The process at the other end of a unix socket, as the kernel knows it: what it says of itself does not count.

import type { Socket } from 'node:net';
import { NetError } from '../model/errors.ts';
import { peerCredentials } from './ffi.ts';

export interface Peer {
  /** 0 where the process is in a PID namespace that this one can't see into. */
  readonly pid: number;
  /** As this process sees it: root of another user namespace is somebody else. */
  readonly uid: number;
}

/** Who connected. @throws NetError kernel when it can't be told */
export function peerOf(socket: Socket): Peer {
  // Node has the descriptor of a connection, but no public name for it.
  const { fd } = (socket as Socket & { readonly _handle?: { readonly fd?: number } | null })._handle ?? {};
  if (fd !== undefined && fd >= 0) return peerCredentials(fd);
  throw new NetError('kernel', 'find the peer of a socket: EBADF', { errno: 'EBADF' });
}
