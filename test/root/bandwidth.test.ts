// Limits on bandwidth with real packets: as a capability of flannel, behind the reference's bridge, and the reference's
// own behind ours.

import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { attach, type CniNode, makeNode, outside, REFERENCE } from '../support/cni.ts';
import { chainOf, goBridge } from '../support/cni-chain.ts';
import { linksOf, makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { receiveBytes, speed } from '../support/speed.ts';

const MBIT = 1_000_000;
const RATES = { ingressRate: 24 * MBIT, ingressBurst: 400_000, egressRate: 8 * MBIT, egressBurst: 400_000 };

/** Whether a transfer of a second or so is as fast as it may be, and not much slower. */
function isLimited(t: Test, from: TestNamespace, to: string, rate: number, what: string): void {
  const found = speed(from, to, rate / 8);
  t.ok(found < rate * 1.15 && found > rate * 0.5, `${what}: ${(found / MBIT).toFixed(1)} of ${rate / MBIT} Mbit/s`);
}

function isUnlimited(t: Test, from: TestNamespace, to: string, what: string): void {
  const found = speed(from, to, MBIT);
  t.ok(found > 1.5 * RATES.ingressRate, `${what}: ${(found / MBIT).toFixed(0)} Mbit/s`);
}

const ifbs = ({ namespace }: CniNode): string[] => linksOf(namespace).filter((name) => name.startsWith('ifb'));

/** The disciplines of the node's devices, without what differs from pod to pod. */
function disciplines({ namespace }: CniNode, device: string): string[] {
  const text =
    namespace.must(`tc qdisc show dev ${device}`) + namespace.must(`tc filter show dev ${device} parent ffff:`);
  return text
    .split('\n')
    .map((line) => line.replace(/ dev \S+| device \S+\)|refcnt \d+|index \d+/g, '').trim())
    .filter((line) => /^qdisc (tbf|ingress)|mirred .* stolen/.test(line));
}

t.test('flannel itself', async (t) => {
  const node = makeNode(t);
  const machine = outside(t, node);
  machine.must('ip route add default via 192.0.2.1');
  machine.must('ip route add default via 2001:db8::1');
  const changes = { runtimeConfig: { bandwidth: RATES } };
  const [pod, result] = attach(t, node, 'pod1', changes);
  const [free, { ips }] = attach(t, node, 'pod2');
  for (const where of [pod, machine, free]) await receiveBytes(t, where);
  isLimited(t, machine, '10.5.1.2', RATES.ingressRate, 'to the pod');
  isLimited(t, machine, 'fd00:5:0:1::2', RATES.ingressRate, 'to the pod, IPv6');
  isLimited(t, pod, '192.0.2.2', RATES.egressRate, 'from the pod');
  isLimited(t, pod, '2001:db8::2', RATES.egressRate, 'from the pod, IPv6');
  isLimited(t, free, '10.5.1.2', RATES.ingressRate, 'from its neighbour');
  isUnlimited(t, machine, ips[0]?.address.slice(0, -3) as string, 'to its neighbour');

  const [ifb] = ifbs(node);
  t.match(result.interfaces[3], { name: ifb });
  t.match(node.namespace.must(`ip link show ${ifb}`), /[<,]UP[,>].* mtu 1450 /);
  const call = { config: node.config({ ...changes, prevResult: result }), netns: pod.path };
  t.match(node.cni('CHECK', call), { status: 0, output: {} });
  node.namespace.must(`tc qdisc delete dev ${ifb} root`);
  t.match(node.cni('CHECK', call), { status: 1, output: { code: 101, msg: /tbf rate 1000000bps/ } });
  for (const _ of [1, 2]) {
    t.equal(node.cni('DEL', { config: node.config(), netns: '' }).status, 0);
    t.strictSame(ifbs(node), []);
  }
});

for (const cniVersion of ['0.4.0', '1.0.0']) {
  t.test(`${cniVersion}: flannel-bandwidth behind the reference's bridge`, async (t) => {
    const node = makeNode(t);
    const pod = makeNamespace(t, 'pod1');
    const chain = chainOf(node, cniVersion, pod, [
      [goBridge(node), REFERENCE],
      [{ type: 'flannel-bandwidth', runtimeConfig: { bandwidth: RATES } }],
    ]);
    const result = chain.add(t);
    t.match(result.interfaces[3], { name: ifbs(node)[0] });
    for (const where of [pod, node.namespace]) await receiveBytes(t, where);
    // Go's bridge detects duplicates of its own IPv6 address for a second.
    await sleep(2000);
    isLimited(t, node.namespace, '10.5.1.2', RATES.ingressRate, 'to the pod');
    isLimited(t, pod, '10.5.1.1', RATES.egressRate, 'from the pod');
    isLimited(t, node.namespace, 'fd00:5:0:1::2', RATES.ingressRate, 'to the pod, IPv6');
    t.strictSame(chain.check(), [0, 0]);
    node.namespace.must(`tc qdisc delete dev ${result.interfaces[1]?.name} ingress`);
    t.strictSame(chain.check(), [0, 1]);
    t.strictSame(chain.del(), [0, 0]);
    t.strictSame([ifbs(node), linksOf(node.namespace)], [[], ['cni0', 'lo']]);
    t.strictSame(chain.del(false), [0, 0], 'again, without a result');
  });
}

t.test("the reference's bandwidth behind ours: the same numbers", async (t) => {
  const node = makeNode(t);
  const odd = { ingressRate: 7_654_321, ingressBurst: 123_456, egressRate: 1 * MBIT, egressBurst: 40_000_000 };
  const found = [REFERENCE, undefined].map((bin, index) => {
    const pod = makeNamespace(t, `pod${index}`);
    const type = bin === undefined ? 'flannel-bandwidth' : 'bandwidth';
    const chain = chainOf(node, '1.0.0', pod, [
      [node.config({ name: 'chain', cniVersion: '1.0.0' })],
      [{ type, ...odd }, bin],
    ]);
    const { interfaces } = chain.add(t);
    const shown = [interfaces[1], interfaces[3]].map((each) => disciplines(node, each?.name as string));
    t.strictSame(chain.check(), [0, 0]);
    t.strictSame(chain.del(), [0, 0]);
    return shown;
  });
  t.equal(found[0]?.flat().length, 4);
  t.strictSame(found[1], found[0]);
});

t.test('a clsact discipline that somebody else needs stays, and takes the redirect', async (t) => {
  const node = makeNode(t, [4]);
  const [pod, result] = attach(t, node, 'pod1');
  const host = result.interfaces[1]?.name;
  node.namespace.must(`tc qdisc add dev ${host} clsact`);
  const config = { type: 'flannel-bandwidth', cniVersion: '1.1.0', name: 'cbr0', ...RATES, prevResult: result };
  const call = { config: { ...config, dataDir: `${node.directory}/flannel` }, netns: pod.path };
  t.equal(node.cni('ADD', call).status, 0);
  t.match(node.namespace.must(`tc qdisc show dev ${host}`), /clsact/);
  t.equal(node.cni('CHECK', call).status, 0);
  await receiveBytes(t, node.namespace);
  isLimited(t, pod, '10.5.1.1', RATES.egressRate, 'from the pod');
  t.equal(node.cni('DEL', call).status, 0);
  t.equal(node.cni('DEL', { config: node.config(), netns: pod.path }).status, 0);
  t.strictSame(node.files(), []);
});
