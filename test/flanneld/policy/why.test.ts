// What is said of flows: the words of `policy why` and `policy trace`, the reading of dropped packets, and that the policies'
// own verdict, the table's and the independent matcher's are one.

import * as fc from 'fast-check';
import t from 'tap';
import { printTraced, printWhy, questionIn, readPolicyCommand, whyPath } from '../../../flanneld/policy/command.ts';
import { createDenialCount } from '../../../flanneld/policy/denials.ts';
import { readDropped } from '../../../flanneld/policy/dropped.ts';
import { judge } from '../../../flanneld/policy/judge.ts';
import { traceLine } from '../../../flanneld/policy/named.ts';
import type { Protocol } from '../../../flanneld/policy/objects.ts';
import { why } from '../../../flanneld/policy/why.ts';
import { ip, type Ip } from '../../../model/ip.ts';
import type { Rule, Table } from '../../../model/ruleset.ts';
import { count } from '../../support/count.ts';
import { ipPacket, udpPacket } from '../../support/ip-packet.ts';
import { seed } from '../../support/seed.ts';
import { isHere, tableOf, worldHere } from './compiled.ts';
import { type Cluster, type Manifest, mayPass } from './oracle.ts';
import { cluster, packetsOf } from './random-cluster.ts';
import { addressOf, clusterAt } from './truth-tables.ts';

const deny = (namespace: string, name: string, spec: object): Manifest => ({ metadata: { name, namespace }, spec });
const CLUSTER = clusterAt(
  { title: 'two', pods: ['xa', 'ya'], stages: [] },
  {
    labels: {},
    probes: [],
    policies: [
      deny('y', 'none', { podSelector: {}, policyTypes: ['Ingress'] }),
      deny('y', 'web', { podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }], ports: [{ port: 80 }] }] }),
    ],
  },
);
const state = (of: Cluster, table: Table | undefined = tableOf(of)) => ({
  world: worldHere(of),
  unknownPod: 'closed' as const,
  table,
});

t.test('every pair of random clusters', async (t) => {
  const same = fc.property(cluster, (world) => {
    const known = state(world);
    for (const packet of packetsOf(world, ['192.0.2.7', 'fd00::1:1'], ['TCP', 'SCTP'], [80, 5000])) {
      const expected = mayPass(world, packet, isHere) ? 'allowed' : 'denied';
      const [flow] = why(packet, known).flows;
      if (flow?.verdict !== expected || flow.kernel.verdict !== expected || flow.differs) return false;
    }
    return true;
  });
  t.doesNotThrow(() => fc.assert(same, { seed, numRuns: count(400) }));
});

t.test('the answer in words, with an exit code', async (t) => {
  const question = { from: 'x/a', to: 'y/a', protocol: 'TCP' as Protocol, port: 81 };
  const denied = printWhy(why(question, state(CLUSTER)), question);
  t.equal(denied.exitCode, 1);
  t.match(
    denied.text,
    `10.1.1.1 to 10.1.2.1, 81/tcp: denied
  egress of x/a: allowed, no policy isolates it
  ingress of y/a: denied, it is isolated, and no policy allows it: y/none, y/web
  kernel: denied (chain denied-ingress)
fd00::1:1 to fd00::2:1, 81/tcp: denied`,
  );
  const web = { ...question, port: 80 };
  const allowed = printWhy(why(web, state(CLUSTER)), web);
  t.equal(allowed.exitCode, 0);
  t.match(allowed.text, 'ingress of y/a: allowed, a policy allows it: y/web\n  kernel: allowed\n');

  const named = tableOf(CLUSTER).sets.map((set) => ({
    ...set,
    elements: set.elements.map((element) => element.replace(' . 6 . ', ' . tcp . ')),
  }));
  t.match(
    why(web, state(CLUSTER, { ...tableOf(CLUSTER), sets: named })).flows,
    [{ kernel: { verdict: 'allowed' }, differs: false }],
    'protocols by their names, as a listing may have them',
  );

  const other = printWhy(why(question, { ...state(CLUSTER), table: undefined }), question);
  t.equal(other.exitCode, 3);
  t.match(other.text, 'kernel: allowed (there is no table), WHICH DIFFERS');
  const table = tableOf(CLUSTER);
  const chains = table.chains.map((chain) => ({ ...chain, rules: ['tcp dport 81 accept' as Rule] }));
  t.match(printWhy(why(question, state(CLUSTER, { ...table, chains })), question), {
    exitCode: 3,
    text: 'kernel: unknown (not a rule of ours: tcp dport 81 accept), WHICH DIFFERS',
  });
  for (const [from, to, problem] of [
    ['x/nobody', 'y/a', 'x/nobody is no pod'],
    ['10.1.1.1', 'fd00::2:1', 'no family in common'],
  ] as const) {
    t.match(printWhy(why({ ...question, from, to }, state(CLUSTER)), question), { exitCode: 2, text: problem });
  }
  const self = why({ ...question, from: 'y/a' }, state(CLUSTER));
  t.match(self.flows, [
    { verdict: 'allowed', differs: false },
    { verdict: 'allowed', differs: false },
  ]);
});

t.test('command line', async (t) => {
  const { question } = readPolicyCommand(['why', '--from', 'x/a', '-to=FD00::1', '--port=80/udp'], {});
  t.same(question, { from: 'x/a', to: 'fd00::1', protocol: 'UDP', port: 80 });
  t.same(questionIn(whyPath(question as NonNullable<typeof question>)), question);
  t.same(readPolicyCommand(['trace', '--json', '--subnet-file=/run/a.env'], { FLANNELD_SUBNET_FILE: '/run/b.env' }), {
    question: undefined,
    subnetFile: '/run/a.env',
    json: true,
  });
  const own = readPolicyCommand(['trace'], { FLANNELD_SUBNET_FILE: '/run/b.env' });
  t.equal(own.subnetFile, '/run/b.env', 'the agent of that subnet file is asked');
  for (const [words, message] of [
    ['', 'expected policy why or policy trace'],
    ['drop', 'expected policy why or policy trace'],
    ['why --from x/a --to y', '--to "y": expected NAMESPACE/NAME'],
    ['why --from x/a --to y/a', '--port "": expected a port'],
    ['why --from x/a --to y/a --port 0', '--port "0": expected a port'],
    ['why --from x/a --to y/a --port 80/icmp', '--port "80/icmp": expected a port'],
    ['why --from', '--from: expected a value'],
    ['why --verbose', '--verbose: unknown flag'],
    ['why web/p2', 'argument "web/p2": not expected'],
    ['why --from x/a', '--to: expected NAMESPACE/NAME or an address, got nothing'],
    ['trace --port 80', '--port: a flag of flanneld policy why only'],
  ] as const) {
    t.throws(
      () => readPolicyCommand(words === '' ? [] : words.split(' '), {}),
      { code: 'invalid-flag', message },
      words,
    );
  }
});

t.test('dropped packets', async (t) => {
  const [from, to] = [addressOf('xa', 4), addressOf('ya', 4)] as [Ip, Ip];
  const udp = udpPacket(from, to, { port: 80, data: Buffer.from('x') });
  const line = traceLine(readDropped('denied-ingress', udp) as never, worldHere(CLUSTER), 'T');
  t.equal(printTraced(line), 'T x/a (10.1.1.1) to y/a (10.1.2.1), 80/udp: ingress of y/a, isolated by y/none, y/web\n');
  const answer = readDropped('denied-ingress-reply', udpPacket(to, from, { port: 80, data: Buffer.alloc(0) }));
  t.match(answer, { direction: 'ingress', isReply: true, from, to, port: 80 });
  const [from6, to6] = [ip('192.0.2.7'), to];
  const icmp = readDropped(
    'denied-egress',
    ipPacket({ source: from6, destination: to6, protocol: 1, payload: Buffer.alloc(8) }),
  );
  t.match(icmp, { protocol: 1, port: undefined });
  t.match(
    printTraced(traceLine(icmp as never, worldHere(CLUSTER), 'T')),
    '192.0.2.7 to y/a (10.1.2.1), protocol 1: egress of 192.0.2.7, which the policy source does not know',
  );
  const options = Buffer.concat([Buffer.from([132, 0, 0, 0, 0, 0, 0, 0]), Buffer.from([1, 2, 0, 81])]);
  const six = { source: ip('fd00::1:1'), destination: ip('fd00::2:1'), payload: options };
  t.match(readDropped('denied-ingress', ipPacket({ ...six, protocol: 60 })), { protocol: 'SCTP', port: 81 });
  const fragment = Buffer.concat([Buffer.from([17, 0, 0, 8, 0, 0, 0, 1]), Buffer.alloc(16)]);
  t.match(readDropped('denied-ingress', ipPacket({ ...six, payload: fragment, protocol: 44 })), {
    protocol: 'UDP',
    port: undefined,
  });
  t.equal(readDropped('somebody else', udp), undefined);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      readDropped('denied-egress', Buffer.from(bytes));
    }),
    { seed, numRuns: count(20_000) },
  );
});

t.test('counters that begin anew', async (t) => {
  const denials = createDenialCount();
  const own = ip('10.1.1.1');
  const endpoints = [{ namespace: 'x', name: 'a', addresses: [own], pod: undefined }];
  const see = (ingress: number) => denials.see({ ingress: new Map([[own, ingress]]), egress: new Map() }, endpoints);
  t.same(see(5), { totals: { ingress: 5, egress: 0 }, pods: [{ pod: 'x/a', ingress: 5, egress: 0 }] });
  t.equal(see(7).totals.ingress, 7);
  t.equal(see(2).totals.ingress, 9, 'the table was replaced');
  t.same(see(0), { totals: { ingress: 9, egress: 0 }, pods: [] });
  t.same(denials.see({ ingress: new Map(), egress: new Map() }, []).totals, { ingress: 9, egress: 0 });
});

t.test('a table that runs in circles', async (t) => {
  const chains = [{ name: 'forward', rules: ['jump forward' as Rule] }];
  const packet = { from: ip('10.0.0.1'), to: ip('10.0.0.2'), protocol: 6, port: 80 };
  t.match(judge({ family: 'inet', name: 'x', chains, sets: [] }, packet), { verdict: 'unknown' });
});
