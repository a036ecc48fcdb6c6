// The pods that attachment records of this node speak of.

import { type Attachment, attachmentsIn } from '../../cni-plugin/attachments.ts';
import type { Attached } from './world.ts';

/** By network, container and interface. */
export type AttachedPods = Map<string, Attached>;

export const attachmentKey = ({ network, containerId, ifname }: Attachment): string =>
  `${network}/${containerId}:${ifname}`;

/** Undefined for a container that is no pod, and for an attachment without an address. */
export const attachedOf = ({ pod, addresses }: Attachment): Attached | undefined =>
  pod === undefined || addresses.length === 0 ? undefined : { ...pod, addresses };

/** Reads the records under the directories. @throws NetError io */
export function readAttached(directories: readonly string[]): AttachedPods {
  const found: AttachedPods = new Map();
  for (const directory of directories) {
    const files = attachmentsIn(directory, 0);
    for (const key of files.networks().flatMap((network) => files.list(network))) {
      const record = files.read(key);
      const attached = record && attachedOf(record);
      if (record !== undefined && attached !== undefined) found.set(attachmentKey(record), attached);
    }
  }
  return found;
}
