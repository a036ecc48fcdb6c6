// Two nodes with a pod each, joined by the udp backend's data path. Node N has 192.0.2.N (or 2001:db8::N) on the underlay
// and the pod networks 10.244.N.0/24 and fd00:0:0:N::/64; its pod has the second address of each, and the node's own
// address on the overlay is the network's.

import type { Test } from 'tap';
import { type Family, type Ip, ip, type Prefix, prefix } from '../../model/ip.ts';
import { makeNamespace, type TestNamespace } from './namespace.ts';
import { PORT, type UdpProxy, type Route, replacement, startProxy } from './udp-proxy.ts';

export const DEVICE = 'flannel0';
/** What the underlay's 1500 bytes leave. */
export const MTU: Readonly<Record<Family, number>> = { 4: 1472, 6: 1452 };

export interface OverlayNode {
  readonly host: TestNamespace;
  readonly pod: TestNamespace;
  readonly underlay: Ip;
  readonly podAddress: Readonly<Record<Family, Ip>>;
  readonly networks: readonly Prefix[];
  readonly proxy: UdpProxy;
  /** Starts another proxy, after the first one has ended. */
  restart(): Promise<UdpProxy>;
}

export const underlayOf = (family: Family, number: number): Ip =>
  ip(family === 4 ? `192.0.2.${number}` : `2001:db8::${number}`);

const ownAddress = (number: number): readonly string[] => [`10.244.${number}.0`, `fd00:0:0:${number}::`];

/** The routes of one node that lead to the other. */
export const routesTo = ({ networks, underlay }: OverlayNode): Route[] =>
  networks.map((network) => ({ network, nextHop: underlay }));

/** Puts routes in force, and waits for it. */
export async function setRoutes(proxy: UdpProxy, routes: readonly Route[]): Promise<void> {
  proxy.send(replacement(routes));
  await proxy.counters();
}

/** Makes both nodes, each with its routes to the other. */
export async function makeOverlay(
  t: Test,
  binaries: readonly [string, string],
  family: Family,
): Promise<OverlayNode[]> {
  const hosts = [makeHost(t, 'node1'), makeHost(t, 'node2')] as const;
  hosts[0].must(`ip link add eth0 type veth peer name eth0 netns ${hosts[1].name}`);
  const nodes = await Promise.all(
    hosts.map((host, index) => makeNode(t, binaries[index] ?? '', host, index + 1, family)),
  );
  await Promise.all(nodes.map(({ proxy }, index) => setRoutes(proxy, routesTo(nodes[1 - index] as OverlayNode))));
  return nodes;
}

/** Without duplicate address detection: until that is over, the kernel asks for no neighbour. */
function makeHost(t: Test, label: string): TestNamespace {
  const host = makeNamespace(t, label);
  host.must('sysctl -q -w net.ipv6.conf.default.accept_dad=0');
  return host;
}

async function makeNode(
  t: Test,
  binary: string,
  host: TestNamespace,
  number: number,
  family: Family,
): Promise<OverlayNode> {
  const underlay = underlayOf(family, number);
  host.must(`ip address add ${underlay}/${family === 4 ? '24' : '64 nodad'} dev eth0`);
  host.must('ip link set eth0 up');
  host.must('sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1');
  const pod = makePod(t, host, number, family);
  const start = (): Promise<UdpProxy> =>
    startProxy(t, binary, host, [DEVICE, underlay, String(PORT), ...ownAddress(number)]);
  const proxy = await start();
  setUpDevice(host, number, family);
  return {
    host,
    pod,
    underlay,
    podAddress: { 4: ip(`10.244.${number}.2`), 6: ip(`fd00:0:0:${number}::2`) },
    networks: [prefix(`10.244.${number}.0/24`), prefix(`fd00:0:0:${number}::/64`)],
    proxy,
    restart: start,
  };
}

function makePod(t: Test, host: TestNamespace, number: number, family: Family): TestNamespace {
  const pod = makeHost(t, `pod${number}`);
  host.must(`ip link add pod0 mtu ${MTU[family]} type veth peer name eth0 mtu ${MTU[family]} netns ${pod.name}`);
  for (const [where, device, last] of [
    [host, 'pod0', 1],
    [pod, 'eth0', 2],
  ] as const) {
    where.must(`ip address add 10.244.${number}.${last}/24 dev ${device}`);
    where.must(`ip address add fd00:0:0:${number}::${last}/64 dev ${device} nodad`);
    where.must(`ip link set ${device} up`);
  }
  pod.must(`ip route add default via 10.244.${number}.1`);
  pod.must(`ip route add default via fd00:0:0:${number}::1`);
  return pod;
}

/** What the agent does with the device. */
function setUpDevice(host: TestNamespace, number: number, family: Family): void {
  const [ipv4, ipv6] = ownAddress(number);
  host.must(`sysctl -q -w net.ipv4.conf.${DEVICE}.accept_local=1`);
  host.must(`ip link set ${DEVICE} mtu ${MTU[family]} addrgenmode none`);
  host.must(`ip address add ${ipv4}/32 dev ${DEVICE}`);
  host.must(`ip address add ${ipv6}/128 dev ${DEVICE} nodad`);
  host.must(`ip link set ${DEVICE} up`);
  host.must(`ip route add 10.244.0.0/16 dev ${DEVICE}`);
  host.must(`ip route add fd00::/48 dev ${DEVICE}`);
}
