// The unix socket that `flanneld status` asks: /run/flannel/subnet.env has /run/flannel/subnet.sock beside it. It needs no
// flag, works with the health port off, and two agents on a host, who have two subnet files, have two of them.

import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { removeIfThere, statIfThere } from '../kernel/files.ts';
import { describe, NetError } from '../model/errors.ts';
import { type Clock, sleep } from './clock.ts';
import { MOST_SOCKET_BYTES } from './config.ts';
import type { Log } from './log.ts';

/** The socket's path. */
export const statusSocketPath = (subnetFile: string): string => `${subnetFile.replace(/\.env$/, '')}.sock`;

/** Between two attempts to listen. */
const RETRY_MS = 1000;
/** Only the owner may connect: the mode is in force from the moment the socket is there. */
const UMASK = 0o177;

/**
 * Binds the server to the path; a socket that nobody answers on is replaced. Closing the server removes it. `cause`: how
 * it may come that another agent is there.
 * @throws NetError busy when another agent answers there; io when the directory is no place for it, or the path too long
 */
export async function listenOnSocket(server: Server, path: string, cause = 'its flags are the same'): Promise<void> {
  requireSafeDirectory(dirname(path));
  requireShort(path);
  if (await answers(path)) {
    throw new NetError('busy', `another flanneld answers on ${path}: ${cause}`, { subject: path });
  }
  removeSocket(path);
  await bind(server, path);
}

/** Anyone who can write to the directory could put a socket of his own in its place. */
function requireSafeDirectory(path: string): void {
  const found = statIfThere(path);
  if (found === undefined) throw new NetError('io', `${path}: no such directory`, { errno: 'ENOENT', subject: path });
  const owner = found.uid === process.getuid?.() || found.uid === 0;
  if (!found.isDirectory() || !owner || (found.mode & 0o022) !== 0) {
    throw new NetError('io', `${path} is no directory that only its owner can write to`, { subject: path });
  }
}

function requireShort(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MOST_SOCKET_BYTES) return;
  const why = `the path of a socket has at most ${MOST_SOCKET_BYTES} bytes, not ${bytes}: name a shorter directory`;
  throw new NetError('io', `listen on ${path}: ${why}`, { errno: 'ENAMETOOLONG', subject: path });
}

/** What a command says when it can't ask the agent: there is none, or the socket is not for this user. */
export function noAgent(path: string, cause: Error & { code?: string }): NetError {
  const isForbidden = cause.code === 'EACCES' || cause.code === 'EPERM';
  const [code, what] = isForbidden
    ? (['not-permitted', 'ask the agent'] as const)
    : (['no-agent', 'no agent answers'] as const);
  return new NetError(code, `${what} on ${path}: ${cause.code ?? cause.message}`, { cause, subject: path });
}

/** Whether a process accepts connections there. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const finish = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}

/** @throws NetError foreign-object when something else is at the path */
export function removeSocket(path: string): boolean {
  const found = statIfThere(path);
  if (found === undefined) return false;
  if (!found.isSocket()) throw new NetError('foreign-object', `${path} is in the way of a socket`, { subject: path });
  return removeIfThere(path);
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: NodeJS.ErrnoException) =>
      reject(new NetError('io', `listen on ${path}: ${cause.code}`, { cause, errno: cause.code, subject: path }));
    server.once('error', fail);
    // The socket is bound inside the call, so that the umask holds for it and for nothing else.
    const before = process.umask(UMASK);
    try {
      server.listen(path, () => {
        server.off('error', fail);
        resolve();
      });
    } finally {
      process.umask(before);
    }
  });
}

/**
 * Listens as soon as it can, and goes on trying: an agent that is being replaced may still answer. Troubles are logged
 * when they are new. Ends when the signal aborts; the server is the caller's to close.
 */
export async function keepSocket(
  server: Server,
  path: string,
  clock: Clock,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  let told: string | undefined;
  while (!signal.aborted) {
    try {
      return await listenOnSocket(server, path, 'its subnet file is the same');
    } catch (error) {
      const text = describe(error);
      if (text !== told) log.warn({}, `flanneld status won't work: ${text}; trying again`);
      told = text;
      await sleep(clock, RETRY_MS, signal);
    }
  }
}
