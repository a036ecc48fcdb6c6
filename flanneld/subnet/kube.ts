// The subnet manager over Kubernetes' Nodes, with flannel's annotations. The controller manager gives each node its pod CIDR;
// that is the subnet, and the lease is what the annotations say. Nothing expires: a lease goes with its Node.

import { isObject } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { familiesOf, type Lease, leaseKey, type PerFamily } from '../../model/lease.ts';
import type { Ip } from '../../model/ip.ts';
import { systemClock, untilAborted } from '../clock.ts';
import type { KubeClient } from '../kube/client.ts';
import { type KubeEvents, kubeEvents } from '../kube/events.ts';
import { type KubeObject, type ListWatchTimes, listWatch, type Objects } from '../kube/list-watch.ts';
import { NODE } from '../kube/messages.ts';
import type { KubeConfig } from '../kube/options.ts';
import { assignedSubnet } from './assigned.ts';
import { readConfigFile, watchConfigFile } from './config-file.ts';
import { annotationsFor, type KubeNode, nodeReader, unoverwritten } from './kube-node.ts';
import { latest } from './latest.ts';
import type { Snapshot, Standing, SubnetManager } from './manager.ts';
import { whenNew } from './pauses.ts';
import { createPeerList } from './peer-list.ts';
import { standingEvents } from './standing-events.ts';

export interface KubeOptions {
  readonly kube: Pick<KubeConfig, 'annotationPrefix' | 'networkConfig' | 'clearUnavailable'>;
  readonly client: KubeClient;
  /** Name of this node. */
  readonly node: string;
  /** Told what doesn't work that nothing else depends on: Events, the condition. */
  readonly report: (trouble: unknown) => void;
  /** Other times, for tests. */
  readonly times?: ListWatchTimes | undefined;
}

const NODES = '/api/v1/nodes';
/** How late a watch tells of what was answered already. */
const LATE_MS = 10_000;

/** Talks to the server when used. */
export function openKube({ kube, client, node: name, report, times }: KubeOptions): SubnetManager {
  const path = `${NODES}/${name}`;
  const read = nodeReader(kube.annotationPrefix);
  const resource = {
    path: NODES,
    message: NODE,
    strip(object: KubeObject): KubeNode {
      if (object.metadata.name === name) told = versionOf(object);
      return read(object);
    },
  };
  const isPeer = (node: KubeNode | undefined): boolean => node !== undefined && node.name !== name;
  const trouble = whenNew(report);
  const events: KubeEvents = kubeEvents(client, name, trouble);
  let nodes: Objects<KubeNode> | undefined;
  let held: Lease | undefined;
  /** Versions of our Node: that of the watch, and the one that was last written. */
  let [told, written]: (bigint | undefined)[] = [];
  let writtenAt = 0;
  /** The Node (uid) whose condition was cleared. */
  let cleared: string | undefined;
  const ended = new AbortController();

  async function fetchNode(signal: AbortSignal): Promise<KubeNode> {
    return read((await client.get(path, {}, signal)) as KubeObject);
  }

  /** As the watch shows it, where there is one: a node that waits doesn't ask again and again. @throws NetError */
  function watched(): KubeNode | undefined {
    if (nodes === undefined) return undefined;
    const node = nodes.get(name);
    if (node === undefined) throw new NetError('not-in-kube', `there is no Node ${name}`, { subject: name });
    return node;
  }

  async function write(lease: Lease, node: KubeNode, signal: AbortSignal): Promise<void> {
    const answer = await client.patch(
      `${path}/status`,
      { metadata: { annotations: annotationsFor(lease, node, kube.annotationPrefix) } },
      signal,
    );
    [written, writtenAt] = [versionOf(answer), systemClock.now()];
    held = lease;
  }

  /** What we have just written, where the watch is from before: it would look as if somebody had taken the lease away. */
  function justWritten(): Lease | undefined {
    const isBefore = written !== undefined && told !== undefined && told < written;
    return isBefore && systemClock.now() - writtenAt < LATE_MS ? held : undefined;
  }

  async function clearCondition(uid: string): Promise<void> {
    if (!kube.clearUnavailable || cleared === uid) return;
    const before = cleared;
    cleared = uid;
    try {
      await client.patch(`${path}/status`, { status: { conditions: [available(new Date())] } }, ended.signal);
    } catch (error) {
      cleared = before;
      if (!ended.signal.aborted) trouble(error);
    }
  }

  return {
    networkConfig: async () => readConfigFile(kube.networkConfig),
    watchConfig: (signal, report) => watchConfigFile(kube.networkConfig, signal, report),

    async acquire({ network, attributes }, signal) {
      try {
        const known = watched();
        if (known !== undefined) assignedSubnet(network, known.podCidrs, name);
        const node = await fetchNode(signal);
        const lease = { ...attributes, nodeId: name, subnet: assignedSubnet(network, node.podCidrs, name) };
        if (differs(lease, node)) await write(lease, node, signal);
        held = lease;
        return lease;
      } catch (error) {
        if (error instanceof NetError && error.code === 'no-pod-cidr')
          events.tell({ type: 'Warning', reason: 'NoPodCIDR', message: error.message });
        throw error;
      }
    },

    async publish(lease, signal) {
      const node = watched() ?? (await fetchNode(signal));
      const assigned = Object.fromEntries(familiesOf(lease.subnet).map((family) => [family, node.podCidrs[family]]));
      if (leaseKey(assigned) !== leaseKey(lease.subnet)) throw moved(lease, assigned, name);
      await write(lease, node, signal);
    },

    keepAlive: untilAborted,

    async *watch(signal, report) {
      const peers = createPeerList();
      const onChange = (before: KubeNode | undefined, now: KubeNode | undefined): void => {
        if (isPeer(before ?? now)) peers.change(before?.lease, now?.lease);
      };
      const source = (stop: AbortSignal) => listWatch(client, { ...resource, onChange }, stop, report, times);
      for await (const now of latest(source, signal)) {
        nodes = now;
        const node = now.get(name);
        if (node !== undefined && cleared !== undefined) void clearCondition(node.uid);
        yield { ...ownSide(node, held?.publicIp ?? {}, justWritten()), peers: peers.all() };
      }
    },

    observe(standing: Standing) {
      for (const event of standingEvents(standing)) events.tell(event);
      const node = nodes?.get(name);
      if (standing.ready && node !== undefined) void clearCondition(node.uid);
    },

    reconnect: client.reconnect,

    async close() {
      ended.abort();
      events.close();
      client.close();
    },
  };
}

/** As flannel writes it, so that a node that changes from one to the other shows no change. */
const available = (now: Date) => ({
  type: 'NetworkUnavailable',
  status: 'False',
  reason: 'FlannelIsUp',
  message: 'Flannel is running on this node',
  lastTransitionTime: now.toISOString(),
  lastHeartbeatTime: now.toISOString(),
});

/** Whether the node's annotations say something else than the lease. */
function differs(lease: Lease, node: KubeNode): boolean {
  if (node.lease === undefined) return true;
  const published = { ...lease, publicIp: { ...lease.publicIp, ...overwritten(lease, node) } };
  const text = ({ publicIp, backendType, backendData }: Lease) =>
    JSON.stringify([publicIp[4], publicIp[6], backendType, backendData[4], backendData[6]]);
  return text(published) !== text(node.lease);
}

const overwritten = ({ publicIp }: Lease, { overwrites }: KubeNode): PerFamily<Ip> =>
  Object.fromEntries(
    familiesOf(publicIp).flatMap((family) => (overwrites[family] ? [[family, overwrites[family]]] : [])),
  );

const moved = (lease: Lease, assigned: PerFamily<string>, name: string): NetError =>
  new NetError(
    'lease-lost',
    `node ${name} has pod CIDR ${Object.values(assigned).join(' and ') || '(none)'} now, not ${leaseKey(lease.subnet)}`,
    { subject: name },
  );

/** A snapshot's part about this node. `written` is our own lease, whatever the node says. */
function ownSide(
  node: KubeNode | undefined,
  meant: PerFamily<Ip>,
  written: Lease | undefined,
): Omit<Snapshot, 'peers'> {
  const own = written ?? (node?.lease && unoverwritten(node.lease, node, meant));
  const subnet = written?.subnet ?? node?.podCidrs ?? {};
  return { own, assignment: { subnet, publicIp: node?.nodeIps ?? {} } };
}

/**
 * Versions are the store's revisions and grow, though clients are told to take them for words: one that is none is no
 * version.
 */
function versionOf(object: unknown): bigint | undefined {
  const version = isObject(object) && isObject(object.metadata) ? object.metadata.resourceVersion : undefined;
  return typeof version === 'string' && /^\d+$/.test(version) ? BigInt(version) : undefined;
}
