// What a request points at outside itself: the pod's network namespace and the agent's subnet file.

import { readRegular } from '../kernel/files.ts';
import type { Kernel, OpenNamespace } from '../kernel/kernel.ts';
import { hasCode, NetError } from '../model/errors.ts';
import { subnetFileOf } from './form.ts';
import type { Request } from './protocol.ts';
import { parseSubnetFile, type SubnetFile } from './subnet-file.ts';

/**
 * The pod's namespace, open.
 * @throws NetError invalid-netns when it isn't one, or is the host's own: what a pod gets must never happen to the host
 */
export const openPod = (kernel: Kernel, path: string): OpenNamespace => notHost(kernel, kernel.openNamespace(path));

/**
 * The pod's namespace for DEL: undefined when the path is empty, is gone, or is what a runtime leaves after unmounting.
 * @throws NetError invalid-netns when it is the host's own
 */
export function openPodIfThere(kernel: Kernel, path: string): OpenNamespace | undefined {
  const found = path === '' ? undefined : openIfNamespace(kernel, path);
  return found && notHost(kernel, found);
}

function notHost(kernel: Kernel, found: OpenNamespace): OpenNamespace {
  if (found.id !== kernel.host.id) return found;
  found.close();
  throw new NetError('invalid-netns', "plugin's netns and netns from CNI_NETNS should not be the same", {
    subject: found.path,
  });
}

function openIfNamespace(kernel: Kernel, path: string): OpenNamespace | undefined {
  try {
    return kernel.openNamespace(path);
  } catch (error) {
    if (hasCode(error, 'invalid-netns')) return undefined;
    throw error;
  }
}

/**
 * The subnet file the configuration needs; undefined when it needs none.
 * @throws NetError try-later while the agent has not written it; invalid-config, io
 */
export function readSubnetFile(request: Request): SubnetFile | undefined {
  const path = subnetFileOf(request);
  if (path === undefined) return undefined;
  const text = readRegular(path, { followLink: true });
  if (text !== undefined) return parseSubnetFile(text, path);
  throw new NetError('try-later', `${path} is not there: the agent has not written it yet`, { subject: path });
}

/** The same for verbs that must go on without it. */
export function subnetFileIfThere(request: Request): SubnetFile | undefined {
  try {
    return readSubnetFile(request);
  } catch {
    return undefined;
  }
}
