// Pods of this node that another plugin has attached: no record of ours says where, so the node's routes do.

import type { Kernel } from '../../kernel/kernel.ts';
import { hasErrno } from '../../model/errors.ts';
import type { Ip } from '../../model/ip.ts';
import type { Attached } from './placed.ts';
import type { World } from './world.ts';

/** Addresses of the pods of this node that no attachment of ours speaks of. Pure. */
export function foreignAddresses({ endpoints }: World, attached: Iterable<Attached>): readonly Ip[] {
  const own = new Set([...attached].flatMap(({ addresses }) => addresses));
  return endpoints.flatMap(({ addresses }) => addresses.filter((address) => !own.has(address)));
}

/** The bridges that lead to the addresses without a gateway, each once. @throws NetError kernel */
export function bridgesTo(kernel: Pick<Kernel, 'read' | 'routeTo' | 'host'>, addresses: readonly Ip[]): string[] {
  const devices = new Set(addresses.flatMap((address) => deviceTo(kernel, address) ?? []));
  if (devices.size === 0) return [];
  const { links } = kernel.read(kernel.host, { links: [...devices] });
  return links.filter(({ bridge }) => bridge !== undefined).map(({ name }) => name);
}

/** Undefined where no route, or one by a gateway, leads there: the pod is not there any more. */
function deviceTo(kernel: Pick<Kernel, 'routeTo' | 'host'>, address: Ip): string | undefined {
  try {
    const { device, via } = kernel.routeTo(kernel.host, address);
    return via === undefined ? device : undefined;
  } catch (error) {
    if (UNREACHABLE.some((errno) => hasErrno(error, errno))) return undefined;
    throw error;
  }
}

/** What the kernel answers for no route, and for routes of type unreachable, blackhole and prohibit. */
const UNREACHABLE = ['ENETUNREACH', 'EHOSTUNREACH', 'EINVAL', 'EACCES'];
