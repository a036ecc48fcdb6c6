// A whole Kubernetes on this machine: a control plane with scheduler, and nodes with kubelets that run the agents'
// DaemonSet from the manifest and the image that users get.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { type Cluster, DUAL_NETWORK, startCluster, until } from '../../examples/cluster/cluster.ts';
import type { KubeObject } from '../../flanneld/kube/list-watch.ts';
import { binDirectory, PROGRAMS } from '../kubernetes/binaries.ts';
import { type ControlPlane, type Manifest, startControlPlane } from '../kubernetes/control-plane.ts';
import { DUAL, lacking as lackingPrograms, SINGLE } from '../kubernetes/stage.ts';
import { makeControlGroup } from './cgroup.ts';
import { AGENT_TAG, buildAgentImage, buildPodImage } from './images.ts';
import { type KubeletNode, type ProxyMode, startKubeletNode } from './node.ts';

/** Bound of everything that kubelets do one after the other. */
export const SLOW = 240_000;
const MANIFEST = join(import.meta.dirname, '../../deploy/kube-flannel-ts.yml');
const DAEMON_SET = '/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ts';
const AGENTS = '/api/v1/namespaces/kube-flannel/pods?labelSelector=app=flannel-ts';

export interface KubeClusterOptions {
  readonly nodes: number;
  readonly dualStack: boolean;
  /** nftables by default. */
  readonly proxyMode?: ProxyMode;
  /** Nodes whose kubelets start at once; all by default. */
  readonly started?: number;
}

export interface PodObject extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly creationTimestamp: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly lastTransitionTime: string;
    }[];
    readonly containerStatuses?: readonly { readonly containerID?: string; readonly restartCount: number }[];
  };
}

export interface NetworkOptions {
  readonly backend: 'vxlan' | 'host-gw';
  /** Flags of the agent besides the manifest's. */
  readonly flags?: readonly string[];
}

export interface KubeCluster {
  readonly nodes: readonly KubeletNode[];
  readonly plane: ControlPlane;
  readonly cluster: Cluster;
  /** Creates the objects of the manifest, and waits until all nodes are ready. */
  install(network: NetworkOptions): Promise<void>;
  /** Agents that run the newest template, and nothing else: the DaemonSet is rolled out. */
  rolledOut(): Promise<void>;
  /** Waits until pods can be created in the namespace. */
  hasDefaultAccount(namespace: string): Promise<void>;
  agents(): Promise<readonly PodObject[]>;
  /** The archive of the agents' image with another tag. */
  buildImage(tag: string): string;
  nodeOf(pod: PodObject): KubeletNode;
}

/** As of the tests with the API server alone. */
export const lacking = (): string | false => lackingPrograms(PROGRAMS);

/** Goes with the test. @throws Error when a part doesn't come up */
export async function openKubeCluster(
  t: Test,
  { nodes: count, dualStack, proxyMode = 'nftables', started }: KubeClusterOptions,
): Promise<KubeCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'flannel-kubelets-'));
  const group = makeControlGroup();
  let [cluster, plane]: [Cluster | undefined, ControlPlane | undefined] = [undefined, undefined];
  t.teardown(async () => {
    await plane?.down();
    await cluster?.down();
    await group.remove();
    rmSync(directory, { recursive: true, force: true });
  });
  const images = [buildPodImage(directory), buildAgentImage(directory, AGENT_TAG)];
  cluster = await startCluster({ nodes: count, ownProcesses: true });
  const ranges = dualStack ? DUAL : SINGLE;
  plane = await startControlPlane(cluster, { ...ranges, controllers: '*', advertise: true });
  const scheduler = plane.kubeconfig('scheduler', '/CN=system:kube-scheduler');
  const schedulerFlags = [`--kubeconfig=${scheduler}`, '--leader-elect=false'];
  plane.start('scheduler', join(binDirectory(), 'kube-scheduler'), schedulerFlags);
  const { logs } = cluster;
  const settings = { plane, group, logs, clusterCidr: ranges.clusterCidr, dualStack, proxyMode, images };
  const nodes = await Promise.all(cluster.nodes.map((node) => startKubeletNode(node, settings)));
  for (const node of nodes.slice(0, started)) node.startKubelet();
  return kubeCluster({ cluster, plane, nodes, dualStack, directory });
}

interface Parts extends Pick<KubeCluster, 'cluster' | 'plane' | 'nodes'> {
  readonly dualStack: boolean;
  readonly directory: string;
}

function kubeCluster({ cluster, plane, nodes, dualStack, directory }: Parts): KubeCluster {
  const agents = async () => (await plane.call<{ items: PodObject[] }>('GET', AGENTS)).items;
  async function rolledOut(): Promise<void> {
    const isCurrent = async () => {
      const { metadata, status } = await plane.call<DaemonSet>('GET', DAEMON_SET);
      const wanted = status.desiredNumberScheduled;
      const numbers = [status.updatedNumberScheduled, status.numberAvailable, (await agents()).length];
      return (
        metadata.generation === status.observedGeneration && wanted > 0 && numbers.every((each) => each === wanted)
      );
    };
    await until('the DaemonSet is rolled out', isCurrent, SLOW);
  }
  async function hasDefaultAccount(namespace: string): Promise<void> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
    const isThere = () =>
      plane.call('GET', path).then(
        () => true,
        () => false,
      );
    await until(`the service account of ${namespace}`, isThere, SLOW);
  }
  return {
    cluster,
    plane,
    nodes,
    agents,
    rolledOut,
    hasDefaultAccount,
    async install({ backend, flags = [] }) {
      const network = { ...(dualStack ? DUAL_NETWORK : { Network: DUAL_NETWORK.Network }), Backend: { Type: backend } };
      for (const object of manifest()) await plane.create(configured(object, network, flags));
      await rolledOut();
      const isReady = async () => (await nodeObjects(plane)).every(conditionOf('Ready', 'True'));
      await until('all nodes are ready', isReady, SLOW);
    },
    buildImage: (tag) => buildAgentImage(directory, tag),
    nodeOf: ({ spec }) => nodes.find(({ name }) => name === spec.nodeName) as KubeletNode,
  };
}

interface DaemonSet {
  readonly metadata: { readonly generation: number };
  readonly status: {
    readonly observedGeneration?: number;
    readonly desiredNumberScheduled: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, as they come
type AnyManifest = Manifest & any;

const manifest = (): AnyManifest[] => parseAllDocuments(readFileSync(MANIFEST, 'utf8')).map((each) => each.toJS());

/** The manifest's object, with what users are told to change. */
function configured(object: AnyManifest, network: object, flags: readonly string[]): AnyManifest {
  if (object.kind === 'ConfigMap') object.data['net-conf.json'] = JSON.stringify(network);
  if (object.kind === 'DaemonSet') object.spec.template.spec.containers[0].args.push(...flags);
  return object;
}

export interface NodeObject extends KubeObject {
  readonly spec: { readonly podCIDRs: readonly string[] };
  readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export const nodeObjects = async (plane: ControlPlane): Promise<readonly NodeObject[]> =>
  (await plane.call<{ items: NodeObject[] }>('GET', '/api/v1/nodes')).items;

/** Whether an object has a condition. */
export const conditionOf =
  (type: string, status: string) =>
  (object: { readonly status: { readonly conditions?: readonly { type: string; status: string }[] } }): boolean =>
    object.status.conditions?.some((each) => each.type === type && each.status === status) === true;

/** Changes the template of the DaemonSet's pods, which begins a roll-out. */
export async function changeTemplate(plane: ControlPlane, change: (template: AnyManifest) => void): Promise<void> {
  const { spec } = await plane.call<AnyManifest>('GET', DAEMON_SET);
  change(spec.template);
  await plane.call('PATCH', DAEMON_SET, { spec: { template: spec.template } });
}
