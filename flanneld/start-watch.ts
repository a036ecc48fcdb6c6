// What changes on this host while the agent starts, which may take long where etcd is away: before it follows its interface
// (follow-underlay.ts). An address that goes takes the connection with it, since what was sent from it is answered nowhere.

import type { Change, Kernel } from '../kernel/kernel.ts';
import { lengthOf } from '../model/ip.ts';

export interface StartWatch {
  /** Whether the interface to other nodes may have changed since. */
  changed(): boolean;
  stop(): void;
}

/** Told whenever an address that was there is gone. @throws NetError kernel */
export function watchStart(kernel: Kernel, onAddressGone: () => void): StartWatch {
  let addresses = addressesOf(kernel);
  let changed = false;
  const compare = () => {
    const before = addresses;
    addresses = addressesOf(kernel);
    if ([...before].some((address) => !addresses.has(address))) onAddressGone();
  };
  const stop = kernel.watch((change) => {
    changed ||= concerns(change);
    if (change.type === 'address' || change.type === 'overrun') compare();
  });
  return { changed: () => changed, stop };
}

function concerns(change: Change): boolean {
  if (change.type === 'route') return lengthOf(change.destination) === 0;
  return ['link', 'address', 'overrun'].includes(change.type);
}

const addressesOf = (kernel: Kernel): ReadonlySet<string> =>
  new Set(kernel.read(kernel.host, { addresses: 'all' }).addresses.map(({ address }) => address));
