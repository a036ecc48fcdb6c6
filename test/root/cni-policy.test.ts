// NetworkPolicy through the whole agent: pods are attached by the C client, policies come from a directory.

import t, { type Test } from 'tap';
import { compilePrograms } from '../support/cni-host.ts';
import { until } from '../support/cni-host-checks.ts';
import { endOf, FLAGS, makePolicyHost, type PolicyHost } from '../support/policy-host.ts';

t.setTimeout(0);
const bin = compilePrograms(t);

const podYaml = (name: string) =>
  `kind: Pod\napiVersion: v1\nmetadata: { name: ${name}, namespace: x, labels: { pod: ${name} } }\nspec: {}\n`;
const POLICY = `kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: { name: closed, namespace: x }
spec: { podSelector: { matchLabels: { pod: a } }, policyTypes: [Ingress] }
`;

interface Host extends PolicyHost {
  add(name: string): Promise<{ readonly status: number; readonly address: string; readonly message: string }>;
  pings(from: string, address: string): Promise<boolean>;
  table(): Promise<string>;
}

async function host(t: Test, delegate: object): Promise<Host> {
  const made = await makePolicyHost(t, bin);
  return {
    ...made,
    async add(name) {
      const added =
        name === 'none' ? made.one('ADD', name, { config: { delegate } }) : made.verb('ADD', name, delegate);
      const { status, output } = await added;
      return { status, address: endOf(output).addresses[0] ?? '', message: JSON.stringify(output) };
    },
    async pings(from, address) {
      const words = ['ping', '-c1', '-W1', address];
      const [command = '', ...rest] = from === '' ? words : ['ip', 'netns', 'exec', from, ...words];
      return (await made.machine.run(command, rest)).code === 0;
    },
    table: async () => (await made.machine.run('nft', ['list', 'table', 'inet', 'flannel-policy'])).stdout,
  };
}

for (const [mode, delegate] of Object.entries({
  bridge: { isDefaultGateway: true },
  routed: { isDefaultGateway: true, mode: 'routed' },
}))
  t.test(`${mode}: pods are isolated before they start, and stay so`, async (t) =>
    isolated(t, await host(t, delegate)),
  );

async function isolated(t: Test, node: Host): Promise<void> {
  await node.addPods(['a', 'b', 'c', 'none']);
  node.manifest('a', podYaml('a'));
  node.manifest('b', podYaml('b'));
  let agent = await node.startAgent({ flags: FLAGS });
  const [b, none] = [await node.add('b'), await node.add('none')];
  t.same([b.status, none.status], [0, 0]);
  t.equal(await node.table(), '', 'no policy, no table');

  node.manifest('policy', POLICY);
  await untilTrue(async () => (await node.table()) !== '');
  const a = await node.add('a');
  t.equal(a.status, 0, a.message);
  t.match(await node.table(), `${a.address} : jump ingress-`, 'in force when ADD returns');
  const denied = await Promise.all(['b', 'none'].map((from) => node.pings(from, a.address)));
  t.same(denied, [false, false], 'denied, to a container without a name too');
  t.ok(await node.pings('', a.address), 'its node reaches it');
  t.ok(await node.pings('a', b.address), 'the other way is free');
  t.ok(await node.pings('a', a.address), 'a pod reaches itself');

  const waiting = node.add('c');
  await untilTrue(async () => (await node.status()).cni.running > 0);
  node.manifest('c', podYaml('c'));
  t.equal((await waiting).status, 0, 'one that is not known yet waits until it is');

  await agent.kill();
  t.notOk(await node.pings('b', a.address), 'without an agent');
  agent = await node.startAgent({ flags: FLAGS });
  await untilTrue(async () => (await node.status()).ready);
  t.notOk(await node.pings('b', a.address), 'with another one');
  t.match(await node.machine.must(...node.flanneld('status')), /network policy: 1 policies of directory/);

  t.equal((await node.one('DEL', 'a')).status, 0);
  await untilTrue(async () => !(await node.table()).includes(a.address));
  node.manifest('policy', undefined);
  await untilTrue(async () => (await node.table()) === '');
  t.equal(await agent.stop(), 0);
}

t.test('who asks which policy drops what is told', async (t) => {
  const node = await host(t, { isDefaultGateway: true });
  await node.addPods(['a', 'b', 'c']);
  for (const name of ['a', 'b']) node.manifest(name, podYaml(name));
  node.manifest('policy', POLICY);
  node.manifest('wrong', POLICY.replace('closed', 'wrong').replace('[Ingress]', '[Ingres]'));
  const agent = await node.startAgent({ flags: [...FLAGS, '--policy-log-denied'] });
  const [a, b] = [await node.add('a'), await node.add('b')];
  t.same([a.status, b.status], [0, 0]);
  // It is waited for in vain for 10 s; meanwhile the rest.
  const unknown = node.add('c');
  const why = (...words: string[]) => node.machine.run(...node.flanneld('policy', 'why', ...words));

  const denied = await why('--from', 'x/b', '--to', 'x/a', '--port', '80/tcp');
  t.equal(denied.code, 1, denied.stderr);
  t.match(
    denied.stdout,
    /ingress of x\/a: denied, .*: x\/closed, x\/wrong\n {2}kernel: denied \(chain denied-ingress\)/,
  );
  const allowed = await why('--from', a.address, '--to', '192.0.2.1', '--port', '53/udp');
  t.match(allowed.stdout, / x\/a: denied/, 'a policy type that nobody knows isolates both ways');
  t.equal((await why('--from', 'x/b', '--to', '192.0.2.1', '--port', '53')).code, 0);
  t.equal((await why('--from', 'x/zz', '--to', 'x/a', '--port', '53')).code, 2);

  const tracing = node.machine.start(...node.flanneld('policy', 'trace'));
  t.teardown(() => tracing.kill());
  let traced = '';
  tracing.stdout?.on('data', (chunk) => {
    traced += chunk;
  });
  await untilTrue(async () => {
    await node.pings('b', a.address);
    return traced !== '';
  });
  t.match(
    traced,
    new RegExp(`x/b \\(${b.address}\\) to x/a \\(${a.address}\\), protocol 1: ingress of x/a, isolated by x/closed`),
  );
  const status = await node.machine.run(...node.flanneld('status'));
  t.match(status.stdout, /packets dropped: [1-9]\d* by ingress, 0 by egress\n {4}x\/a: [1-9]\d* to it\n/);
  t.match(status.stdout, /invalid: NetworkPolicy x\/wrong: spec\.policyTypes: expected a list/);
  const metrics = await node.machine.must('curl', [
    '-s',
    '--unix-socket',
    '/run/flannel/subnet.sock',
    'http://x/metrics',
  ]);
  t.match(metrics, /flannel_policy_denied_packets_total\{direction="ingress"\} [1-9]/);
  t.match(metrics, /flannel_policies 2\n/);
  t.match(metrics, /flannel_policies_invalid 1\n/);
  t.match(metrics, /flannel_policy_isolated_pods [12]\n/);
  t.match(
    agent.log(),
    /NetworkPolicy x\/wrong: spec\.policyTypes: expected a list .*; it isolates the pods it selects/,
  );
  const refused = await unknown;
  t.equal(refused.status, 1);
  t.match(refused.message, /"code":11.*network policy of pod x\/c .* has no Pod x\/c/);
  await agent.stop();
});

async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  let is = false;
  const look = async () => {
    is = await condition();
  };
  await look();
  await until(
    () => {
      void look();
      return is;
    },
    () => 'it never came',
  );
}
