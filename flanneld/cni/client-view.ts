// What a runtime's paths lead to. The runtime and the agent may be in different mount namespaces, where one path leads to
// different things; by device and inode it shows. Where the agent sees the host's processes it can look through the
// client's eyes.

import type { NetnsId } from '../../cni-plugin/wire.ts';
import type { Kernel, OpenNamespace } from '../../kernel/kernel.ts';
import { pathSeenBy, seesSame, sharesMounts } from '../../kernel/view.ts';
import { asNetError, hasCode, NetError } from '../../model/errors.ts';

/** Who asks, and what it sees. */
export interface ClientView {
  /** 0 where the agent can't see the client's process. */
  readonly pid: number;
  /** The namespace at CNI_NETNS; undefined when the client sees none there. */
  readonly podNetns: NetnsId | undefined;
  /** The namespace the client runs in. */
  readonly ownNetns: NetnsId | undefined;
}

/**
 * Pods are attached to the agent's host; a runtime in a network namespace of its own means another one.
 * @throws NetError invalid-netns
 */
export function requireSameHost({ host }: Kernel, { ownNetns }: ClientView): void {
  if (ownNetns === host.id) return;
  const where = ownNetns === undefined ? 'an unknown network namespace' : `the network namespace ${ownNetns}`;
  throw new NetError(
    'invalid-netns',
    `the runtime is in ${where}, flanneld in ${host.id}: its pods would be attached to another host; ` +
      'set FLANNEL_CNI_SOCKET to nothing for a runtime in a network namespace of its own',
    { subject: host.id },
  );
}

/** The kernel, whose paths of namespaces lead to what they lead to for the client. */
export const seenBy = (kernel: Kernel, client: ClientView): Kernel => ({
  ...kernel,
  openNamespace: (path) => openSame(kernel, path, client),
});

/** @throws NetError invalid-netns when nothing that the agent can open is what the client sees */
function openSame(kernel: Kernel, path: string, { pid, podNetns }: ClientView): OpenNamespace {
  const own = tryOpen(kernel, path);
  if (isWanted(own, podNetns)) return own;
  if (podNetns === undefined) throw own instanceof NetError ? own : notForClient(path);
  const theirs = pathSeenBy(pid, path);
  const found = theirs === undefined ? own : tryOpen(kernel, theirs);
  if (isWanted(found, podNetns)) return { ...found, path };
  throw invisible(path, podNetns, own instanceof NetError ? own : undefined);
}

/** Closed if not. */
function isWanted(found: OpenNamespace | NetError, id: NetnsId | undefined): found is OpenNamespace {
  if (found instanceof NetError) return false;
  if (found.id === id) return true;
  found.close();
  return false;
}

function tryOpen(kernel: Kernel, path: string): OpenNamespace | NetError {
  try {
    return kernel.openNamespace(path);
  } catch (error) {
    if (hasCode(error, 'invalid-netns')) return error;
    throw asNetError(error);
  }
}

const notForClient = (path: string): NetError =>
  new NetError('invalid-netns', `${path} is not a network namespace for the runtime`, { subject: path });

const invisible = (path: string, id: NetnsId, cause: NetError | undefined): NetError =>
  new NetError(
    'invalid-netns',
    `${path}: flanneld does not see the network namespace ${id} that the runtime sees there; ` +
      'where flanneld is in a container, give it /run/netns with mountPropagation HostToContainer, or hostPID',
    { subject: path, cause },
  );

/**
 * State must survive the agent's container and be the same for plugins that work without the agent.
 * @throws NetError invalid-config naming the directory
 */
export function requireSameDirectories({ pid }: ClientView, directories: readonly string[]): void {
  if (sharesMounts(pid)) return;
  const hidden = directories.find((directory) => seesSame(pid, directory) === false);
  if (hidden === undefined) return;
  const message = `${hidden} is another directory for flanneld than for the runtime: mount it into flanneld's container`;
  throw new NetError('invalid-config', message, { subject: hidden });
}
