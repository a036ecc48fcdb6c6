// The end of an attachment, in the order that a crash anywhere leaves a record of what is still to do: the interface, the
// flows that went over it, the reservations or what another plugin has of it, the record.

import { release } from '../ipam/verbs.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Ip } from '../model/ip.ts';
import type { Attachment, Attachments } from './attachments.ts';
import type { Places } from './config.ts';
import { removeExtras } from './extras.ts';
import { endForeign } from './delegation.ts';
import { unguard } from './guard.ts';
import type { AttachmentKey } from './names.ts';
import type { Request } from './protocol.ts';
import { freeRecorded } from './reservations.ts';
import { spoofTable } from './spoof.ts';
import type { Dependencies } from './verbs.ts';

/**
 * Takes away what the record names, then the record. `request` is the attachment's own DEL, if that is what asks for it.
 * @throws NetError kernel, io; plugin-failed when another plugin does not do its part
 */
export async function detach(
  record: Attachment,
  files: Attachments,
  dependencies: Dependencies,
  request?: Request,
): Promise<void> {
  await disconnect(record, dependencies);
  await endForeign(record, dependencies, request);
  freeRecorded(record, files);
  forgetSource(record, dependencies);
}

/** After the record, by which whoever compares the tables meanwhile would put back what has just been taken out. */
function forgetSource(record: Attachment, { sources, bootId }: Dependencies): void {
  if (record.bootId === bootId) sources?.forget(record);
}

async function disconnect(record: Attachment, dependencies: Dependencies): Promise<void> {
  const { link, guardedMac } = record;
  const { kernel, bootId } = dependencies;
  await Promise.all([removeExtras(dependencies, record), link && dependencies.removeLink(link)]);
  if (record.bootId !== bootId) return;
  // After the port, so that nothing gets in by it unlooked at.
  if (link !== undefined && guardedMac !== undefined)
    unguard(kernel, spoofTable([{ name: link.name, mac: guardedMac }]));
  await forgetFlows(kernel, record.addresses);
}

/**
 * The same where there is no runtime that could execute another plugin: what is that one's stays in the record, for the
 * next DEL, GC or ADD of the attachment. @throws NetError kernel, io
 */
export async function detachOwn(record: Attachment, files: Attachments, dependencies: Dependencies): Promise<void> {
  if (record.foreign === undefined) return detach(record, files, dependencies);
  await disconnect(record, dependencies);
  const nothing = {
    link: undefined,
    guardedMac: undefined,
    routed: undefined,
    portMappings: undefined,
    ifb: undefined,
  };
  files.write({ ...record, ...nothing, addresses: [] });
  forgetSource(record, dependencies);
}

/** Whether nothing is left of the attachment but another plugin's part. */
export const isForeignOnly = ({ foreign, link, portMappings, ifb }: Attachment): boolean =>
  foreign !== undefined && (link ?? portMappings ?? ifb) === undefined;

/** Without a record, the whole store is searched for the attachment. @throws NetError io */
export function freeUnrecorded(key: AttachmentKey, files: Attachments, { addresses }: Pick<Places, 'addresses'>): void {
  if (addresses !== undefined) release({ dataDir: addresses, network: key.network }, key);
  files.remove(key);
}

/**
 * The next pod that gets the address must not get the answers to the last one's questions. A kernel without connection
 * tracking has nothing to forget, and none keeps a pod from being deleted.
 */
async function forgetFlows(kernel: Kernel, addresses: readonly Ip[]): Promise<void> {
  try {
    if (addresses.length > 0) await kernel.forgetEnds(addresses);
  } catch {}
}

/** Whether the attachment was made after the request that is carried out only now. */
export function isYounger({ bootId, created }: Attachment, dependencies: Dependencies): boolean {
  const { asked } = dependencies;
  if (asked === undefined || bootId !== dependencies.bootId) return false;
  return asked.bootId !== bootId || created > asked.at;
}
