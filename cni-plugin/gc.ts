// GC (spec 1.1.0): whatever of the network isn't in the runtime's list of valid attachments goes: records with their
// devices, and reservations that nobody recorded. One that can't be removed doesn't stop the others.

import { release, reservations } from '../ipam/verbs.ts';
import { list, object, optional, parse, string } from '../model/check.ts';
import { describe, NetError } from '../model/errors.ts';
import { type Attachments, attachmentsIn } from './attachments.ts';
import { placesOf } from './config.ts';
import { detach } from './detach.ts';
import type { AttachmentKey } from './names.ts';
import type { Request } from './protocol.ts';
import type { Dependencies } from './verbs.ts';

const ATTACHMENT = object({ containerID: string, ifname: string });
const LISTS = object({
  'cni.dev/valid-attachments': optional(list(ATTACHMENT, 100_000)),
  /** What libcni wrote by mistake before; it still writes both. */
  'cni.dev/attachments': optional(list(ATTACHMENT, 100_000)),
});

/** The attachments that are to stay; undefined when the runtime sent no list, which says nothing about any of them. */
function validOf({ config, network }: Request): ReadonlySet<string> | undefined {
  const lists = parse(config, LISTS, `network ${network}`, 'invalid-config');
  const valid = lists['cni.dev/valid-attachments'] ?? lists['cni.dev/attachments'];
  return valid && new Set(valid.map(({ containerID, ifname }) => keyText(containerID, ifname)));
}

/** Neither part has a colon. */
const keyText = (containerId: string, ifname: string): string => `${containerId}:${ifname}`;

/**
 * GC of the plugins that other plugins come before: of records, not of reservations, which are for those to judge.
 * @throws NetError as {@link gc}
 */
export async function gcRecords(request: Request, dependencies: Dependencies): Promise<void> {
  const valid = validOf(request);
  if (valid === undefined) return;
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  report(request, await detachStale(request, valid, files, dependencies));
}

/** @throws NetError with every failure's message when something could not be removed; invalid-config */
export async function gc(request: Request, dependencies: Dependencies): Promise<void> {
  const valid = validOf(request);
  if (valid === undefined) return;
  const { network } = request;
  const { records, addresses } = placesOf(request);
  const files = attachmentsIn(records, dependencies.lockTimeoutMs);
  const isStale = ({ containerId, ifname }: Pick<AttachmentKey, 'containerId' | 'ifname'>) =>
    !valid.has(keyText(containerId, ifname));
  const failures: unknown[] = [];
  for (const key of files.list(network).filter(isStale)) {
    await detachRecorded(key, files, dependencies).catch((error: unknown) => failures.push(error));
  }
  const recorded = new Set(files.list(network).map(({ containerId, ifname }) => keyText(containerId, ifname)));
  for (const { owner } of reservations({ dataDir: addresses, network })) {
    // A file of host-local's old form names no interface: the container is valid with any of them.
    const kept =
      owner === undefined || (owner.ifname === '' ? hasContainer(valid, owner.containerId) : !isStale(owner));
    if (kept || recorded.has(keyText(owner.containerId, owner.ifname))) continue;
    try {
      release({ dataDir: addresses, network }, owner);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0)
    throw new NetError('io', `GC of network ${network}: ${failures.map(describe).join('; ')}`, { subject: network });
}

const hasContainer = (valid: ReadonlySet<string>, containerId: string): boolean =>
  [...valid].some((key) => key.startsWith(`${containerId}:`));

async function detachRecorded(key: AttachmentKey, files: Attachments, dependencies: Dependencies): Promise<void> {
  const unlock = await files.lock(key);
  try {
    const record = files.read(key);
    if (record === undefined) files.remove(key);
    else await detach(record, files, dependencies);
  } finally {
    unlock();
  }
}
