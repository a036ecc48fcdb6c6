// What stands in a reservation file, and whether it is an attachment's. The text is host-local's, byte for byte: the
// container id, CR LF, the interface. host-local before 2019 wrote the container id alone.

import { NetError } from '../model/errors.ts';

/** The attachment that holds an address. */
export interface Owner {
  readonly containerId: string;
  /** Empty in what an old host-local wrote: any interface of the container. */
  readonly ifname: string;
}

const SEPARATOR = '\r\n';
/** The CNI specification's form of container ids and network names. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** What fits a file name of 255 bytes together with a temporary file's mark. */
const MAX_OWNER_BYTES = 240;

/** The content of a reservation file. */
export const contentOf = ({ containerId, ifname }: Owner): string => `${containerId}${SEPARATOR}${ifname}`;

/** Whom a file's content names; white space around it is tolerated. Undefined when it names nobody. */
export function ownerOf(content: string): Owner | undefined {
  const [containerId = '', ifname = '', ...rest] = content.trim().split(SEPARATOR);
  return rest.length === 0 && NAME.test(containerId) && !/\s/.test(ifname) ? { containerId, ifname } : undefined;
}

/** Whether the content is exactly this attachment's. */
export const isOf = (content: string, owner: Owner): boolean => content.trim() === contentOf(owner);

/** Whether the content is this attachment's or, in the old form, this container's. */
export const concerns = (content: string, owner: Owner): boolean =>
  isOf(content, owner) || content.trim() === owner.containerId;

/** The attachment as a file name: ":" is legal in neither part. */
export const fileNameOf = ({ containerId, ifname }: Owner): string => `${containerId}:${ifname}`;

/**
 * Callers have checked the names they pass on; a mistake there must not become a path out of the directory.
 * @throws NetError invalid-config
 */
export function checkNetwork(network: string): void {
  if (NAME.test(network) && network.length <= 255) return;
  throw new NetError('invalid-config', `network name ${JSON.stringify(network)} is not valid`, { subject: network });
}

/** The same for an attachment. @throws NetError invalid-environment */
export function checkOwner(owner: Owner): void {
  const { containerId, ifname } = owner;
  if (!NAME.test(containerId) || fileNameOf(owner).length > MAX_OWNER_BYTES) {
    const shown = JSON.stringify(containerId.slice(0, 80));
    throw new NetError('invalid-environment', `container id ${shown} is not valid or too long`, {
      subject: containerId,
    });
  }
  if (!/^[^\s/:\0]{1,15}$/.test(ifname) || ifname === '.' || ifname === '..') {
    throw new NetError('invalid-environment', `interface name ${JSON.stringify(ifname)} is not valid`, {
      subject: ifname,
    });
  }
}
