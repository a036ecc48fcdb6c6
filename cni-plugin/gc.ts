// GC (spec 1.1.0): whatever of the network isn't in the runtime's list of valid attachments goes: records with their
// devices, and reservations that nobody recorded. One that can't be removed doesn't stop the others.

import { release, reservations } from '../ipam/verbs.ts';
import { list, object, optional, parse, string } from '../model/check.ts';
import { describe, NetError } from '../model/errors.ts';
import { type Attachments, attachmentsIn } from './attachments.ts';
import { placesOf } from './config.ts';
import { detach } from './detach.ts';
import { ask } from './delegation.ts';
import { foreignOf } from './foreign.ts';
import type { AttachmentKey } from './names.ts';
import { subnetFileIfThere } from './pod.ts';
import type { Request } from './protocol.ts';
import type { Dependencies } from './verbs.ts';

const ATTACHMENT = object({ containerID: string, ifname: string });
const LISTS = object({
  'cni.dev/valid-attachments': optional(list(ATTACHMENT, 100_000)),
  /** What libcni wrote by mistake before; it still writes both. */
  'cni.dev/attachments': optional(list(ATTACHMENT, 100_000)),
});

/** The attachments that are to stay; undefined when the runtime sent no list, which says nothing about any of them. */
function validOf({ config, network }: Request): Valid | undefined {
  const lists = parse(config, LISTS, `network ${network}`, 'invalid-config');
  const valid = lists['cni.dev/valid-attachments'] ?? lists['cni.dev/attachments'];
  return valid && new Set(valid.map(({ containerID, ifname }) => keyText(containerID, ifname)));
}

/** Devices that go at the same time cost the kernel little more than one (kernel/remove-links.ts). */
const AT_ONCE = 64;
/** Failures that a message names. */
const NAMED = 5;

/** Neither part has a colon. */
const keyText = (containerId: string, ifname: string): string => `${containerId}:${ifname}`;

/** @throws NetError io that counts what could not be removed and says why; invalid-config */
export async function gc(request: Request, dependencies: Dependencies): Promise<void> {
  const valid = validOf(request);
  if (valid === undefined) return;
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  report(request, [
    ...(await detachStale(request, valid, files, dependencies)),
    ...releaseStale(request, valid, files.list(request.network)),
    ...(await collectForeign(request, dependencies)),
  ]);
}

/**
 * GC of the plugins that are called behind others: of records only, since reservations are those others' to judge.
 * @throws NetError as {@link gc}
 */
export async function gcRecords(request: Request, dependencies: Dependencies): Promise<void> {
  const valid = validOf(request);
  if (valid === undefined) return;
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  report(request, await detachStale(request, valid, files, dependencies));
}

function report({ network }: Request, failures: readonly unknown[]): void {
  if (failures.length === 0) return;
  const named = failures.slice(0, NAMED).map(describe).join('; ');
  const more = failures.length > NAMED ? `; and ${failures.length - NAMED} more` : '';
  const message = `GC of network ${network}: ${failures.length} could not be removed: ${named}${more}`;
  throw new NetError('io', message, { subject: network });
}

type Valid = ReadonlySet<string>;

/** Detaches the recorded attachments that aren't valid, and gives what failed. */
async function detachStale(
  { network }: Request,
  valid: Valid,
  files: Attachments,
  dependencies: Dependencies,
): Promise<unknown[]> {
  const stale = files.list(network).filter(({ containerId, ifname }) => !valid.has(keyText(containerId, ifname)));
  const failures: unknown[] = [];
  for (let at = 0; at < stale.length; at += AT_ONCE) {
    const group = stale.slice(at, at + AT_ONCE).map((key) => detachRecorded(key, files, dependencies));
    for (const outcome of await Promise.allSettled(group)) {
      if (outcome.status === 'rejected') failures.push(outcome.reason);
    }
  }
  return failures;
}

/** Frees reservations that neither a valid attachment nor a record has, and gives what failed. */
function releaseStale(request: Request, valid: Valid, records: readonly AttachmentKey[]): unknown[] {
  const dataDir = placesOf(request).addresses;
  if (dataDir === undefined) return [];
  const store = { dataDir, network: request.network };
  const recorded = new Set(records.map(({ containerId, ifname }) => keyText(containerId, ifname)));
  const failures: unknown[] = [];
  for (const { owner } of reservations(store)) {
    if (owner === undefined) continue;
    const { containerId, ifname } = owner;
    // A file of host-local's old form names no interface: the container is valid with any of them.
    const isValid = ifname === '' ? hasContainer(valid, containerId) : valid.has(keyText(containerId, ifname));
    if (isValid || recorded.has(keyText(containerId, ifname))) continue;
    try {
      release(store, owner);
    } catch (error) {
      failures.push(error);
    }
  }
  return failures;
}

/** Another plugin that has a part in the network's attachments collects its own. */
async function collectForeign(request: Request, dependencies: Dependencies): Promise<unknown[]> {
  try {
    const plugin = foreignOf(request, subnetFileIfThere(request));
    if (plugin !== undefined) await ask(dependencies, plugin, 'GC');
    return [];
  } catch (error) {
    return [error];
  }
}

const hasContainer = (valid: Valid, containerId: string): boolean =>
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
