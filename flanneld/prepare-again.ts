// Interface and backend made anew while the agent runs: for the host as it is now, or for a configuration that changed.
// The subnet stays, and so does what our lease tells the peers of our devices.

import type { Lease } from '../model/lease.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { NetworkConfig } from './network-config.ts';
import { type Prepared, prepare } from './prepare.ts';
import type { Progress } from './progress.ts';

/** @throws NetError no-interface, invalid-network-config, invalid-flag, foreign-object */
export function prepareAgain(
  { kernel, config }: Pick<AgentDeps, 'kernel' | 'config'>,
  before: Prepared,
  lease: Lease,
  network: NetworkConfig = before.network,
): Prepared {
  const fresh = prepare({
    kernel,
    config,
    network,
    nodeId: before.site.nodeId,
    previous: { networks: before.networks, subnet: {} },
    store: { own: lease, peers: [], assignment: before.assignment },
  });
  return {
    ...fresh,
    // A route by advertisement that is gone comes back only while its device still accepts them.
    advertised: [...new Set([...before.advertised, ...fresh.advertised])],
    stored: before.stored,
    podsInPrevious: before.podsInPrevious,
  };
}

/** Holds the host to it from the next run on. `onMoved` is told when the lease has to say something else. */
export function adopt(progress: Progress, fresh: Prepared, lease: Lease, onMoved: () => void): void {
  const before = progress.prepared;
  progress.prepared = fresh;
  if (JSON.stringify(fresh.attributes) === JSON.stringify(before?.attributes)) return;
  progress.lease = { ...lease, ...fresh.attributes };
  onMoved();
}
