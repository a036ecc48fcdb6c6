// The subnet that the store assigns to this node, followed while the agent runs: a node that was deleted and made again has
// another one. It is taken up as soon as no pod uses the old one any more.

import { describe } from '../model/errors.ts';
import { familiesOf, leaseKey } from '../model/lease.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { Progress } from './progress.ts';
import { formerSubnets, removeGateways } from './stale-gateways.ts';
import { assignedSubnet } from './subnet/assigned.ts';

/** `check` looks at the last snapshot; `onMoved` is told that the lease has to say something else. */
export function followAssignment(
  { kernel, log }: Pick<AgentDeps, 'kernel' | 'log'>,
  progress: Progress,
  onMoved: () => void,
): { check(): void } {
  /** @returns why the assigned subnet is not the one in use @throws NetError no-pod-cidr, kernel */
  function follow(): string | undefined {
    const { assignment, prepared, lease } = progress;
    if (assignment === undefined || prepared === undefined || lease === undefined) return undefined;
    // A Node that is gone for a moment assigns nothing; that our lease is gone with it is told elsewhere.
    if (familiesOf(assignment.subnet).length === 0) return undefined;
    const subnet = assignedSubnet(prepared.network, assignment.subnet, prepared.site.nodeId);
    if (leaseKey(subnet) === leaseKey(lease.subnet)) return undefined;
    const former = formerSubnets(lease.subnet, subnet);
    if (!removeGateways(kernel, log, former))
      return `this node has ${leaseKey(subnet)} now, but pods on it still use ${Object.values(former).join(' and ')}`;
    log.warn({}, `this node has another subnet: ${leaseKey(subnet)} in place of ${leaseKey(lease.subnet)}`);
    progress.lease = { ...lease, subnet };
    onMoved();
    return undefined;
  }

  return {
    check() {
      const before = progress.subnetTrouble;
      try {
        progress.subnetTrouble = follow();
      } catch (error) {
        progress.subnetTrouble = describe(error);
      }
      const { subnetTrouble } = progress;
      if (subnetTrouble !== undefined && subnetTrouble !== before) log.warn({}, subnetTrouble);
    },
  };
}
