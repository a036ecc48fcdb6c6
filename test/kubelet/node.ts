// A node as Kubernetes has it: containerd, kubelet and kube-proxy in a machine of the practice cluster, with nothing in the
// directories of CNI. Memory is its disk.

import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { type Node, until } from '../../examples/cluster/cluster.ts';
import { endChild } from '../../examples/cluster/machine.ts';
import type { ControlPlane } from '../kubernetes/control-plane.ts';
import { binDirectory } from '../kubernetes/binaries.ts';
import type { ControlGroup } from './cgroup.ts';
import { POD_IMAGE } from './images.ts';

const SLOW = 120_000;
const CONTAINERD = '/run/containerd/containerd.sock';
const CTR = ['--address', CONTAINERD, '--namespace', 'k8s.io'];

// What containerd mounts has to reach the agent's container; what other plugins left in /etc and /opt of this machine must not
// be found. The loopback plugin is containerd's own need, and comes with the packages of a node.
const PREPARE = `mount --make-rshared /
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
rm -rf /etc/cni
mount -t tmpfs tmpfs /opt
mount -t tmpfs tmpfs /var/log
mkdir -p /run/kubernetes /etc/cni/net.d /opt/cni/bin
cp /usr/lib/cni/loopback /opt/cni/bin/`;

// A score or a limit better than that of the tests themselves may be refused.
const CONTAINERD_CONFIG = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "${CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${POD_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`;

const kubeletConfig = (authority: string): object => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  containerRuntimeEndpoint: `unix://${CONTAINERD}`,
  cgroupDriver: 'cgroupfs',
  cgroupsPerQOS: false,
  enforceNodeAllocatable: [],
  failCgroupV1: false,
  failSwapOn: false,
  oomScoreAdj: 0,
  evictionHard: {},
  imageGCHighThresholdPercent: 100,
  localStorageCapacityIsolation: false,
  volumePluginDir: '/run/kubernetes/volume-plugins',
  resolvConf: '',
  healthzBindAddress: '127.0.0.1',
  authentication: { anonymous: { enabled: false }, webhook: { enabled: false }, x509: { clientCAFile: authority } },
  authorization: { mode: 'AlwaysAllow' },
  nodeStatusUpdateFrequency: '5s',
});

const proxyConfig = (node: Node, kubeconfig: string, { clusterCidr, proxyMode }: NodeSettings): object => ({
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: proxyMode,
  hostnameOverride: node.name,
  clusterCIDR: clusterCidr,
  clientConnection: { kubeconfig },
  // The size of the table is this machine's, not a namespace's.
  conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  healthzBindAddress: '127.0.0.1:10256',
  metricsBindAddress: '127.0.0.1:10249',
});

/** Modes of kube-proxy. */
export type ProxyMode = 'nftables' | 'iptables';

export interface NodeSettings {
  readonly plane: ControlPlane;
  readonly group: ControlGroup;
  readonly logs: string;
  readonly clusterCidr: string;
  readonly dualStack: boolean;
  readonly proxyMode: ProxyMode;
  /** Archives that its containerd gets. */
  readonly images: readonly string[];
}

export interface KubeletNode extends Node {
  /** Starts its kubelet, which registers the node. It isn't ready before there is a network. */
  startKubelet(): void;
  /** Its pods go on. */
  stopKubelet(): Promise<void>;
  importImage(archive: string): Promise<void>;
  /** Ends the first process of a container, "containerd://…", as a crash would. */
  kill(containerId: string): Promise<void>;
  /** Words before a command that then runs in the network of a container. */
  within(containerId: string): Promise<string[]>;
}

/** @throws Error when containerd doesn't come up */
export async function startKubeletNode(node: Node, settings: NodeSettings): Promise<KubeletNode> {
  const { plane, group, dualStack } = settings;
  const start = (name: string, command: string, args: readonly string[]): ChildProcess => {
    const log = openSync(join(settings.logs, `${node.name}-${name}.log`), 'a');
    const [first = '', ...rest] = group.within(node.name);
    const child = node.start(first, [...rest, command, ...args], { log });
    closeSync(log);
    return child;
  };
  const file = async (name: string, contents: string | object) => {
    const path = `/run/kubernetes/${name}`;
    const input = typeof contents === 'string' ? contents : JSON.stringify(contents);
    await node.must('sh', ['-ec', `cat >${path}`], { input });
    return path;
  };
  const ctr = (...args: string[]) => node.must('ctr', [...CTR, ...args], { timeoutMs: SLOW });

  await node.must('sh', ['-ec', PREPARE]);
  start('containerd', 'containerd', ['--config', await file('containerd.toml', CONTAINERD_CONFIG)]);
  const answers = async () => (await node.run('ctr', [...CTR, 'version'])).code === 0;
  await until(`${node.name}: containerd answers`, answers, SLOW);
  for (const archive of settings.images) await ctr('image', 'import', archive);

  const proxyCredentials = plane.kubeconfig(`proxy-${node.name}`, '/CN=system:kube-proxy');
  const proxy = await file('proxy.yaml', proxyConfig(node, proxyCredentials, settings));
  start('kube-proxy', join(binDirectory(), 'kube-proxy'), [`--config=${proxy}`]);
  const kubeletFlags = [
    `--config=${await file('kubelet.yaml', kubeletConfig(plane.authority))}`,
    `--kubeconfig=${plane.kubeconfig(`kubelet-${node.name}`, `/O=system:nodes/CN=system:node:${node.name}`)}`,
    `--hostname-override=${node.name}`,
    `--node-ip=${dualStack ? `${node.underlay[4]},${node.underlay[6]}` : node.underlay[4]}`,
  ];
  let kubelet: ChildProcess | undefined;
  return {
    ...node,
    startKubelet() {
      kubelet = start('kubelet', join(binDirectory(), 'kubelet'), kubeletFlags);
    },
    async stopKubelet() {
      if (kubelet !== undefined) await endChild(kubelet);
    },
    importImage: async (archive) => void (await ctr('image', 'import', archive)),
    kill: async (containerId) => void (await ctr('task', 'kill', '--signal', 'SIGKILL', idOf(containerId))),
    async within(containerId) {
      const id = idOf(containerId);
      const pid = new RegExp(`^${id} +(\\d+)`, 'm').exec(await ctr('task', 'list'))?.[1];
      if (pid === undefined) throw new Error(`${node.name}: container ${id} does not run`);
      return ['nsenter', '-t', pid, '-n'];
    },
  };
}

const idOf = (containerId: string): string => containerId.replace('containerd://', '');
