// The policies of the measurement in three spreads, and the same as linear rules: a jump for each pod, and for each policy of
// the pod a chain that looks its peers up, which is how add-ons for policies most often do it.

import type { Objects, Pod, Policy } from '../flanneld/policy/objects.ts';
import { parsePod, parseNamespace } from '../flanneld/policy/parse-pod.ts';
import { parsePolicy } from '../flanneld/policy/parse-policy.ts';

/** spread: over 110 pods; own: a pod for each; one: all for the pod that is probed. */
export const SPREADS = ['spread', 'own', 'one'] as const;
export type Spread = (typeof SPREADS)[number];

const NAMESPACE = 'bench';
export const CLIENT = '10.90.0.1';
export const SERVER = '10.91.255.254';
/** That the last policy of the server's allows. */
export const PORT = 8080;
const PODS = 110;
const PEERS = 8;
const PEER_LABELS = 625;

const addressAt = (net: number, at: number): string => `10.${net}.${at >> 8}.${at & 255}`;

export interface Setting {
  readonly objects: Objects;
  /** The pods that policies select, the server last. */
  readonly locals: readonly Pod[];
}

const pod = (name: string, address: string, labels: Record<string, string>, node: string): Pod =>
  parsePod(
    {
      metadata: { name, namespace: NAMESPACE, labels },
      spec: { nodeName: node },
      status: { podIPs: [{ ip: address }] },
    },
    name,
  );

/** A policy for a pod that admits the peers of a label to a port; the last of all admits the client. */
export const policyAt = (
  at: number,
  of: number,
  target: string,
  port = at === of - 1 ? PORT : 9000 + (at % 1000),
): Policy => parsePolicy(policyManifest(at, of, target, port), `policy ${at}`);

export const policyManifest = (at: number, of: number, target: string, port: number): object => ({
  kind: 'NetworkPolicy',
  metadata: { name: `policy${at}`, namespace: NAMESPACE },
  spec: {
    podSelector: { matchLabels: { id: target } },
    ingress: [
      {
        from: [{ podSelector: { matchLabels: { app: at === of - 1 ? 'client' : `app${at % PEER_LABELS}` } } }],
        ports: [{ port }, { port, protocol: 'UDP' }],
      },
    ],
  },
});

export const targetOf = (spread: Spread, at: number, of: number): string => {
  if (spread === 'one' || at === of - 1) return 'server';
  return `pod${spread === 'spread' ? at % (PODS - 1) : at}`;
};

export function setting(spread: Spread, policies: number): Setting {
  const names = new Set(Array.from({ length: policies }, (_, at) => targetOf(spread, at, policies)));
  for (let at = 0; at < PODS - 1; at++) names.add(`pod${at}`);
  names.delete('server');
  const locals = [
    ...[...names].map((name, at) => pod(name, addressAt(91, at + 1), { id: name }, 'here')),
    pod('server', SERVER, { id: 'server' }, 'here'),
  ];
  const peers = Array.from({ length: PEERS * PEER_LABELS }, (_, at) =>
    pod(`peer${at}`, addressAt(92, at + 1), { app: `app${at % PEER_LABELS}` }, 'there'),
  );
  const objects = {
    namespaces: [parseNamespace({ metadata: { name: NAMESPACE } }, NAMESPACE)],
    pods: [...locals, ...peers, pod('client', CLIENT, { app: 'client' }, 'there')],
    policies: Array.from({ length: policies }, (_, at) => policyAt(at, policies, targetOf(spread, at, policies))),
  };
  return { objects, locals };
}

/** What every node has: flows are tracked. */
export const CONNTRACK = `table inet bench {
  chain forward { type filter hook forward priority 0; ct state established,related accept; ct state new accept; }
}
`;

/** Text for nft -f. */
export function linearRules({ objects, locals }: Setting): string {
  const chains: string[] = [];
  const jumps: string[] = [];
  for (const { name, addresses, labels } of locals) {
    const own = objects.policies.filter(({ pods }) => pods.labels[0]?.[1] === labels.get('id'));
    if (own.length === 0) continue;
    const rules = own.map(({ name: policy, ingress }) => {
      const [rule] = ingress ?? [];
      const peer = rule?.peers?.[0];
      const app = peer !== undefined && 'pods' in peer ? peer.pods?.labels[0]?.[1] : undefined;
      const from = objects.pods.filter((each) => each.labels.get('app') === app).flatMap((each) => each.addresses);
      const port = rule?.ports?.[0]?.port ?? 0;
      chains.push(
        `set ${policy} { type ipv4_addr; elements = { ${from.join(', ')} }; }`,
        `chain ${policy} { ip saddr @${policy} meta l4proto { tcp, udp } th dport ${port} meta mark set 0x10000 return\n}`,
      );
      return `jump ${policy}\n meta mark & 0x10000 == 0x10000 return`;
    });
    chains.push(`chain ${name} { ct state established,related accept\n ${rules.join('\n ')}\n drop\n}`);
    jumps.push(`ip daddr ${addresses[0]} jump ${name}`);
  }
  const forward = `chain forward { type filter hook forward priority 0;\n ${jumps.join('\n ')}\n}`;
  return `table inet linear {\n${chains.join('\n')}\n${forward}\n}\n`;
}
