// Agents that end and begin again with policies in force, while pods send to each other: what is denied never passes, and of
// what is allowed no packet is lost.

import t, { type Test } from 'tap';
import { compilePrograms } from '../support/cni-host.ts';
import { until } from '../support/cni-host-checks.ts';
import { count } from '../support/count.ts';
import { startStreams, type Stream } from '../support/streams.ts';
import { endOf, FLAGS, makePolicyHost, MODES } from '../support/policy-host.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const PODS = ['server', 'friend', 'stranger'];
const MANIFESTS = PODS.map(
  (name) =>
    `kind: Pod\napiVersion: v1\nmetadata: { name: ${name}, namespace: x, labels: { role: ${name} } }\nspec: {}\n---\n`,
).join('');
/** Whatever else it says, friends are let in and strangers are not. */
const policy = (port: number) => `kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: { name: server, namespace: x }
spec:
  podSelector: { matchLabels: { role: server } }
  ingress:
  - from: [{ podSelector: { matchLabels: { role: friend } } }]
  - ports: [{ port: ${port} }]
`;

for (const [mode, delegate] of Object.entries(MODES)) {
  t.test(mode, async (t) => restarts(t, delegate));
}

async function restarts(t: Test, delegate: object): Promise<void> {
  const node = await makePolicyHost(t, bin);
  const { manifest } = node;
  manifest('pods', MANIFESTS);
  manifest('policy', policy(81));
  let agent = await node.startAgent({ flags: FLAGS });
  await node.addPods(PODS);
  const pods = new Map<string, string[]>();
  for (const name of PODS) {
    const { status, output } = await node.verb('ADD', name, delegate);
    t.equal(status, 0, JSON.stringify(output));
    pods.set(name, endOf(output).addresses);
  }
  const streams = await startStreams(t, {
    directory: node.directory,
    port: 9000,
    everyMs: 2,
    pods,
    start: (name, program, args) => node.machine.start('ip', ['netns', 'exec', name, program, ...args]),
  });
  // Neighbours are found in the first epoch, of which nothing is said.
  for (let rounds = 0; rounds < 50; rounds++) await streams.round();
  const ends = [() => agent.stop(), () => agent.kill()];
  const restarts = Math.max(ends.length, count(40));
  for (let epoch = 1; epoch <= restarts; epoch++) {
    await streams.begin(epoch);
    await ends[epoch % ends.length]?.();
    await streams.round();
    manifest('policy', policy(81 + epoch));
    agent = await node.startAgent({ flags: FLAGS });
    await until(async () => (await node.status()).ready);
    await streams.round();
  }
  await streams.begin(restarts + 1);
  const told = (await streams.report()).filter(({ epoch }) => epoch >= 1 && epoch <= restarts);
  const isDenied = ({ from, to }: Stream): boolean => from === 'stranger' && to === 'server';
  const [denied, allowed] = [told.filter(isDenied), told.filter((each) => !isDenied(each))];
  t.equal(denied.length, restarts * 2);
  t.equal(allowed.length, restarts * 10);
  t.same(
    denied.filter(({ came }) => came > 0),
    [],
    'no opening',
  );
  t.same(
    allowed.filter(({ sent, came, back }) => came < sent || back < sent),
    [],
    'nothing is cut',
  );
  t.equal(await agent.stop(), 0);
}
