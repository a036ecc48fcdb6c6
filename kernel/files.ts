// Files that other processes read at the same moment, or that this one may be killed while writing: a file appears
// whole or not at all, and a symbolic link as the last part of a path is not followed. All calls are synchronous: they
// take microseconds, and what a caller does between two of them stays one step for everything else in the process.

import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { asNetError, hasErrno, NetError } from '../model/errors.ts';
import { flock, LOCK_EX, LOCK_NB } from './ffi.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const LOCK_RETRY_MS = 5;

/** The action's value, or `otherwise` when it fails with one of the errnos. @throws NetError io for any other */
function unless<T, U>(errnos: readonly string[], otherwise: U, action: () => T): T | U {
  try {
    return action();
  } catch (error) {
    if (errnos.some((errno) => hasErrno(error, errno))) return otherwise;
    throw asNetError(error);
  }
}

export interface WriteOptions {
  /** Permission bits of a new file, less the umask. */
  readonly mode?: number;
  /** Where the content is gathered: an unused path of the same file system. Beside the file when absent. */
  readonly temporary?: string;
  /** Wait until the disk has it: for what must survive a loss of power. */
  readonly sync?: boolean;
}

/** Creates or replaces a file in one step: a reader sees the old content or the new. @throws NetError io */
export function writeWhole(path: string, content: string | Uint8Array, options: WriteOptions = {}): void {
  const temporary = options.temporary ?? `${path}.${uniqueSuffix()}.tmp`;
  try {
    writeNew(temporary, content, options);
    renameSync(temporary, path);
    if (options.sync) syncDirectory(dirname(path));
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) removeIfPossible(temporary);
    const { code, errno } = asNetError(error);
    if (code !== 'io') throw error;
    throw new NetError('io', `write ${path}: ${errno}`, { errno, subject: path, cause: error });
  }
}

/** What has failed already is told; that a read-only file system refuses this too is no news. */
function removeIfPossible(path: string): void {
  try {
    removeIfThere(path);
  } catch {}
}

/** Text that no other process and no other call uses in a file name: 12 characters. */
export const uniqueSuffix = (): string => crypto.randomUUID().slice(-12);

function writeNew(path: string, content: string | Uint8Array, { mode = 0o600, sync }: WriteOptions): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  try {
    writeFileSync(fd, content);
    if (sync) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The directory's new entry is durable only when the directory itself has been written. */
function syncDirectory(path: string): void {
  const fd = openSync(path, O_RDONLY | O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export interface ReadOptions {
  /** A larger file counts as none. */
  readonly maxBytes?: number;
  /** Also when the path's last part is a symbolic link: for paths that a person configured. */
  readonly followLink?: boolean;
}

/**
 * The text of a regular file; undefined when it isn't there, is too large or is something else (a symbolic link, a
 * directory, a pipe). @throws NetError io
 */
export const readRegular = (path: string, options: ReadOptions = {}): string | undefined =>
  readBytes(path, options)?.toString();

/** The same as bytes. @throws NetError io */
export function readBytes(path: string, options: ReadOptions = {}): Buffer | undefined {
  const { maxBytes = 4096, followLink = false } = options;
  // Without O_NONBLOCK, opening a pipe waits for its writer. ENXIO: a socket.
  return unless(['ENOENT', 'ELOOP', 'ENXIO', 'ENOTDIR'], undefined, () => {
    // Most often nothing is there, and an exception costs more than a look.
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    const fd = openSync(path, O_RDONLY | O_NONBLOCK | (followLink ? 0 : O_NOFOLLOW));
    try {
      const found = fstatSync(fd);
      return found.isFile() && found.size <= maxBytes ? readFileSync(fd) : undefined;
    } finally {
      closeSync(fd);
    }
  });
}

/** What stands at the path itself, or undefined when nothing does. @throws NetError io */
export const statIfThere = (path: string): Stats | undefined =>
  unless(['ENOTDIR'], undefined, () => lstatSync(path, { throwIfNoEntry: false }));

/** What a path leads to, links followed; undefined when that is nothing. @throws NetError io */
export const statAt = (path: string): Stats | undefined =>
  unless(['ENOTDIR', 'ELOOP'], undefined, () => statSync(path, { throwIfNoEntry: false }));

/** A second name for a file. False when the new name is taken, whatever by. @throws NetError io */
export const linkIfFree = (source: string, target: string): boolean =>
  unless(['EEXIST'], false, () => {
    linkSync(source, target);
    return true;
  });

/** A second name for a file, in place of whatever has that name, in one step. @throws NetError io */
export function linkOver(source: string, target: string): void {
  const temporary = `${target}.${uniqueSuffix()}.tmp`;
  try {
    linkSync(source, temporary);
    renameSync(temporary, target);
  } catch (error) {
    throw asNetError(error);
  } finally {
    // Of two names for one file rename(2) takes neither away.
    removeIfThere(temporary);
  }
}

/** Whether there was a file to remove. @throws NetError io */
export const removeIfThere = (path: string): boolean =>
  unless(['ENOENT', 'ENOTDIR'], false, () => {
    unlinkSync(path);
    return true;
  });

/** Whether there was a directory to remove; one that isn't empty stays. @throws NetError io */
export const removeDirectory = (path: string): boolean =>
  unless(['ENOENT', 'ENOTEMPTY'], false, () => {
    rmdirSync(path);
    return true;
  });

/** Names in a directory; none when there is no directory. @throws NetError io */
export const listDirectory = (path: string): string[] => unless(['ENOENT'], [], () => readdirSync(path));

/** Whether there is a directory at the path itself. @throws NetError io when something else is, such as a symlink */
export function isDirectory(path: string): boolean {
  const found = statIfThere(path);
  if (found === undefined) return false;
  if (found.isDirectory()) return true;
  const what = found.isSymbolicLink() ? 'a symbolic link' : 'a file';
  throw new NetError('io', `${path} is ${what}, not a directory`, { errno: 'ENOTDIR', subject: path });
}

/** Creates the directory, and those above it, unless it is there. @throws NetError io, also for a symbolic link */
export function ensureDirectory(path: string, mode = 0o755): void {
  if (isDirectory(path)) return;
  // Level by level: mkdirSync's `recursive` tries for ever where a directory that is there takes none, as /proc.
  if (statAt(dirname(path)) === undefined) ensureDirectory(dirname(path), mode);
  const make = () => mkdirSync(path, { mode });
  // Created meanwhile, perhaps as something else: looked at once more.
  if (unless(['EEXIST'], 'taken', make) === 'taken') isDirectory(path);
}

/**
 * Takes the exclusive flock(2) of a file, which is created when missing, and returns the function that lets go of it;
 * undefined when others held it all the time. The wait blocks the thread: for short times, where a lock is rarely
 * needed at all. @throws NetError io, kernel
 */
export function lockFile(path: string, timeoutMs: number): (() => void) | undefined {
  const fd = unless([], -1, () => openSync(path, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600));
  const deadline = performance.now() + timeoutMs;
  while (!tryLock(fd)) {
    if (performance.now() >= deadline) {
      closeSync(fd);
      return undefined;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_RETRY_MS);
  }
  return () => closeSync(fd);
}

function tryLock(fd: number): boolean {
  try {
    flock(fd, LOCK_EX | LOCK_NB);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EAGAIN')) return false;
    closeSync(fd);
    throw error;
  }
}
