// Files as another process sees them, which may be in another mount namespace: /proc/PID/root leads there, as far as the
// kernel lets us see the process.

import { type BigIntStats, readlinkSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { hasErrno } from '../model/errors.ts';

/** As many symbolic links as the kernel follows in a path (MAXSYMLINKS). */
const MAX_LINKS = 40;

/**
 * A path of ours that leads where an absolute path leads for the process; undefined when that can't be found out. Links
 * are followed here: the kernel would take an absolute one (/var/run) as ours.
 */
export function pathSeenBy(pid: number, path: string): string | undefined {
  if (pid <= 0 || !path.startsWith('/')) return undefined;
  const root = `/proc/${pid}/root`;
  let left = path.split('/').filter(Boolean);
  let done = '/';
  for (let links = 0; left.length > 0; ) {
    const [name = '', ...rest] = left;
    const target = linkTarget(root + posix.join(done, name));
    left = rest;
    // What /proc/PID/ns/net and the like say of themselves is no path.
    if (target === undefined || done.startsWith('/proc/')) {
      done = posix.join(done, name);
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    left = [...target.split('/').filter(Boolean), ...rest];
    if (target.startsWith('/')) done = '/';
  }
  return root + done;
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Of this process, which never leaves it. */
let ownMounts: string | undefined;

/** Whether the process is in the mount namespace of this one, where all paths lead to the same. */
export function sharesMounts(pid: number): boolean {
  ownMounts ??= linkTarget('/proc/self/ns/mnt');
  return ownMounts !== undefined && linkTarget(`/proc/${pid}/ns/mnt`) === ownMounts;
}

/**
 * Whether the directory of a process in another mount namespace is the same for it, or would be if it were made; undefined
 * when that can't be found out.
 */
export function seesSame(pid: number, directory: string): boolean | undefined {
  const theirs = pathSeenBy(pid, directory);
  if (theirs === undefined) return undefined;
  try {
    const [own, other] = [identity(directory), identity(theirs)];
    if (own !== undefined || other !== undefined) return own === other;
    return directory === '/' ? undefined : seesSame(pid, posix.dirname(directory));
  } catch {
    return undefined;
  }
}

function identity(path: string): string | undefined {
  const found = statIfThere(path);
  return found && `${found.dev}:${found.ino}`;
}

function statIfThere(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}
