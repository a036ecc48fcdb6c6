// The subnet that the store assigns to this node, followed while the agent runs: a node that was deleted and made again has
// another one. It is taken up as soon as no pod uses the old one any more.

import { describe } from '../model/errors.ts';
import { familyOf, type Prefix } from '../model/ip.ts';
import { familiesOf, leaseKey } from '../model/lease.ts';
import type { AgentDeps } from './agent.ts';
import { podsInSubnet, readHost } from './prepare.ts';
import type { Progress } from './progress.ts';
import { assignedSubnet } from './subnet/assigned.ts';

/** `check` looks at the last snapshot; `onMoved` is told that the lease has to say something else. */
export function followAssignment(
  { kernel, log }: Pick<AgentDeps, 'kernel' | 'log'>,
  progress: Progress,
  onMoved: () => void,
): { check(): void } {
  const podsUse = (subnet: Prefix[]) => {
    const have = readHost(kernel, [...new Set(subnet.map(familyOf))]);
    return podsInSubnet(have, Object.fromEntries(subnet.map((prefix) => [familyOf(prefix), prefix])));
  };

  function trouble(): string | undefined {
    const { assignment, prepared, lease } = progress;
    if (assignment === undefined || prepared === undefined || lease === undefined) return undefined;
    // A Node that is gone for a moment assigns nothing; that our lease is gone with it is told elsewhere.
    if (familiesOf(assignment.subnet).length === 0) return undefined;
    const subnet = assignedSubnet(prepared.network, assignment.subnet, prepared.site.nodeId);
    if (leaseKey(subnet) === leaseKey(lease.subnet)) return undefined;
    const changed = familiesOf(lease.subnet).filter((family) => subnet[family] !== lease.subnet[family]);
    const old = changed.map((family) => lease.subnet[family] as Prefix);
    if (podsUse(old)) return `this node has ${leaseKey(subnet)} now, but pods on it still use ${old.join(' and ')}`;
    log.warn({}, `this node has another subnet: ${leaseKey(subnet)} in place of ${leaseKey(lease.subnet)}`);
    progress.lease = { ...lease, subnet };
    onMoved();
    return undefined;
  }

  return {
    check() {
      const before = progress.subnetTrouble;
      try {
        progress.subnetTrouble = trouble();
      } catch (error) {
        progress.subnetTrouble = describe(error);
      }
      if (progress.subnetTrouble !== undefined && progress.subnetTrouble !== before)
        log.warn({}, progress.subnetTrouble);
    },
  };
}
