// `flanneld --dry-run`: what the agent would change on this machine, as lines. Reads the store and the host, writes nothing
// to either; the subnet that would be taken is only foretold.

import { NetError } from '../model/errors.ts';
import { type Lease, leaseKey } from '../model/lease.ts';
import { prepareFor } from './agent.ts';
import type { AgentDeps } from './agent-deps.ts';
import { examine, printDifference } from './difference.ts';
import { firewallChanges, printFirewallChanges } from './firewall/changes.ts';
import { sitesOf } from './firewall/site.ts';
import { targetOf } from './hold.ts';
import { parseNetworkConfig } from './network-config.ts';
import type { Prepared } from './prepare.ts';
import { formatSubnetEnv } from './subnet-env.ts';
import { readPrevious } from './subnet-file.ts';
import { assignedSubnet } from './subnet/assigned.ts';
import { choose, type Held } from './subnet/choose.ts';
import type { Snapshot } from './subnet/manager.ts';

/** The lines. @throws NetError as the agent's start does, and for a store that doesn't answer */
export async function dryRun(deps: AgentDeps, nodeId: string, signal: AbortSignal): Promise<string[]> {
  const { kernel, config } = deps;
  const manager = deps.openManager(nodeId);
  try {
    const network = parseNetworkConfig(await manager.networkConfig(signal));
    const snapshot = await firstSnapshot(
      manager.watch(signal, () => {}),
      signal,
    );
    const prepared = prepareFor(deps, nodeId, network, snapshot);
    const lease = foretell(prepared, snapshot, config.subnetFile);
    const peers = snapshot.peers.filter((peer) => leaseKey(peer.subnet) !== leaseKey(lease.subnet));
    const filters = await firewallChanges(kernel, deps.programs, {
      sites: sitesOf(kernel, prepared, lease, peers),
      networks: prepared.networks,
      forwardRules: config.forwardRules,
    });
    const lines = [
      ...printDifference(examine(kernel, targetOf(prepared, config, lease, peers, true))),
      ...printFirewallChanges(filters),
    ];
    const file = formatSubnetEnv({
      network: prepared.site.networks,
      subnet: lease.subnet,
      mtu: prepared.backend.mtu,
      masquerade: config.masquerade,
      unmasqueraded: config.unmasqueraded,
    });
    return [
      `# lease ${leaseKey(lease.subnet)}`,
      ...lines,
      `# ${config.subnetFile}`,
      ...file
        .trimEnd()
        .split('\n')
        .map((line) => `#   ${line}`),
    ];
  } finally {
    await manager.close();
  }
}

async function firstSnapshot(snapshots: AsyncIterable<Snapshot>, signal: AbortSignal): Promise<Snapshot> {
  for await (const snapshot of snapshots) return snapshot;
  throw signal.reason;
}

/** The lease that would be taken, by the same choice; the first of the free subnets stands for a random one. */
function foretell(
  { network, attributes, stored, podsInPrevious }: Prepared,
  { peers, assignment }: Snapshot,
  subnetFile: string,
): Lease {
  if (assignment !== undefined) {
    const { nodeId = '' } = attributes;
    return { ...attributes, subnet: assignedSubnet(network, assignment.subnet, nodeId) };
  }
  const held = [...peers, ...(stored === undefined ? [] : [stored])].map(
    (lease): Held => ({ subnet: lease.subnet, attributes: lease, reservation: false }),
  );
  const choice = choose(
    network,
    held,
    {
      ours: (entry) => entry.attributes === stored,
      publicIp: attributes.publicIp,
      previous: readPrevious(subnetFile).subnet,
      inUse: podsInPrevious,
    },
    () => 0,
  );
  if (choice === undefined) throw new NetError('subnets-exhausted', 'no free subnet');
  return { ...attributes, subnet: choice.own === undefined ? choice.subnet : choice.own.subnet };
}
