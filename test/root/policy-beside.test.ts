// The policy table beside what else is on a node: kube-proxy's nftables mode (-110, -100), Docker's filter (0), firewalld (10);
// services, masquerading, ICMP errors and neighbour discovery.

import { execFileSync, spawnSync } from 'node:child_process';
import t, { type Test } from 'tap';
import type { Cluster, Manifest } from '../flanneld/policy/oracle.ts';
import { addressOf, clusterAt } from '../flanneld/policy/truth-tables.ts';
import { enforcing } from '../support/enforcer.ts';
import { inside, runInside } from '../support/inside.ts';
import { type PolicyWorld, policyWorld, type RealPod } from '../support/policy-world.ts';

t.setTimeout(0);
const [ALLOWED_MS, DENIED_MS] = [20_000, 150];
const PODS = ['xa', 'xb', 'ya'];
const SERVICES = {
  4: { ofYa: '10.96.0.1', empty: '10.96.0.2', ofXa: '10.96.0.3' },
  6: { ofYa: 'fd00:96::1', empty: 'fd00:96::2', ofXa: 'fd00:96::3' },
} as const;

/** Port 80 of a service is port 81 of its pod; what it sends to itself, and what goes to ya, is masqueraded. */
const kubeProxy = (family: 4 | 6): string => {
  const [ip, { ofYa, empty, ofXa }] = [family === 4 ? 'ip' : 'ip6', SERVICES[family]];
  const [xa, ya] = [addressOf('xa', family), addressOf('ya', family)];
  const target = (address: string) => (family === 4 ? `${address}:81` : `[${address}]:81`);
  return `table ${ip} kube-proxy {
    chain filter-prerouting { type filter hook prerouting priority -110; }
    chain filter-forward { type filter hook forward priority -110; ct state new ${ip} daddr ${empty} counter reject
    }
    chain nat-prerouting { type nat hook prerouting priority -100;
      ${ip} daddr ${ofYa} tcp dport 80 dnat to ${target(ya)}
      ${ip} daddr ${ofXa} tcp dport 80 dnat to ${target(xa)}
    }
    chain nat-postrouting { type nat hook postrouting priority 100; ${ip} daddr { ${xa}, ${ya} } masquerade
    }
  }`;
};

/** A counter for what gets as far as Docker's and firewalld's chains. */
const LATER = `table inet later {
  chain docker { type filter hook forward priority 0; counter
  }
  chain firewalld { type filter hook forward priority 10; tcp dport 82 counter drop
  }
}`;

const load = (text: string): void => void execFileSync('nft', ['-f', '-'], { input: text });
const counted = (chain: string): number =>
  Number(
    /packets (\d+)/.exec(execFileSync('nft', ['list', 'chain', 'inet', 'later', chain], { encoding: 'utf8' }))?.[1],
  );

const policy = (pod: string, spec: object): Manifest => ({
  metadata: { name: `of-${pod}`, namespace: pod.slice(0, 1) },
  spec: { podSelector: { matchLabels: { pod: pod.slice(1) } }, ...spec },
});
const podOf = (pod: string) => ({
  namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': pod.slice(0, 1) } },
  podSelector: { matchLabels: { pod: pod.slice(1) } },
});

const withPolicies = (...policies: Manifest[]): Cluster =>
  clusterAt({ title: '', pods: PODS, stages: [] }, { policies, labels: {}, probes: [] });

/** What a connection, or a datagram, comes to, by the errno that it ends with; "open" when it doesn't. */
const ATTEMPT = `const [how, host, port, ms] = process.argv.slice(1);
const end = (what) => { console.log(what); process.exit(0); };
setTimeout(end, Number(ms), 'silence');
if (how === 'tcp') require('node:net').connect(port, host, () => end('open')).on('error', ({ code }) => end(code));
else {
  const socket = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', ({ code }) => end(code)).connect(port, host, () => setInterval(() => socket.send('x'), 100));
}`;

const attempt = ({ namespace }: RealPod, how: 'tcp' | 'udp', host: string, port: number, ms: number): string => {
  const words = [`--net=${namespace}`, process.execPath, '-e', ATTEMPT, how, host, String(port), String(ms)];
  return spawnSync('nsenter', words, { encoding: 'utf8' }).stdout.trim();
};

async function beside(t: Test, { pods }: PolicyWorld): Promise<void> {
  const want = enforcing(t);
  const [xa, xb, ya] = PODS.map((name) => pods.get(name) as RealPod) as [RealPod, RealPod, RealPod];
  for (const family of [4, 6] as const) {
    load(kubeProxy(family));
    // Where services are, as a default route has it.
    execFileSync('ip', [`-${family}`, 'route', 'add', 'default', 'dev', 'v-xb']);
  }
  load(LATER);
  const reaches = (from: RealPod, to: string, port: number, wanted: boolean) =>
    from.probe(to, port, 'TCP', wanted ? ALLOWED_MS : DENIED_MS);

  await want(
    withPolicies(
      policy('xa', { policyTypes: ['Egress'], egress: [{ to: [podOf('ya')], ports: [{ port: 81 }] }] }),
      policy('ya', { ingress: [{ from: [podOf('xa')] }] }),
    ),
  );
  for (const family of [4, 6] as const) {
    const { ofYa, empty } = SERVICES[family];
    t.ok(await reaches(xa, ofYa, 80, true), 'egress is judged by the pod and port behind a service');
    t.notOk(await reaches(xa, addressOf('ya', family), 80, false), 'not by the port that the client names');
    t.notOk(await reaches(xb, ofYa, 80, false), 'ingress is judged by the client, before masquerading');
    t.equal(attempt(xa, 'tcp', empty, 80, ALLOWED_MS), 'ECONNREFUSED', 'kube-proxy answers for a service without pods');
    const [before, seen] = [counted('docker'), counted('firewalld')];
    t.notOk(await reaches(xb, addressOf('ya', family), 80, false));
    t.equal(counted('docker'), before, 'what is dropped comes to no later chain');
    t.equal(attempt(xa, 'tcp', addressOf('xb', family), 82, DENIED_MS), 'silence');
    t.equal(counted('firewalld'), seen);
    t.equal(attempt(xb, 'tcp', addressOf('xa', family), 82, DENIED_MS), 'silence');
    t.ok(counted('docker') > before && counted('firewalld') > seen, 'what is allowed does, and they may drop it');
  }

  await want(
    withPolicies(
      policy('xa', { policyTypes: ['Ingress', 'Egress'], egress: [{ to: [podOf('ya')] }] }),
      policy('ya', { ingress: [{ from: [podOf('xa')] }] }),
    ),
  );
  for (const family of [4, 6] as const) {
    const address = addressOf('ya', family);
    t.equal(attempt(xa, 'udp', address, 4000, ALLOWED_MS), 'ECONNREFUSED', 'an ICMP error of an allowed flow passes');
    t.ok(await reaches(xa, SERVICES[family].ofXa, 80, true), 'a pod reaches itself through its service');
    t.notOk(await reaches(ya, addressOf('xa', family), 80, false));
    t.equal(nodeReaches(addressOf('xa', family)), true, 'the node reaches it');
  }
}

const nodeReaches = (address: string): boolean =>
  spawnSync('ping', ['-c1', '-W5', address], { stdio: 'ignore' }).status === 0;

async function neighbours(t: Test, { pods }: PolicyWorld): Promise<void> {
  const shut = PODS.map((pod) => policy(pod, { policyTypes: ['Ingress', 'Egress'] }));
  await enforcing(t)(withPolicies(...shut));
  const { namespace } = pods.get('xa') as RealPod;
  const address = addressOf('ya', 6);
  const inXa = (...words: string[]) => spawnSync('nsenter', [`--net=${namespace}`, ...words], { encoding: 'utf8' });
  t.not(inXa('ping', '-c1', '-W1', address).status, 0, 'everything is denied');
  const found = inXa('ip', '-6', 'neighbour', 'show', 'to', address).stdout;
  t.match(found, / lladdr /, 'but neighbours find each other');
}

/** Counts what looks like neighbour discovery, after the policies. */
const SOLICITATIONS = `table inet later {
  chain solicitations { type filter hook forward priority 0; icmpv6 type nd-neighbor-solicit counter
  }
}`;

/** As whoever may open raw sockets can send it: not to a neighbour, so with fewer hops left than a neighbour accepts. */
const SOLICIT = `const raw = require('raw-socket');
const socket = raw.createSocket({ protocol: raw.Protocol.ICMPv6, addressFamily: raw.AddressFamily.IPv6 });
const solicitation = Buffer.concat([Buffer.from([135, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(16)]);
socket.send(solicitation, 0, solicitation.length, process.argv[1], (error) => process.exit(error ? 1 : 0));`;

async function noNeighbours(t: Test, { pods }: PolicyWorld): Promise<void> {
  const { namespace } = pods.get('xa') as RealPod;
  const solicit = () => {
    const words = [`--net=${namespace}`, process.execPath, '-e', SOLICIT, addressOf('ya', 6)];
    t.equal(spawnSync('nsenter', words, { cwd: import.meta.dirname }).status, 0);
  };
  load(SOLICITATIONS);
  solicit();
  t.equal(counted('solicitations'), 1, 'without policies it goes its way');
  await enforcing(t)(withPolicies(policy('xa', { policyTypes: ['Egress'] })));
  solicit();
  t.equal(counted('solicitations'), 1, 'what claims to be neighbour discovery and goes elsewhere is judged');
}

if (inside === undefined) {
  for (const mode of ['routed', 'bridge']) await runInside(t, import.meta.filename, mode);
} else {
  const world = await policyWorld(t, PODS, { mode: inside === 'bridge' ? 'bridge' : 'routed' });
  if (inside === 'bridge') t.test('neighbour discovery', async (t) => neighbours(t, world));
  else {
    t.test('neighbour discovery to who is no neighbour', async (t) => noNeighbours(t, world));
    t.test('other tables, services and errors', async (t) => beside(t, world));
  }
}
