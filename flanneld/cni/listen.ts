// The socket that CNI clients connect to. One agent of a host serves it: the one that holds the lock beside it, which the
// kernel takes from whoever dies.

import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { lockFile, removeIfThere, statIfThere, writeWhole } from '../../kernel/files.ts';
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
 * Files beside the socket: the lock of whoever serves it; `away`, made by the first client that finds nobody; `alone`,
 * there when the agent that served last needs no subnet, so that it is all that a pod needs.
 */
export const besideSocket = (path: string) => ({
  lock: `${path}.lock`,
  away: `${path}.away`,
  alone: `${path}.alone`,
  temporary: `${path}.tmp`,
});

/**
 * The right to serve the socket until the returned function is called; undefined while another agent has it.
 * @throws NetError io
 */
export const lockSocket = (path: string): (() => void) | undefined => lockFile(besideSocket(path).lock, 0);

/**
 * Listens; what is at the path without anyone who answers is replaced. `alone`: the agent needs no subnet.
 * @throws NetError io when others could replace the socket, busy when somebody answers, foreign-object
 */
export async function openCniSocket(
  path: string,
  accept: (socket: Socket) => void,
  alone: boolean,
): Promise<CniSocket> {
  const beside = besideSocket(path);
  const server = createServer(accept);
  server.maxConnections = MOST_CONNECTIONS;
  await listenOnSocket(server, path);
  // The next absence begins with the client that notices it.
  removeIfThere(beside.away);
  for (const left of [beside.alone, beside.temporary]) removeIfThere(left);
  if (alone) writeWhole(beside.alone, '', { temporary: beside.temporary });
  const own = statIfThere(path)?.ino;
  return { isThere: () => statIfThere(path)?.ino === own, close: () => void server.close() };
}
