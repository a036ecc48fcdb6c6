// NetworkPolicy as the API's documentation tells it, one packet at a time, on the objects as they are written in a manifest.
// Slow and plain: it shares no code with the compiler that it judges.

export interface Manifest {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> };
  // biome-ignore lint/suspicious/noExplicitAny: objects of the API as they come
  readonly spec?: any;
  // biome-ignore lint/suspicious/noExplicitAny: the same
  readonly status?: any;
}

export interface Cluster {
  readonly namespaces: readonly Manifest[];
  readonly pods: readonly Manifest[];
  readonly policies: readonly Manifest[];
}

export interface Packet {
  readonly from: string;
  readonly to: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  readonly port: number;
}

const v4 = (text: string): bigint => text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);

function v6(text: string): bigint {
  const [left = '', right] = text.split('::');
  const words = (half: string) => half.split(':').filter(Boolean);
  const [head, tail] = [words(left), words(right ?? '')];
  const zeros = right === undefined ? [] : Array(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...tail].reduce((sum, word) => sum * 65_536n + BigInt(`0x${word}`), 0n);
}

export function inBlock(cidr: string, ip: string): boolean {
  const [base = '', length] = cidr.split('/');
  if (base.includes(':') !== ip.includes(':')) return false;
  const [bits, number] = ip.includes(':') ? [128n, v6] : [32n, v4];
  const shift = bits - BigInt(length as string);
  return number(base) >> shift === number(ip) >> shift;
}

// biome-ignore lint/suspicious/noExplicitAny: a selector as it comes
function selected(selector: any, labels: Record<string, string> = {}): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const has = key in labels;
    if (operator === 'Exists' && !has) return false;
    if (operator === 'DoesNotExist' && has) return false;
    if (operator === 'In' && !(has && values.includes(labels[key]))) return false;
    if (operator === 'NotIn' && has && values.includes(labels[key])) return false;
  }
  return true;
}

const addressesOf = (pod: Manifest): string[] => (pod.status?.podIPs ?? []).map(({ ip }: { ip: string }) => ip);

/** The pod that has the address, unless it only borrows its node's or is over. */
const podAt = ({ pods }: Cluster, ip: string): Manifest | undefined =>
  pods.find(
    (pod) =>
      addressesOf(pod).includes(ip) &&
      !pod.spec?.hostNetwork &&
      !['Succeeded', 'Failed'].includes(pod.status?.phase ?? ''),
  );

function labelsOfNamespace({ namespaces }: Cluster, name: string): Record<string, string> {
  const labels = namespaces.find(({ metadata }) => metadata.name === name)?.metadata.labels ?? {};
  return { 'kubernetes.io/metadata.name': name, ...labels };
}

// biome-ignore lint/suspicious/noExplicitAny: a peer as it comes
function peerMatches(cluster: Cluster, policy: Manifest, peer: any, ip: string): boolean {
  if (peer.ipBlock) {
    if (!inBlock(peer.ipBlock.cidr, ip)) return false;
    return !(peer.ipBlock.except ?? []).some((hole: string) => inBlock(hole, ip));
  }
  const pod = podAt(cluster, ip);
  if (pod === undefined) return false;
  const namespace = pod.metadata.namespace as string;
  if (peer.namespaceSelector) {
    if (!selected(peer.namespaceSelector, labelsOfNamespace(cluster, namespace))) return false;
  } else if (namespace !== policy.metadata.namespace) return false;
  return peer.podSelector ? selected(peer.podSelector, pod.metadata.labels) : true;
}

// biome-ignore lint/suspicious/noExplicitAny: a port as it comes
function portMatches(cluster: Cluster, { port, protocol = 'TCP', endPort }: any, packet: Packet): boolean {
  if (protocol !== packet.protocol) return false;
  if (port === undefined || port === null) return true;
  if (typeof port === 'number') return packet.port >= port && packet.port <= (endPort ?? port);
  const containers = podAt(cluster, packet.to)?.spec?.containers ?? [];
  for (const { ports = [] } of containers) {
    for (const each of ports) {
      if (each.name === port && (each.protocol ?? 'TCP') === protocol && each.containerPort === packet.port)
        return true;
    }
  }
  return false;
}

function typesOf({ spec }: Manifest): string[] {
  if (spec.policyTypes?.length) return spec.policyTypes;
  return spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
}

function directionAllows(cluster: Cluster, packet: Packet, type: 'Ingress' | 'Egress'): boolean {
  const [own, other] = type === 'Ingress' ? [packet.to, packet.from] : [packet.from, packet.to];
  const pod = podAt(cluster, own);
  if (pod === undefined) return true;
  let isolated = false;
  for (const policy of cluster.policies) {
    if (policy.metadata.namespace !== pod.metadata.namespace) continue;
    if (!typesOf(policy).includes(type)) continue;
    if (!selected(policy.spec.podSelector, pod.metadata.labels)) continue;
    isolated = true;
    for (const rule of (type === 'Ingress' ? policy.spec.ingress : policy.spec.egress) ?? []) {
      const peers = (type === 'Ingress' ? rule.from : rule.to) ?? [];
      const ports = rule.ports ?? [];
      const peerFits = peers.length === 0 || peers.some((peer: unknown) => peerMatches(cluster, policy, peer, other));
      const portFits = ports.length === 0 || ports.some((port: unknown) => portMatches(cluster, port, packet));
      if (peerFits && portFits) return true;
    }
  }
  return !isolated;
}

/**
 * Whether the first packet of a flow may pass a node that enforces for some pods; by default for all of them, as the two
 * nodes of both ends do together.
 */
export function mayPass(cluster: Cluster, packet: Packet, enforcedFor = (_: Manifest) => true): boolean {
  const [from, to] = [podAt(cluster, packet.from), podAt(cluster, packet.to)];
  if (from !== undefined && from === to) return true;
  if (from !== undefined && enforcedFor(from) && !directionAllows(cluster, packet, 'Egress')) return false;
  return to === undefined || !enforcedFor(to) || directionAllows(cluster, packet, 'Ingress');
}
