// What nodes still have to do before all is as etcd's leases say.

import { agentStatus, type Cluster, type Node, PREFIX } from '../../examples/cluster/cluster.ts';

export interface StoredLease {
  /** "10.244.1.0-24&fd00:244:0:1::-64" */
  readonly key: string;
  /** Of both families, those that there are. */
  readonly addresses: string;
  readonly nodeId: string | undefined;
}

/** Every lease that etcd has, with whatever options etcdctl needs. */
export async function storedLeases(ask: Cluster['etcdctl'], ...options: readonly string[]): Promise<StoredLease[]> {
  const lines = (await ask(...options, 'get', '--prefix', `${PREFIX}/subnets/`)).trim().split('\n');
  return lines.flatMap((key, at) => {
    if (at % 2 === 1 || lines[at + 1] === undefined) return [];
    const { PublicIP, PublicIPv6, NodeID } = JSON.parse(lines[at + 1] as string);
    const addresses = [PublicIP, PublicIPv6].filter(Boolean).join();
    return [{ key: key.slice(`${PREFIX}/subnets/`.length), addresses, nodeId: NodeID }];
  });
}

const addressesOf = ({ underlay }: Node): string => `${underlay[4]},${underlay[6]}`;

/** In one line; undefined when the node does all that the leases say, and its own tells its addresses. */
export async function unfinished(
  node: Node,
  leases: readonly StoredLease[],
  addresses = addressesOf(node),
): Promise<string | undefined> {
  const status = await agentStatus(node);
  if (status === undefined) return `${node.name}: no agent answers`;
  if (!status.ready) return `${node.name}: not ready: ${status.reason}`;
  const own = leases.find(({ nodeId }) => nodeId === status.nodeId);
  if (own?.addresses !== addresses) return `${node.name}: its lease tells ${own?.addresses}, not ${addresses}`;
  const wanted = sorted(leases.filter((lease) => lease !== own).map((lease) => [lease.key, lease.addresses]));
  const known = sorted(status.peers.map(({ key, publicIp }) => [key, publicIp.join()]));
  const grace = status.graceUntil === undefined ? '' : `, and removes nothing until ${status.graceUntil}`;
  if (known !== wanted) return `${node.name}: knows ${known} instead of ${wanted}${grace}`;
  const amiss = status.peers.filter(({ state }) => state !== 'programmed');
  if (amiss.length > 0) return `${node.name}: ${JSON.stringify(amiss)}`;
  return status.differences.length > 0 ? `${node.name}: ${status.differences.join('; ')}` : undefined;
}

const sorted = (pairs: readonly (readonly [string, string])[]): string =>
  JSON.stringify(pairs.map((pair) => pair.join(' ')).sort());
