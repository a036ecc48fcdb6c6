// Reserving addresses for an attachment, and freeing those that a reboot has voided once no others are left.

import { type IpamConfig, type IpamResult, release, reserve } from '../ipam/verbs.ts';
import { hasCode } from '../model/errors.ts';
import type { Attachment, Attachments } from './attachments.ts';
import type { AttachmentKey } from './names.ts';

/** Reserves an address of each range set. @throws NetError as ipam/verbs.ts `reserve` */
export async function reserveAddresses(
  config: IpamConfig,
  key: AttachmentKey,
  files: Attachments,
  bootId: string,
): Promise<IpamResult> {
  try {
    return reserve(config, key);
  } catch (error) {
    if (!hasCode(error, 'no-addresses') || !(await freeVoided(key, files, bootId))) throw error;
    return reserve(config, key);
  }
}

/** Frees the addresses of the network's attachments from before the last boot. Whether there were any. */
async function freeVoided(own: AttachmentKey, files: Attachments, bootId: string): Promise<boolean> {
  const isOwn = ({ containerId, ifname }: AttachmentKey) => containerId === own.containerId && ifname === own.ifname;
  let freed = false;
  for (const key of files.list(own.network).filter((each) => !isOwn(each))) {
    const record = files.read(key);
    const isVoid = record !== undefined && record.bootId !== bootId && record.foreign === undefined;
    if (isVoid) freed = (await freeOne(record, files)) || freed;
  }
  return freed;
}

/** Who holds the lock is adding or deleting it, and frees what was there before. */
async function freeOne({ network, containerId, ifname, bootId }: Attachment, files: Attachments): Promise<boolean> {
  const key = { network, containerId, ifname };
  const unlock = await files.tryLock(key);
  if (unlock === undefined) return false;
  try {
    const record = files.read(key);
    const voided = record !== undefined && record.bootId === bootId;
    if (voided) freeRecorded(record, files);
    return voided;
  } finally {
    unlock();
  }
}

/** Frees the addresses a record names, then removes it. @throws NetError io */
export function freeRecorded(record: Attachment, files: Attachments): void {
  const { addressDir, network, addresses } = record;
  if (addressDir !== undefined) release({ dataDir: addressDir, network }, record, addresses);
  files.remove(record);
}
