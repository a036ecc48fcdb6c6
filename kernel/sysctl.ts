// Files under /proc/sys. The net/ part shows the namespace of the thread that opens a file, so callers run these
// synchronously inside the namespace they mean.

import { readFileSync, writeFileSync } from 'node:fs';
import { hasErrno, NetError } from '../model/errors.ts';
import type { Sysctl } from '../model/state.ts';

/** A path that stays under /proc/sys/net. @throws NetError invalid-config */
function pathOf(key: string): string {
  const parts = key.split('/');
  if (parts[0] !== 'net' || parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
    throw new NetError('invalid-config', `sysctl ${JSON.stringify(key)} is not under net/`, { subject: key });
  }
  return `/proc/sys/${key}`;
}

/** The value, white space folded, or undefined when the kernel has no such key. Equivalent to: sysctl -n KEY */
export function readSysctl(key: string): Sysctl | undefined {
  try {
    return { key, value: readFileSync(pathOf(key), 'utf8').trim().replace(/\s+/g, ' ') };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw failure('read', key, error);
  }
}

/** Equivalent to: sysctl -w KEY=VALUE. @throws NetError kernel */
export function writeSysctl({ key, value }: Sysctl): void {
  try {
    writeFileSync(pathOf(key), value, { flag: 'r+' });
  } catch (error) {
    throw failure('write', key, error);
  }
}

function failure(verb: string, key: string, cause: unknown): NetError {
  if (cause instanceof NetError) return cause;
  const errno = (cause as NodeJS.ErrnoException).code;
  return new NetError('kernel', `${verb} sysctl ${key}: ${errno}`, { errno, subject: key, cause });
}
