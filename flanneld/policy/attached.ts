// The pods that attachment records of this node speak of.

import { type Attachment, attachmentsIn } from '../../cni-plugin/attachments.ts';
import type { Attached } from './placed.ts';

/** By network, container and interface. */
export type AttachedPods = Map<string, Attached>;

/** "network/container:interface" */
export const attachmentKey = ({ network, containerId, ifname }: Attachment): string =>
  `${network}/${containerId}:${ifname}`;

/** Undefined for a container that is no pod, and for an attachment without an address. */
export const attachedOf = ({ pod, addresses }: Attachment): Attached | undefined =>
  pod === undefined || addresses.length === 0 ? undefined : { ...pod, addresses };

/** Of all records. */
export const attachedIn = (records: readonly Attachment[]): AttachedPods =>
  new Map(
    records.flatMap((record) => {
      const attached = attachedOf(record);
      return attached === undefined ? [] : [[attachmentKey(record), attached] as const];
    }),
  );

/** Reads the records under the directories. @throws NetError io */
export function readRecords(directories: readonly string[]): Attachment[] {
  return directories.flatMap((directory) => {
    const files = attachmentsIn(directory, 0);
    return files.networks().flatMap((network) => files.list(network).flatMap((key) => files.read(key) ?? []));
  });
}
