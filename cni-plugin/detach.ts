// The end of an attachment, in the order that a crash anywhere leaves a record of what is still to do: the interface, the
// flows that went over it, the reservations, the record.

import { release } from '../ipam/verbs.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Ip } from '../model/ip.ts';
import type { Attachment, Attachments } from './attachments.ts';
import type { Places } from './config.ts';
import { removeExtras } from './extras.ts';
import type { AttachmentKey } from './names.ts';
import { freeRecorded } from './reservations.ts';
import type { Dependencies } from './verbs.ts';

/** Takes away what the record names, then the record. @throws NetError kernel, io */
export async function detach(record: Attachment, files: Attachments, dependencies: Dependencies): Promise<void> {
  const { link } = record;
  await Promise.all([removeExtras(dependencies, record), link && dependencies.removeLink(link)]);
  if (record.bootId === dependencies.bootId) await forgetFlows(dependencies.kernel, record.addresses);
  freeRecorded(record, files);
}

/** Without a record, the whole store is searched for the attachment. @throws NetError io */
export function freeUnrecorded(key: AttachmentKey, files: Attachments, { addresses }: Pick<Places, 'addresses'>): void {
  release({ dataDir: addresses, network: key.network }, key);
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
