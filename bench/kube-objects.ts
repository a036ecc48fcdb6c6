// Objects of a big cluster as its API server holds them, with as much in them as kubelets and controllers write: Nodes with
// their images and conditions, Pods with two containers and their states.

import { peerLease } from './agent-leases.ts';

export const PODS_ON_NODE = 10;
/** Pods of a namespace; each has a policy. */
const PODS_IN_NAMESPACE = 100;
const IMAGES = 25;
const PREFIX = 'flannel.alpha.coreos.com/';
const TIME = '2026-01-01T00:00:00Z';

const hex = (number: number, length: number): string => number.toString(16).padStart(length, '0');
const digest = (number: number): string => hex(number, 8).repeat(8);

export const nodeName = (number: number): string => `node-${number}.example.internal`;
export const namespaceName = (pod: number): string => `team-${Math.floor(pod / PODS_IN_NAMESPACE)}`;
const podName = (pod: number): string => `app-${hex(pod, 6)}-${hex((pod * 7919) % 65_536, 5)}`;
export const namespacesFor = (pods: number): number => Math.ceil(pods / PODS_IN_NAMESPACE);

export interface ApiObject {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

/** A kubelet reports these every ten seconds to five minutes; `beat` tells them apart. */
export const conditions = (beat: number) =>
  ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready'].map((type) => ({
    type,
    status: type === 'Ready' ? 'True' : 'False',
    lastHeartbeatTime: new Date(Date.parse(TIME) + beat * 1000).toISOString(),
    lastTransitionTime: TIME,
    reason: `Kubelet${type}`,
    message: `kubelet has nothing to say about ${type}`,
  }));

/** The Node of a number from 0, with the lease of its agent. */
export function nodeObject(number: number): ApiObject {
  const { subnet, publicIp, mac } = peerLease(number);
  const name = nodeName(number);
  const capacity = { cpu: '64', memory: '263855948Ki', pods: '250', 'ephemeral-storage': '1843269236Ki' };
  return {
    metadata: {
      name,
      labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'topology.kubernetes.io/zone': 'zone-a' },
      annotations: {
        [`${PREFIX}kube-subnet-manager`]: 'true',
        [`${PREFIX}backend-type`]: 'vxlan',
        [`${PREFIX}backend-data`]: JSON.stringify({ VNI: 1, VtepMAC: mac }),
        [`${PREFIX}public-ip`]: publicIp,
        'node.alpha.kubernetes.io/ttl': '0',
        'volumes.kubernetes.io/controller-managed-attach-detach': 'true',
      },
    },
    spec: { podCIDR: `${subnet}/24`, podCIDRs: [`${subnet}/24`] },
    status: {
      addresses: [
        { type: 'InternalIP', address: publicIp },
        { type: 'Hostname', address: name },
      ],
      capacity,
      allocatable: capacity,
      conditions: conditions(0),
      images: Array.from({ length: IMAGES }, (_, image) => ({
        names: [`registry.example.internal/team/app-${image}@sha256:${digest(image)}`, `app-${image}:v1.${number}`],
        sizeBytes: 100_000_000 + image,
      })),
    },
  };
}

const container = (name: string, port: number) => ({
  name,
  image: `registry.example.internal/team/${name}:v1.2.3`,
  ports: [{ name: `${name}-port`, containerPort: port, protocol: 'TCP' }],
  env: ['A', 'B', 'C', 'D'].map((key) => ({ name: `SETTING_${key}`, value: `value of ${key} for ${name}` })),
  resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
  livenessProbe: { httpGet: { path: '/healthz', port }, periodSeconds: 10 },
});

/** The Pod of a number from 0, on the node that it says. */
export const podObject = (number: number, node: string): ApiObject => ({
  metadata: {
    name: podName(number),
    namespace: namespaceName(number),
    labels: {
      app: `app-${Math.floor(number / 20) % 5}`,
      role: number % 2 === 0 ? 'server' : 'client',
      'pod-template-hash': hex((Math.floor(number / 20) * 7919) % 65_536, 10),
      'app.kubernetes.io/part-of': namespaceName(number),
    },
    annotations: { 'example.internal/config-hash': digest(number) },
    ownerReferences: [
      { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `app-${number}`, uid: crypto.randomUUID(), controller: true },
    ],
  },
  spec: {
    nodeName: node,
    containers: [container('web', 8080), container('metrics', 9090)],
    tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'team', effect: 'NoSchedule' }],
  },
});

/** What the kubelet says of a running pod with this address. */
export const podStatus = (address: string) => ({
  status: {
    phase: 'Running',
    podIP: address,
    podIPs: [{ ip: address }],
    startTime: TIME,
    conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({
      type,
      status: 'True',
      lastTransitionTime: TIME,
    })),
    containerStatuses: ['web', 'metrics'].map((name) => ({
      name,
      ready: true,
      restartCount: 0,
      image: `registry.example.internal/team/${name}:v1.2.3`,
      imageID: `registry.example.internal/team/${name}@sha256:${digest(1)}`,
      containerID: `containerd://${digest(2)}`,
      state: { running: { startedAt: TIME } },
    })),
  },
});

/** Servers of a namespace are reached by its clients only. */
export const policyObject = (namespace: number): ApiObject => ({
  metadata: { name: 'servers', namespace: `team-${namespace}` },
  spec: {
    podSelector: { matchLabels: { role: 'server' } },
    policyTypes: ['Ingress'],
    ingress: [
      { from: [{ podSelector: { matchLabels: { role: 'client' } } }], ports: [{ protocol: 'TCP', port: 8080 }] },
    ],
  },
});

/** Address of a pod in the subnet of its node's lease. */
export const podAddress = (subnet: string, place: number): string => subnet.replace(/0$/, String(place + 2));
