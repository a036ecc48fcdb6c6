// Objects of the API as values: defaults, what nil and empty mean, and what becomes of a policy that can't be understood.

import t from 'tap';
import { parseNamespace, parsePod } from '../../../flanneld/policy/parse-pod.ts';
import { parsePolicy } from '../../../flanneld/policy/parse-policy.ts';
import { EVERYTHING } from '../../../flanneld/policy/select.ts';

const policy = (spec: unknown) =>
  parsePolicy({ metadata: { name: 'n', namespace: 'x' }, spec }, 'file: NetworkPolicy x/n');

t.test('directions', async (t) => {
  const directions = (spec: object) => {
    const { ingress, egress } = policy({ podSelector: {}, ...spec });
    return [ingress !== undefined && 'ingress', egress !== undefined && 'egress'].filter(Boolean).join(' ');
  };
  t.equal(directions({}), 'ingress');
  t.equal(directions({ egress: [] }), 'ingress');
  t.equal(directions({ egress: null }), 'ingress');
  t.equal(directions({ egress: [{}] }), 'ingress egress');
  t.equal(directions({ policyTypes: [] }), 'ingress');
  t.equal(directions({ policyTypes: ['Egress'] }), 'egress');
  t.equal(directions({ policyTypes: ['Ingress'], egress: [{}] }), 'ingress');
  t.equal(directions({ policyTypes: ['Egress', 'Ingress'] }), 'ingress egress');
});

t.test('what is missing allows everything, what is empty nothing', async (t) => {
  const rule = (value: unknown) => policy({ podSelector: {}, ingress: [value] }).ingress?.[0];
  t.same(policy({ podSelector: {} }).ingress, [], 'nothing is allowed');
  t.same(rule({}), { peers: undefined, ports: undefined }, 'everything is allowed');
  t.same(rule(null), { peers: undefined, ports: undefined });
  t.same(rule({ from: [], ports: null }), { peers: undefined, ports: undefined });
  t.same(rule({ from: [{ podSelector: {} }] })?.peers, [{ pods: EVERYTHING, namespaces: undefined }]);
  t.same(rule({ from: [{ podSelector: null, namespaceSelector: {} }] })?.peers, [
    { pods: undefined, namespaces: EVERYTHING },
  ]);
  t.same(rule({ ports: [{}] })?.ports, [{ protocol: 'TCP', port: undefined, endPort: undefined }]);
  t.same(policy({}).pods, EVERYTHING, 'Go reads a selector that is absent as the empty one');
});

t.test('values are made canonical, mistakes named', async (t) => {
  const { ingress, invalid } = policy({
    podSelector: { matchLabels: { b: '2', a: '1' } },
    ingress: [
      {
        from: [{ ipBlock: { cidr: '10.1.2.3/8', except: ['10.9.0.0/16'] } }],
        ports: [{ port: 80, endPort: 90, protocol: 'SCTP' }, { port: 'web' }],
      },
    ],
  });
  t.equal(invalid, undefined);
  t.same(ingress, [
    {
      peers: [{ block: '10.0.0.0/8', except: ['10.9.0.0/16'] }],
      ports: [
        { protocol: 'SCTP', port: 80, endPort: 90 },
        { protocol: 'TCP', port: 'web', endPort: undefined },
      ],
    },
  ]);
  const other = policy({ podSelector: { matchLabels: { a: '1', b: '2' } } });
  t.equal(
    policy({ podSelector: { matchLabels: { b: '2', a: '1' } } }).pods.key,
    other.pods.key,
    'labels have no order',
  );
});

t.test('what can’t be understood allows nothing, and isolates', async (t) => {
  const bad = (spec: object, path: RegExp) => {
    const result = policy({ podSelector: { matchLabels: { a: 'b' } }, ...spec });
    t.match(result.invalid, path);
    return result;
  };
  const oneRule = (rule: object, path: RegExp) => {
    const result = bad({ ingress: [rule, { ports: [{ port: 1 }] }] }, path);
    t.same(result.ingress?.length, 1, `only the other rule stays: ${path}`);
    t.equal(result.pods.labels.length, 1);
  };
  oneRule({ from: [{}] }, /spec\.ingress\[0\]\.from\[0\]: expected podSelector/);
  oneRule({ from: [{ newKind: {} }] }, /from\[0\]\.newKind: not known here/);
  oneRule({ from: [{ ipBlock: { cidr: '10.0.0.0/8' }, podSelector: {} }] }, /ipBlock alone/);
  oneRule(
    { from: [{ ipBlock: { cidr: '10.0.0.0' } }] },
    /from\[0\]\.ipBlock\.cidr: expected an address with prefix length/,
  );
  oneRule(
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] },
    /except\[0\]: 11\.0\.0\.0\/16 is not inside/,
  );
  oneRule({ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['fd00::/16'] } }] }, /except\[0\]: .* is not inside/);
  oneRule({ from: 'all' }, /spec\.ingress\[0\]\.from: expected a list, got "all"/);
  oneRule({ to: [] }, /spec\.ingress\[0\]\.to: not known here/);
  oneRule({ ports: [{ protocol: 'ICMP' }] }, /ports\[0\]\.protocol: expected one of TCP, UDP, SCTP, got "ICMP"/);
  oneRule({ ports: [{ port: 0 }] }, /ports\[0\]\.port: expected a port number or name, got 0/);
  oneRule({ ports: [{ port: 65_536 }] }, /ports\[0\]\.port/);
  oneRule({ ports: [{ port: 'web', endPort: 90 }] }, /ports\[0\]\.endPort/);
  oneRule({ ports: [{ port: 80, endPort: 79 }] }, /ports\[0\]\.endPort/);
  oneRule({ ports: [{ endPort: 79 }] }, /ports\[0\]\.endPort/);
  oneRule(
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Maybe' }] } }] },
    /matchExpressions\[0\]\.operator: expected one of In, NotIn, Exists, DoesNotExist, got "Maybe"/,
  );
  oneRule(
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: [] }] } }] },
    /values: expected a list/,
  );
  oneRule(
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }] },
    /values: expected none/,
  );
  oneRule({ from: [{ podSelector: { matchLabels: { a: 1 } } }] }, /matchLabels\.a: expected a string, got 1/);

  t.same(
    bad({ podSelector: { matchLabels: 'all' } }, /spec\.podSelector\.matchLabels/).pods,
    EVERYTHING,
    'all it may have meant',
  );
  const types = bad({ policyTypes: ['Ingress', 'Sideways'], ingress: [{}] }, /spec\.policyTypes/);
  t.same([types.ingress?.length, types.egress], [1, []], 'both directions');
  t.same(bad({ egress: 'x' }, /spec\.egress: expected a list/).egress, []);
  t.match(bad({ tier: 'gold' }, /spec\.tier: not known here/), { ingress: [] });
  t.match(parsePolicy({ metadata: { name: 'n' } }, 'f'), {
    namespace: 'default',
    ingress: [],
    egress: undefined,
    pods: EVERYTHING,
  });
  t.throws(() => parsePolicy({ spec: {} }, 'f: NetworkPolicy'), {
    code: 'decoding',
    message: /f: NetworkPolicy: metadata/,
  });
  t.throws(() => parsePolicy({ metadata: {} }, 'f: NetworkPolicy'), { code: 'decoding', message: /metadata\.name/ });
});

t.test('pods', async (t) => {
  const pod = (spec: object, status?: object) =>
    parsePod({ metadata: { name: 'p', namespace: 'x' }, spec, status }, 'Pod x/p');
  t.same(pod({}), {
    namespace: 'x',
    name: 'p',
    labels: new Map(),
    node: undefined,
    hostNetwork: false,
    finished: false,
    addresses: [],
    ports: [],
  });
  t.match(pod({ hostNetwork: true, nodeName: 'here' }), { hostNetwork: true, node: 'here' });
  for (const phase of ['Succeeded', 'Failed']) t.equal(pod({}, { phase }).finished, true);
  for (const phase of ['Running', 'Pending', 'Unknown']) t.equal(pod({}, { phase }).finished, false);
  t.same(pod({}, { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00::1' }] }).addresses, [
    '10.0.0.1',
    'fd00::1',
  ]);
  t.same(pod({}, { podIP: '10.0.0.1' }).addresses, ['10.0.0.1']);
  t.same(pod({}, { podIP: '' }).addresses, []);
  const ports = [
    { containerPort: 80 },
    { containerPort: 81, name: 'web' },
    { containerPort: 53, name: 'dns', protocol: 'UDP' },
  ];
  t.same(pod({ containers: [{ ports: ports.slice(0, 2) }, {}], initContainers: [{ ports: ports.slice(2) }] }).ports, [
    { name: 'web', protocol: 'TCP', port: 81 },
    { name: 'dns', protocol: 'UDP', port: 53 },
  ]);
  t.throws(() => pod({ hostNetwork: 'yes' }), {
    code: 'decoding',
    message: /Pod x\/p: spec\.hostNetwork: expected true or false/,
  });
});

t.test('a namespace has a label with its name', async (t) => {
  const name = 'kubernetes.io/metadata.name';
  t.same(
    parseNamespace({ metadata: { name: 'x', labels: { a: 'b' } } }, 'n').labels,
    new Map([
      ['a', 'b'],
      [name, 'x'],
    ]),
  );
  t.same(parseNamespace({ metadata: { name: 'x', labels: { [name]: 'x' } } }, 'n').labels, new Map([[name, 'x']]));
});
