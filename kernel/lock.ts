// A lock that leaves nothing behind: its file is there only while someone holds it or waits for it. Waiting does not
// block the thread, so that one process can serve many attachments while some of them wait.

import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { asNetError, hasErrno } from '../model/errors.ts';
import { flock, LOCK_EX, LOCK_NB } from './ffi.ts';
import { removeIfThere, statIfThere } from './files.ts';

const RETRY_MS = 5;

/**
 * Takes the exclusive lock of a path, across processes and within this one, and returns the function that lets go of it
 * and removes the file; undefined when others held it all the time. The kernel lets go of it when the process dies.
 * @throws NetError io, kernel
 */
export async function lockBriefly(path: string, timeoutMs: number): Promise<(() => void) | undefined> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const fd = tryOnce(path);
    if (fd !== undefined) return () => letGo(path, fd);
    if (performance.now() >= deadline) return undefined;
    await sleep(RETRY_MS);
  }
}

/** Removed while it is still held: whoever opened it before finds, once it has the lock, that it's no longer at the path. */
function letGo(path: string, fd: number): void {
  removeIfThere(path);
  closeSync(fd);
}

/** The descriptor that holds the lock, or undefined while another holds it. */
function tryOnce(path: string): number | undefined {
  const fd = open(path);
  try {
    flock(fd, LOCK_EX | LOCK_NB);
    if (isAt(path, fd)) return fd;
  } catch (error) {
    if (!hasErrno(error, 'EAGAIN')) {
      closeSync(fd);
      throw error;
    }
  }
  closeSync(fd);
  return undefined;
}

function open(path: string): number {
  const { O_RDONLY, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    return openSync(path, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (error) {
    throw asNetError(error);
  }
}

function isAt(path: string, fd: number): boolean {
  const [held, there] = [fstatSync(fd), statIfThere(path)];
  return there !== undefined && there.ino === held.ino && there.dev === held.dev;
}
