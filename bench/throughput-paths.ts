// The paths that throughput is measured on: two nodes, a pod on each, and between them an overlay made by an agent, or by
// hand with `ip` as the agent would make it. The pods are attached the same way everywhere.

import { type Cluster, ETCD, hasSubnet, type Node, until } from '../examples/cluster/cluster.ts';

export const BACKENDS = ['vxlan', 'host-gw', 'udp'] as const;
export type Backend = (typeof BACKENDS)[number];
export type Pair = readonly [Node, Node];

/** The pods' packets find their way when it has resolved. */
type MakeOverlay = (cluster: Cluster, pair: Pair, backend: Backend) => Promise<void>;

/** Network and MTU of a node's pods: what subnet.env says. */
interface Site {
  /** Without its last number: "10.244.3". */
  readonly subnet: string;
  readonly mtu: number;
}

const POD = 'pod';
const HAND_MTU = { vxlan: 1450, 'host-gw': 1500 } as const;

/** By hand: the devices, neighbours, forwarding entries and routes of flannel. */
export const byHand: MakeOverlay = async (_cluster, pair, backend) => {
  for (const [self, peer] of [pair, pair.toReversed() as unknown as Pair]) {
    await self.must('sh', ['-ec', handScript(self, peer, backend)]);
    await attachPod(self, { subnet: handSubnet(self), mtu: HAND_MTU[backend as keyof typeof HAND_MTU] });
  }
};

const handSubnet = ({ number }: Node): string => `10.244.${number}`;
const handMac = ({ number }: Node): string => `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`;

function handScript(self: Node, peer: Node, backend: Backend): string {
  const [own, other] = [handSubnet(self), handSubnet(peer)];
  if (backend === 'host-gw') return `ip route add ${other}.0/24 via ${peer.underlay[4]} dev eth0`;
  return [
    `ip link add flannel.1 mtu 1450 address ${handMac(self)} type vxlan id 1 local ${self.underlay[4]} dev eth0 dstport 8472 nolearning`,
    `ip address add ${own}.0/32 dev flannel.1`,
    'ip link set flannel.1 up',
    `bridge fdb add ${handMac(peer)} dev flannel.1 dst ${peer.underlay[4]} self permanent`,
    `ip neighbour add ${other}.0 lladdr ${handMac(peer)} nud permanent dev flannel.1`,
    `ip route add ${other}.0/24 via ${other}.0 dev flannel.1 onlink`,
  ].join('; ');
}

/** By an agent with flannel's command line; each pair has a prefix of its own in etcd. */
export const byAgent =
  (program: string): MakeOverlay =>
  async (cluster, pair, backend) => {
    const prefix = `/bench/${pair[0].name}`;
    const config = { Network: '10.244.0.0/16', Backend: { Type: backend } };
    await cluster.etcdctl('put', `${prefix}/config`, JSON.stringify(config));
    for (const node of pair) {
      const child = node.start(program, [`--etcd-endpoints=${ETCD}`, `--etcd-prefix=${prefix}`]);
      child.stdout?.resume();
      child.stderr?.resume();
    }
    for (const node of pair) {
      await until(`${program} writes subnet.env`, () => hasSubnet(node));
      await attachPod(node, siteOf(await node.must('cat', ['/run/flannel/subnet.env'])));
    }
  };

function siteOf(subnetFile: string): Site {
  const subnet = /^FLANNEL_SUBNET=(.*)\.1\/24$/m.exec(subnetFile)?.[1];
  const mtu = /^FLANNEL_MTU=(\d+)$/m.exec(subnetFile)?.[1];
  if (subnet === undefined || mtu === undefined) throw new Error(`subnet.env: no /24 or no MTU: ${subnetFile}`);
  return { subnet, mtu: Number(mtu) };
}

async function attachPod(node: Node, { subnet, mtu }: Site): Promise<void> {
  const script = [
    'sysctl -qw net.ipv4.ip_forward=1',
    `ip netns add ${POD}`,
    `ip link add cni0 mtu ${mtu} up type bridge`,
    `ip address add ${subnet}.1/24 dev cni0`,
    `ip link add veth0 mtu ${mtu} up master cni0 type veth peer name eth0 mtu ${mtu} netns ${POD}`,
    `ip -n ${POD} address add ${subnet}.2/24 dev eth0`,
    `ip -n ${POD} link set eth0 up`,
    `ip -n ${POD} route add default via ${subnet}.1`,
  ];
  await node.must('sh', ['-ec', script.join('; ')]);
}

/** A command for the node's pod. */
export const inPod = (...command: string[]): string[] => ['netns', 'exec', POD, ...command];

/** The address of the node's pod. */
export async function podAddress(node: Node): Promise<string> {
  const text = await node.must('ip', ['-n', POD, '-4', '-o', 'address', 'show', 'dev', 'eth0']);
  return /inet ([\d.]+)\//.exec(text)?.[1] ?? '';
}
