// Random clusters: few names, labels, ports and blocks, so that everything meets everything else.

import * as fc from 'fast-check';
import type { Cluster, Manifest, Packet } from './oracle.ts';

const NAMESPACES = ['x', 'y', 'z'];
const KEYS = ['pod', 'tier', 'ns'];
const VALUES = ['a', 'b', 'c'];
const PORTS = [80, 81, 82, 5000, 65_535];
const NAMES = ['web', 'dns', 'none'];
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'];

const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), {
  maxKeys: 3,
  noNullPrototype: true,
});
const values = fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 2 });
const expression = fc.oneof(
  fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('In', 'NotIn'), values }),
  fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom('Exists', 'DoesNotExist') }),
);
const selector = fc.oneof(
  { weight: 1, arbitrary: fc.constant({}) },
  { weight: 2, arbitrary: fc.record({ matchLabels: labels }) },
  { weight: 2, arbitrary: fc.record({ matchExpressions: fc.array(expression, { maxLength: 2 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ matchLabels: labels, matchExpressions: fc.array(expression, { maxLength: 1 }) }),
  },
);

const block = fc.oneof(
  fc.constantFrom(
    { cidr: '10.1.0.0/24', except: ['10.1.0.2/32'] },
    { cidr: '10.1.0.0/16', except: ['10.1.0.0/29', '10.1.0.4/31', '10.1.1.0/24'] },
    { cidr: '0.0.0.0/0' },
    { cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] },
    { cidr: '10.1.0.3/32' },
    { cidr: '192.0.2.0/24', except: ['192.0.2.0/25'] },
    { cidr: '192.0.2.7/24', except: [] },
    { cidr: 'fd00::/64', except: ['fd00::2/127', 'fd00::8/125'] },
    { cidr: '::/0' },
    { cidr: '::/0', except: ['fd00::/16'] },
    { cidr: 'fd00::3/128' },
    { cidr: '2001:db8::/32' },
  ),
  fc
    .tuple(fc.integer({ min: 24, max: 32 }), fc.integer({ min: 0, max: 15 }))
    .map(([length, host]) => ({ cidr: `10.1.0.${host}/${length}` })),
);

const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock: block }),
);

const range = fc
  .tuple(fc.constantFrom(...PORTS), fc.constantFrom(...PORTS))
  .map(([a, b]) => ({ port: Math.min(a, b), endPort: Math.max(a, b) }));
const port = fc
  .tuple(
    fc.oneof(
      fc.constant({}),
      fc.record({ port: fc.constantFrom(...PORTS) }),
      fc.record({ port: fc.constantFrom(...NAMES) }),
      range,
    ),
    fc.option(fc.constantFrom(...PROTOCOLS), { nil: undefined }),
  )
  .map(([which, protocol]) => (protocol === undefined ? which : { ...which, protocol }));

const rule = (side: 'from' | 'to') =>
  fc
    .tuple(
      fc.option(fc.array(peer, { maxLength: 3 }), { nil: undefined }),
      fc.option(fc.array(port, { maxLength: 3 }), { nil: undefined }),
    )
    .map(([peers, ports]) => ({ ...(peers && { [side]: peers }), ...(ports && { ports }) }));

const policy = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    podSelector: selector,
    policyTypes: fc.option(fc.subarray(['Ingress', 'Egress'], { minLength: 1 }), { nil: undefined }),
    ingress: fc.option(fc.array(rule('from'), { maxLength: 2 }), { nil: undefined }),
    egress: fc.option(fc.array(rule('to'), { maxLength: 2 }), { nil: undefined }),
  })
  .map(({ namespace, podSelector, policyTypes, ingress, egress }) => ({
    namespace,
    spec: { podSelector, ...(policyTypes && { policyTypes }), ...(ingress && { ingress }), ...(egress && { egress }) },
  }));

const container = fc.record({
  ports: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('web', 'dns'),
      containerPort: fc.constantFrom(...PORTS),
      protocol: fc.constantFrom(...PROTOCOLS),
    }),
    { maxLength: 2, selector: ({ name }) => name },
  ),
});

const pod = fc.record({
  namespace: fc.constantFrom(...NAMESPACES),
  labels,
  containers: fc.array(container, { minLength: 1, maxLength: 2 }),
  families: fc.constantFrom('4', '6', '46', '46'),
  node: fc.constantFrom('here', 'here', 'there'),
  state: fc.constantFrom('Running', 'Running', 'Running', 'Pending', 'Succeeded', 'hostNetwork'),
});

type PodFields = typeof pod extends fc.Arbitrary<infer T> ? T : never;

const podOf = ({ namespace, labels, containers, families, node, state }: PodFields, at: number): Manifest => ({
  metadata: { name: `pod${at}`, namespace, labels },
  spec: { nodeName: node, containers, ...(state === 'hostNetwork' && { hostNetwork: true }) },
  status: {
    phase: state === 'hostNetwork' ? 'Running' : state,
    podIPs: [
      ...(families.includes('4') ? [{ ip: `10.1.0.${at + 1}` }] : []),
      ...(families.includes('6') ? [{ ip: `fd00::${(at + 1).toString(16)}` }] : []),
    ],
  },
});

/** Namespaces x, y and z, of which some have an object; up to nine pods, up to five policies. */
export const cluster: fc.Arbitrary<Cluster> = fc
  .record({
    namespaces: fc.array(fc.tuple(fc.constantFrom(...NAMESPACES), labels), { maxLength: 3 }),
    pods: fc.array(pod, { minLength: 2, maxLength: 9 }),
    policies: fc.array(policy, { maxLength: 5 }),
  })
  .map(({ namespaces, pods, policies }) => ({
    namespaces: [...new Map(namespaces)].map(([name, labels]) => ({ metadata: { name, labels } })),
    pods: pods.map(podOf),
    policies: policies.map(({ namespace, spec }, at) => ({ metadata: { name: `policy${at}`, namespace }, spec })),
  }));

/** Of all pods, and of these strangers. */
const addressesIn = ({ pods }: Cluster, strangers: readonly string[]): string[] => [
  ...pods.flatMap(({ status }) => status.podIPs.map(({ ip }: { ip: string }) => ip)),
  ...strangers,
];

/** From every address to every one of its family, itself too, with every protocol and port. */
export function* packetsOf<P extends Packet['protocol']>(
  world: Cluster,
  strangers: readonly string[],
  protocols: readonly P[],
  ports: readonly number[],
): Generator<Packet & { readonly protocol: P }> {
  const addresses = addressesIn(world, strangers);
  const pairs = addresses.flatMap((from) =>
    addresses.filter((to) => to.includes(':') === from.includes(':')).map((to) => ({ from, to })),
  );
  for (const pair of pairs)
    for (const protocol of protocols) for (const port of ports) yield { ...pair, protocol, port };
}
