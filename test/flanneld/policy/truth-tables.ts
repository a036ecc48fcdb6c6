// The 48 cases of Kubernetes' end-to-end tests for NetworkPolicy, with what they expect as literals. Pods are named by
// namespace and label: "xa" is the pod with the label pod=a in namespace x. A pod's connection to itself is never looked at.

import type { Cluster, Manifest, Packet } from './oracle.ts';

export interface Probe {
  readonly port: 80 | 81;
  readonly protocol: Packet['protocol'];
  /** "from>to", where * stands for all pods and x for those of namespace x. */
  readonly denied: readonly string[];
  /** What is allowed all the same. */
  readonly but: readonly string[];
}

export interface Stage {
  readonly policies: readonly Manifest[];
  /** Labels besides pod=…: of "xa", or of namespace "y". */
  readonly labels: Readonly<Record<string, Record<string, string>>>;
  readonly probes: readonly Probe[];
}

export interface Case {
  readonly title: string;
  readonly pods: readonly string[];
  readonly stages: readonly Stage[];
}

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const NUMBERS: Readonly<Record<string, number>> = { x: 1, y: 2, z: 3, a: 1, b: 2, c: 3 };

/** Both addresses of "xa": 10.1.1.1 and fd00::1:1. */
export const addressOf = (pod: string, family: 4 | 6): string => {
  const [namespace, name] = [NUMBERS[pod[0] as string], NUMBERS[pod[1] as string]];
  return family === 4 ? `10.1.${namespace}.${name}` : `fd00::${namespace}:${name}`;
};

const CONTAINERS = ([80, 81] as const).flatMap((port) =>
  PROTOCOLS.map((protocol) => ({
    ports: [{ name: `serve-${port}-${protocol.toLowerCase()}`, containerPort: port, protocol }],
  })),
);

export const clusterAt = ({ pods }: Case, { policies, labels }: Stage): Cluster => ({
  namespaces: ['x', 'y', 'z'].map((name) => ({ metadata: { name, labels: labels[name] ?? {} } })),
  pods: pods.map((pod) => ({
    metadata: {
      name: pod[1] as string,
      namespace: pod[0] as string,
      labels: { pod: pod[1] as string, ...labels[pod] },
    },
    spec: { nodeName: 'here', containers: CONTAINERS },
    status: { phase: 'Running', podIPs: [{ ip: addressOf(pod, 4) }, { ip: addressOf(pod, 6) }] },
  })),
  policies,
});

const fits = (pattern: string, pod: string): boolean => pattern === '*' || pod.startsWith(pattern);

const matches = (patterns: readonly string[], from: string, to: string): boolean =>
  patterns.some((pattern) => {
    const [source = '', target = ''] = pattern.split('>');
    return fits(source, from) && fits(target, to);
  });

/** What the case expects of a connection between two of its pods. */
export const expected = ({ denied, but }: Probe, from: string, to: string): boolean =>
  !matches(denied, from, to) || matches(but, from, to);

// biome-ignore lint/suspicious/noExplicitAny: a spec as it comes
const policy = (name: string, spec: any): Manifest => {
  const [namespace = '', own = ''] = name.split('/');
  return { metadata: { namespace, name: own }, spec };
};

const pod = (name: string) => ({ matchLabels: { pod: name } });
const isIn = (key: string, ...values: string[]) => ({ matchExpressions: [{ key, operator: 'In', values }] });
const notIn = (key: string, ...values: string[]) => ({ matchExpressions: [{ key, operator: 'NotIn', values }] });
const NAME = 'kubernetes.io/metadata.name';
const ns = (name: string) => ({ matchLabels: { [NAME]: name } });
const ingress = (podSelector: object, ...rules: object[]) => ({
  podSelector,
  policyTypes: ['Ingress'],
  ingress: rules,
});
const egress = (podSelector: object, ...rules: object[]) => ({ podSelector, policyTypes: ['Egress'], egress: rules });
const from = (...peers: object[]) => ({ from: peers });
const to = (...peers: object[]) => ({ to: peers });
const only = (protocol: Packet['protocol'], port: number | string) => ({ ports: [{ protocol, port }] });

const at = (port: Probe['port'], denied: string, but = '', protocol: Probe['protocol'] = 'TCP'): Probe => ({
  port,
  protocol,
  denied: denied.split(' ').filter(Boolean),
  but: but.split(' ').filter(Boolean),
});

const stage = (policies: readonly Manifest[], probes: readonly Probe[], labels: Stage['labels'] = {}): Stage => ({
  policies,
  probes,
  labels,
});

const one = (title: string, pods: string, policies: readonly Manifest[], ...probes: Probe[]): Case => ({
  title,
  pods: pods.split(' '),
  stages: [stage(policies, probes)],
});

const several = (title: string, pods: string, ...stages: Stage[]): Case => ({ title, pods: pods.split(' '), stages });

const NAMESPACED = 'xa xb ya za';
const DENY_INGRESS = policy('x/deny-ingress', ingress({}));
const ALLOW_INGRESS = policy('x/allow-ingress', ingress({}, {}));
const FROM_Y = from({ namespaceSelector: ns('y') });
const y81 = policy('x/y81', ingress(pod('a'), { ...FROM_Y, ...only('TCP', 81) }));
const y80 = policy('x/y80', ingress(pod('a'), { ...FROM_Y, ...only('TCP', 80) }));
const EXCEPT_XB = policy(
  'x/except',
  egress(
    pod('a'),
    to(
      { ipBlock: { cidr: '10.0.0.0/4', except: ['10.1.1.2/32'] } },
      { ipBlock: { cidr: 'fd00::/16', except: ['fd00::1:2/128'] } },
    ),
  ),
);
const ONLY_XB = policy(
  'x/except',
  egress(pod('a'), to({ ipBlock: { cidr: '10.1.1.2/32' } }, { ipBlock: { cidr: 'fd00::1:2/128' } })),
);

export const CASES: readonly Case[] = [
  one('1 default deny ingress', 'xa xb ya yb', [DENY_INGRESS], at(80, '*>x')),
  one(
    '2 default deny all',
    'xa xb ya',
    [policy('x/deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] })],
    at(80, '*>x x>*'),
  ),
  one(
    '3 from pods of the own namespace',
    'xa xb xc ya',
    [policy('x/p', ingress(pod('a'), from({ podSelector: pod('b') })))],
    at(80, '*>xa', 'xb>xa'),
  ),
  one('4 ingress to a target', 'xa xb ya', [DENY_INGRESS, policy('x/p', ingress(pod('a'), {}))], at(80, '*>xb')),
  one(
    '5 from all namespaces',
    NAMESPACED,
    [policy('x/p', ingress(pod('a'), from({ namespaceSelector: {} })))],
    at(80, ''),
  ),
  one('6 only another namespace', NAMESPACED, [policy('x/p', ingress(pod('a'), FROM_Y))], at(80, 'x>xa z>xa')),
  one(
    '7 pod selector with matchExpressions',
    'xa xb ya',
    [policy('x/p', ingress(pod('a'), from({ podSelector: isIn('pod', 'b') })))],
    at(80, '*>xa', 'xb>xa'),
  ),
  one(
    '8 namespace selector with matchExpressions',
    NAMESPACED,
    [policy('x/p', ingress(pod('a'), from({ namespaceSelector: isIn(NAME, 'y') })))],
    at(80, 'x>xa z>xa'),
  ),
  one(
    '9 pod selector or namespace selector',
    'xa xb xc ya',
    [policy('x/p', ingress(pod('a'), from({ namespaceSelector: notIn(NAME, 'x') }, { podSelector: pod('b') })))],
    at(80, 'xc>xa'),
  ),
  one(
    '10 pod selector and namespace selector',
    'xa xb ya yb zb',
    [policy('x/p', ingress(pod('a'), from({ namespaceSelector: notIn(NAME, 'x'), podSelector: pod('b') })))],
    at(80, '*>xa', 'yb>xa zb>xa'),
  ),
  one(
    '11 several of both',
    'xa xb ya yb yc',
    [
      policy(
        'x/p',
        ingress(pod('a'), from({ namespaceSelector: notIn(NAME, 'x'), podSelector: isIn('pod', 'b', 'c') })),
      ),
    ],
    at(80, 'x>xa ya>xa'),
  ),
  one(
    '12 any of the pod selectors',
    'xa xb xc',
    [policy('x/p', ingress(pod('a'), from({ podSelector: pod('b') }, { podSelector: pod('c') })))],
    at(80, '*>xa', 'xb>xa xc>xa'),
  ),
  one(
    '13 one pod of another namespace',
    'xa xb ya yb za',
    [policy('x/p', ingress(pod('a'), from({ namespaceSelector: ns('y'), podSelector: pod('a') })))],
    at(80, '*>xa', 'ya>xa'),
  ),
  one('14 ports', 'xa xb ya yb za', [y81], at(81, 'x>xa z>xa')),
  several(
    '15 stacked policies',
    'xa xb ya yb za',
    stage([y81], [at(81, 'x>xa z>xa'), at(80, '*>xa')]),
    stage([y81, y80], [at(80, 'x>xa z>xa')]),
  ),
  one('16 allow all', 'xa xb ya', [ALLOW_INGRESS], at(80, ''), at(81, '')),
  one(
    '17 a named port',
    'xa xb ya',
    [policy('x/p', ingress({}, only('TCP', 'serve-81-tcp')))],
    at(81, ''),
    at(80, '*>x'),
  ),
  one(
    '18 a named port from a namespace',
    NAMESPACED,
    [policy('x/p', ingress(pod('a'), { ...FROM_Y, ...only('TCP', 'serve-80-tcp') }))],
    at(80, 'x>xa z>xa'),
    at(81, '*>xa'),
  ),
  one(
    '19 a named port for egress',
    'xa ya',
    [policy('x/p', egress({}, only('TCP', 'serve-80-tcp')))],
    at(80, ''),
    at(81, 'x>*'),
  ),
  several(
    '20 a policy is updated',
    'xa ya',
    stage([ALLOW_INGRESS], [at(81, '')]),
    stage([DENY_INGRESS], [at(81, '*>x')]),
  ),
  several(
    '21 a namespace is updated',
    'xa ya',
    stage(
      [policy('x/p', ingress(pod('a'), from({ namespaceSelector: { matchLabels: { ns2: 'updated' } } })))],
      [at(80, '*>xa')],
    ),
    stage(
      [policy('x/p', ingress(pod('a'), from({ namespaceSelector: { matchLabels: { ns2: 'updated' } } })))],
      [at(80, 'x>xa')],
      { y: { ns2: 'updated' } },
    ),
  ),
  several(
    '22 a pod is updated',
    'xa xb',
    stage(
      [policy('x/p', ingress(pod('a'), from({ podSelector: { matchLabels: { pod: 'b', pod2: 'updated' } } })))],
      [at(80, '*>xa')],
    ),
    stage(
      [policy('x/p', ingress(pod('a'), from({ podSelector: { matchLabels: { pod: 'b', pod2: 'updated' } } })))],
      [at(80, '')],
      { xb: { pod2: 'updated' } },
    ),
  ),
  one(
    '23 other namespaces are denied',
    NAMESPACED,
    [policy('x/p', ingress({}, from({ podSelector: {} })))],
    at(80, 'y>x z>x'),
  ),
  several(
    '24 a target is updated',
    'xa ya',
    stage([policy('x/p', ingress({ matchLabels: { target: 'isolated' } }))], [at(80, '')]),
    stage([policy('x/p', ingress({ matchLabels: { target: 'isolated' } }))], [at(80, '*>xa')], {
      xa: { target: 'isolated' },
    }),
  ),
  one('25 egress of a pod is denied', 'xa ya', [policy('x/p', egress(pod('a')))], at(80, 'xa>*')),
  one('26 egress of a namespace is denied', 'xa ya', [policy('x/p', egress({}))], at(80, 'x>*')),
  one(
    '27 ingress and egress',
    'xa xb xc ya',
    [
      policy('x/p', {
        podSelector: pod('a'),
        policyTypes: ['Ingress', 'Egress'],
        ingress: [from({ podSelector: pod('b') })],
        egress: [only('TCP', 80)],
      }),
    ],
    at(80, '*>xa', 'xb>xa'),
    at(81, '*>xa xa>*', 'xb>xa'),
  ),
  one(
    '28 the client denies',
    'xa ya yb',
    [
      policy('x/p', egress(pod('a'), to({ namespaceSelector: ns('y'), podSelector: pod('a') }))),
      policy('y/a', ingress(pod('a'), from({ namespaceSelector: ns('x'), podSelector: pod('a') }))),
      policy('y/b', ingress(pod('b'), from({ namespaceSelector: ns('x'), podSelector: pod('a') }))),
    ],
    at(80, '*>*', 'xa>ya ya>xa yb>xa'),
  ),
  one(
    '29 egress to one pod of a namespace',
    'xa ya yb',
    [policy('x/p', egress(pod('a'), to({ namespaceSelector: ns('y'), podSelector: pod('a') })))],
    at(80, 'xa>*', 'xa>ya'),
  ),
  one(
    '30 any port of a protocol',
    'xa ya',
    [policy('x/p', ingress(pod('a'), { ports: [{ protocol: 'TCP' }] }))],
    at(80, ''),
    at(81, '*>xa', '', 'UDP'),
  ),
  several(
    '31 several for ingress',
    'xa ya',
    stage([policy('x/p', ingress({}, only('TCP', 80)))], [at(81, '*>x')]),
    stage([policy('x/p', ingress({}, only('TCP', 80))), ALLOW_INGRESS], [at(81, '')]),
  ),
  several(
    '32 several for egress',
    'xa ya',
    stage([policy('x/p', egress({}, only('TCP', 80)))], [at(81, 'x>*')]),
    stage([policy('x/p', egress({}, only('TCP', 80))), policy('x/all', egress({}, {}))], [at(81, '')]),
  ),
  several(
    '33 a policy is deleted',
    'xa ya',
    stage([policy('x/p', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] })], [at(80, '*>x x>*')]),
    stage([], [at(80, '')]),
  ),
  one(
    '34 egress to a block',
    'xa ya yb',
    [policy('x/p', egress(pod('a'), to({ ipBlock: { cidr: '10.1.2.2/32' } }, { ipBlock: { cidr: 'fd00::2:2/128' } })))],
    at(80, 'xa>*', 'xa>yb'),
  ),
  one('35 an exception', 'xa xb xc', [EXCEPT_XB], at(80, 'xa>xb')),
  several(
    '36 a block over an exception',
    'xa xb xc',
    stage([EXCEPT_XB], [at(80, 'xa>xb')]),
    stage([ONLY_XB], [at(80, 'xa>*', 'xa>xb')]),
  ),
  several(
    '37 directions are independent',
    'xa xb ya',
    stage([policy('x/p', egress(pod('a'), {}))], [at(80, '')]),
    stage([policy('x/p', egress(pod('a'), {})), policy('x/in', ingress(pod('a')))], [at(80, '*>xa')]),
  ),
  one('38 SCTP is not TCP', 'xa ya', [DENY_INGRESS, policy('x/p', ingress(pod('a'), only('SCTP', 81)))], at(81, '*>x')),
  one('39 SCTP isolates', 'xa ya', [policy('x/p', ingress(pod('a'), only('SCTP', 80)))], at(81, '*>xa')),
  one('40 UDP is not TCP', 'xa ya', [policy('x/p', ingress(pod('a'), only('UDP', 81)))], at(81, '*>xa')),
  one(
    '41 the default label of a namespace',
    NAMESPACED,
    [policy('x/p', ingress(pod('a'), FROM_Y))],
    at(80, 'x>xa z>xa'),
  ),
  one(
    '42 the default label for egress',
    NAMESPACED,
    [policy('x/p', egress(pod('a'), to({ namespaceSelector: notIn(NAME, 'y') })))],
    at(80, 'xa>y'),
  ),
  ...(['UDP', 'SCTP'] as const).flatMap((protocol, at3) => [
    one(
      `${43 + 3 * at3} default deny ingress, ${protocol}`,
      'xa xb ya yb',
      [DENY_INGRESS],
      at(80, '*>x', '', protocol),
    ),
    one(
      `${44 + 3 * at3} ports, ${protocol}`,
      'xa xb ya yb za',
      [policy('x/p', ingress(pod('a'), { ...FROM_Y, ...only(protocol, 81) }))],
      at(81, 'x>xa z>xa', '', protocol),
    ),
    one(
      `${45 + 3 * at3} one pod of another namespace, ${protocol}`,
      'xa xb ya yb za',
      [
        policy(
          'x/p',
          ingress(pod('a'), { ...from({ namespaceSelector: ns('y'), podSelector: pod('a') }), ...only(protocol, 80) }),
        ),
      ],
      at(80, '*>xa', 'ya>xa', protocol),
    ),
  ]),
];
