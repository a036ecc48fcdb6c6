// Network namespaces. A namespace is a descriptor we hold; the process enters one only for the length of a synchronous
// function. Threads made while it is inside stay there for ever, so every thread must exist before the first entry.

import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  stat,
  statSync,
} from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { hasErrno, NetError } from '../model/errors.ts';
import type { Namespace } from '../model/state.ts';
import { ioctl, setns } from './ffi.ts';
import type { OpenNamespace } from './kernel.ts';

/** linux/nsfs.h: NS_GET_NSTYPE; the answer for a network namespace is CLONE_NEWNET. */
const NS_GET_NSTYPE = 0xb703;
const CLONE_NEWNET = 0x40000000;

/** A namespace with the descriptor that keeps it alive. */
export interface HeldNamespace extends OpenNamespace {
  readonly fd: number;
}

/**
 * Opens the namespace at a path. Equivalent to: exec 9</run/netns/NAME
 * @throws NetError invalid-netns; errno ENOENT when nothing is there
 */
export function openNamespace(path: string): HeldNamespace {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const errno = (cause as NodeJS.ErrnoException).code;
    throw new NetError('invalid-netns', `open network namespace ${path}: ${errno}`, { errno, subject: path, cause });
  }
  const { dev, ino } = fstatSync(fd);
  if (!isNetworkNamespace(fd, dev)) {
    closeSync(fd);
    throw new NetError('invalid-netns', `${path} is not a network namespace`, { subject: path });
  }
  let open = true;
  return {
    path,
    fd,
    id: `${dev}:${ino}`,
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

/** The device of all namespaces' files, which are in a file system of their own. */
let namespaceDevice: number | undefined;

/** Any file of another file system (a leftover tmpfs mount point, say) is refused before it is asked anything. */
function isNetworkNamespace(fd: number, device: number): boolean {
  namespaceDevice ??= statSync('/proc/self/ns/net').dev;
  if (device !== namespaceDevice) return false;
  try {
    return ioctl(fd, NS_GET_NSTYPE) === CLONE_NEWNET;
  } catch (error) {
    if (hasErrno(error, 'ENOTTY')) return false;
    throw error;
  }
}

/**
 * Starts the threads that libuv would start at first use, and checks that every thread of the process is in the
 * namespace the process was started in. To be called before the first {@link inNamespace}.
 * @throws NetError internal naming the threads that are elsewhere
 */
export function settleThreads(): void {
  stat('/', () => undefined);
  const strays = straysFrom(readlinkSync('/proc/self/ns/net'));
  if (strays.length > 0)
    throw new NetError('internal', `threads outside the host's network namespace: ${strays.join(', ')}`);
}

/** Threads of this process whose network namespace isn't the one named ("net:[4026531840]"). */
export function straysFrom(home: string): string[] {
  return readdirSync('/proc/self/task').filter((task) => {
    const link = `/proc/self/task/${task}/ns/net`;
    return existsSync(link) && readlinkSync(link) !== home;
  });
}

/**
 * Runs a synchronous function inside a namespace and comes back, whatever happens. Inside, only synchronous calls see the
 * namespace: asynchronous ones run on threads that stay outside, so a returned promise is refused.
 * Equivalent to: ip netns exec NAME …, within this process.
 * @throws NetError internal for a promise; aborts the process when it can't come back
 */
export function inNamespace<T>(home: HeldNamespace, target: Namespace, run: () => T): T {
  if (target.id === home.id) return refusePromise(run());
  if (!isMainThread) throw new NetError('internal', 'namespaces are entered on the main thread only');
  setns((target as HeldNamespace).fd);
  try {
    return refusePromise(run());
  } finally {
    comeBack(home);
  }
}

function comeBack(home: HeldNamespace): void {
  try {
    setns(home.fd);
  } catch (error) {
    process.stderr.write(`can't return to the host's network namespace: ${String(error)}\n`);
    process.abort();
  }
}

function refusePromise<T>(result: T): T {
  if (result instanceof Promise)
    throw new NetError('internal', 'a function that runs inside a namespace must not return a promise');
  return result;
}
