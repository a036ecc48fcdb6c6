// The socket that CNI clients connect to. One agent of a host serves it: the one that holds the lock beside it, which the
// kernel takes from whoever dies.

import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { lockFile, removeIfThere, statIfThere } from '../../kernel/files.ts';
import { listenOnSocket } from '../status-socket.ts';

/** Each may have a message in memory. */
const MOST_CONNECTIONS = 1024;

export interface CniSocket {
  /** Whether the path still leads to it. */
  isThere(): boolean;
  /** Takes no new clients, and takes the path away; those that are served go on. */
  close(): void;
}

/**
 * The right to serve the socket until the returned function is called; undefined while another agent has it.
 * @throws NetError io
 */
export const lockSocket = (path: string): (() => void) | undefined => lockFile(`${path}.lock`, 0);

/**
 * Listens; what is at the path without anyone who answers is replaced.
 * @throws NetError io when others could replace the socket, busy when somebody answers, foreign-object
 */
export async function openCniSocket(path: string, accept: (socket: Socket) => void): Promise<CniSocket> {
  const server = createServer(accept);
  server.maxConnections = MOST_CONNECTIONS;
  await listenOnSocket(server, path);
  // The next absence begins with the client that notices it.
  removeIfThere(`${path}.away`);
  const own = statIfThere(path)?.ino;
  return { isThere: () => statIfThere(path)?.ino === own, close: () => void server.close() };
}
