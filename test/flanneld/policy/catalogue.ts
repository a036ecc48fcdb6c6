// Policies in every form that the semantics know, combined by plain generators: targets, rules, peers alone and in pairs,
// ports by number, name, range and protocol, conflicts, examples and changes. 230 cases over nine pods, x, y, z by a, b, c;
// what they allow is the matcher's to say.

import type { Cluster, Manifest } from './oracle.ts';
import { addressOf, CASES, clusterAt } from './truth-tables.ts';

export interface CatalogueCase {
  readonly title: string;
  /** One after the other on the same node. */
  readonly steps: readonly Cluster[];
}

export const PODS = ['x', 'y', 'z'].flatMap((namespace) => ['a', 'b', 'c'].map((pod) => namespace + pod));
type Side = 'ingress' | 'egress';
const SIDES = ['ingress', 'egress'] as const;
const other = (side: Side): 'from' | 'to' => (side === 'ingress' ? 'from' : 'to');
const typeOf = (side: Side): string => (side === 'ingress' ? 'Ingress' : 'Egress');

const LABELLED = { x: { ns: 'x' }, y: { ns: 'y' }, z: { ns: 'z' } };
type Labels = Readonly<Record<string, Record<string, string>>>;
const world = (policies: readonly Manifest[], labels: Labels = LABELLED, pods: readonly string[] = PODS): Cluster =>
  clusterAt({ title: '', pods, stages: [] }, { policies, labels, probes: [] });

const policy = (spec: object, namespace = 'x', name = 'policy'): Manifest => ({ metadata: { namespace, name }, spec });
const on = (side: Side, rules: readonly object[], podSelector: object = { matchLabels: { pod: 'a' } }): Manifest =>
  policy({ podSelector, policyTypes: [typeOf(side)], [side]: rules });
const one = (title: string, ...policies: Manifest[]): CatalogueCase => ({ title, steps: [world(policies)] });

const podC = { matchLabels: { pod: 'c' } };
const nsX = { matchLabels: { ns: 'x' } };
const PEERS: Readonly<Record<string, object>> = {
  block: { ipBlock: { cidr: '10.1.2.0/24' } },
  'block without': { ipBlock: { cidr: '10.1.0.0/16', except: ['10.1.2.0/30', '10.1.3.3/32'] } },
  'all pods here': { podSelector: {} },
  'pods c here': { podSelector: podC },
  'all namespaces': { namespaceSelector: {} },
  'all pods everywhere': { namespaceSelector: {}, podSelector: {} },
  'pods c everywhere': { namespaceSelector: {}, podSelector: podC },
  'namespace x': { namespaceSelector: nsX },
  'all pods in x': { namespaceSelector: nsX, podSelector: {} },
  'pods c in x': { namespaceSelector: nsX, podSelector: podC },
};

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const NUMBERED = [undefined, ...PROTOCOLS].flatMap((protocol) =>
  [undefined, 80, 81].map((port) => ({ ...(protocol && { protocol }), ...(port && { port }) })),
);
const NAMED = [80, 81].flatMap((port) =>
  PROTOCOLS.map((protocol) => ({ protocol, port: `serve-${port}-${protocol.toLowerCase()}` })),
);
const RANGES = [80, 84].flatMap((endPort) => PROTOCOLS.map((protocol) => ({ protocol, port: 53, endPort })));
const PATHOLOGICAL = [
  { protocol: 'TCP', port: 'serve-80-udp' },
  { protocol: 'TCP', port: 'serve-7981-tcp' },
  { protocol: 'TCP', port: 7981 },
];
const TWO = [
  [NUMBERED[4], NUMBERED[8]],
  [NUMBERED[4], NUMBERED[7]],
  [NUMBERED[3], NUMBERED[11]],
  [NAMED[0], NAMED[4]],
  [NAMED[0], NUMBERED[5]],
  [RANGES[0], NUMBERED[8]],
  [RANGES[3], NAMED[2]],
];

const pairs = <T>(items: readonly T[]): (readonly [T, T])[] =>
  items.flatMap((first, at) => items.slice(at + 1).map((second) => [first, second] as const));

const text = (value: unknown): string => JSON.stringify(value).replace(/"/g, '');

const DNS = { ports: [{ protocol: 'UDP', port: 53 }] };
const targets = ['x', 'y', 'z'].map((namespace) =>
  one(
    `target: namespace ${namespace}`,
    policy(
      {
        podSelector: {},
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ podSelector: {} }] }],
        egress: [DNS, { to: [{ podSelector: {} }] }],
      },
      namespace,
    ),
  ),
);
const selectors = [
  {},
  { matchLabels: { pod: 'a' } },
  { matchExpressions: [{ key: 'pod', operator: 'In', values: ['a', 'b'] }] },
].map((podSelector) =>
  one(
    `target: ${text(podSelector)}`,
    policy({
      podSelector,
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [{ namespaceSelector: nsX }] }],
      egress: [DNS, { to: [{ namespaceSelector: nsX }] }],
    }),
  ),
);

const rules = SIDES.flatMap((side) => [
  one(`rules: ${side} denies all`, on(side, [])),
  one(`rules: ${side} allows all`, on(side, [{}])),
]);

const peers = SIDES.flatMap((side) => {
  const [names, all] = [Object.keys(PEERS), Object.values(PEERS)];
  return [
    one(`peers: ${side}, none named`, on(side, [{ [other(side)]: [] }])),
    ...names.map((name, at) => one(`peers: ${side}, ${name}`, on(side, [{ [other(side)]: [all[at]] }]))),
    ...pairs(names).map(([a, b]) =>
      one(`peers: ${side}, ${a} and ${b}`, on(side, [{ [other(side)]: [PEERS[a], PEERS[b]] }])),
    ),
  ];
});

const ports = SIDES.flatMap((side) => [
  one(`ports: ${side}, none named`, on(side, [{ ports: [] }])),
  ...[...NUMBERED, ...NAMED, ...RANGES, ...PATHOLOGICAL].map((port) =>
    one(`ports: ${side}, ${text(port)}`, on(side, [{ ports: [port] }])),
  ),
  ...TWO.map((both) => one(`ports: ${side}, ${text(both)}`, on(side, [{ ports: both }]))),
]);

const example = [
  one('example: one named port', on('ingress', [{ from: [{ namespaceSelector: nsX }], ports: [NAMED[1] as object] }])),
];

const DENY = on('ingress', []);
const ALLOW = on('ingress', [{ from: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }] }]);
const flip = (labels: Labels): Cluster =>
  world(
    [
      on('ingress', [
        {
          from: [
            { namespaceSelector: { matchLabels: { new: 'ns' } } },
            { podSelector: { matchLabels: { new: 'pod' } } },
          ],
        },
      ]),
    ],
    labels,
  );
const actions: CatalogueCase[] = [
  { title: 'action: create and delete a policy', steps: [world([]), world([DENY]), world([])] },
  { title: 'action: create and update a policy', steps: [world([DENY]), world([ALLOW])] },
  {
    title: 'action: create and delete a namespace',
    steps: [
      world(
        [ALLOW],
        LABELLED,
        PODS.filter((pod) => !pod.startsWith('y')),
      ),
      world([ALLOW]),
      world(
        [ALLOW],
        LABELLED,
        PODS.filter((pod) => !pod.startsWith('y')),
      ),
    ],
  },
  {
    title: 'action: change labels of a namespace',
    steps: [flip(LABELLED), flip({ ...LABELLED, y: { ns: 'y', new: 'ns' } }), flip(LABELLED)],
  },
  {
    title: 'action: create and delete a pod',
    steps: [
      world(
        [ALLOW],
        LABELLED,
        PODS.filter((pod) => pod !== 'yb'),
      ),
      world([ALLOW]),
      world(
        [ALLOW],
        LABELLED,
        PODS.filter((pod) => pod !== 'yb'),
      ),
    ],
  },
  {
    title: 'action: change labels of a pod',
    steps: [flip(LABELLED), flip({ ...LABELLED, xb: { new: 'pod' } }), flip(LABELLED)],
  },
];

const SELECTIONS: Readonly<Record<string, readonly [object, object]>> = {
  all: [{}, { podSelector: {}, namespaceSelector: {} }],
  'by namespace': [{}, { namespaceSelector: { matchLabels: { ns: 'y' } } }],
  'by pod': [{}, { namespaceSelector: { matchLabels: { ns: 'y' } }, podSelector: podC }],
  'by address': [{}, { ipBlock: { cidr: `${addressOf('yc', 4)}/32` } }],
};
/** One policy denies what the other allows, whichever comes first by its name, from either end. */
const conflicts = SIDES.flatMap((side) =>
  Object.entries(SELECTIONS).flatMap(([name, [selector, peer]]) =>
    [true, false].map((denyFirst) => {
      const spec = { podSelector: selector, policyTypes: [typeOf(side)] };
      const [first, second] = denyFirst ? ['a', 'b'] : ['b', 'a'];
      return one(
        `conflict: ${side}, ${name}, ${denyFirst ? 'deny' : 'allow'} first`,
        policy({ ...spec, [side]: [] }, 'x', first),
        policy({ ...spec, [side]: [{ [other(side)]: [peer] }] }, 'x', second),
      );
    }),
  ),
);

const byName = { matchLabels: { 'kubernetes.io/metadata.name': 'y' } };
const namespaces = SIDES.map((side) =>
  one(`namespace: ${side} by its name`, on(side, [{ [other(side)]: [{ namespaceSelector: byName }] }])),
);

/** On all nine pods. */
const upstream: CatalogueCase[] = CASES.slice(0, 13).map(({ title, stages }) => ({
  title: `end to end: ${title}`,
  steps: stages.map((stage) => world(stage.policies, { ...LABELLED, ...stage.labels })),
}));

export const CATALOGUE: readonly CatalogueCase[] = [
  ...targets,
  ...selectors,
  ...rules,
  ...peers,
  ...ports,
  ...example,
  ...actions,
  ...conflicts,
  ...namespaces,
  ...upstream,
];
