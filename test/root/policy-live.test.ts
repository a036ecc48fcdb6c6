// Policies that change while everybody sends to everybody: what neither the state before nor the one after allows never
// passes in between, and of what both allow no packet is lost.

import { spawn } from 'node:child_process';
import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { isHere } from '../flanneld/policy/compiled.ts';
import { type Cluster, type Manifest, mayPass } from '../flanneld/policy/oracle.ts';
import { cluster } from '../flanneld/policy/random-cluster.ts';
import { count } from '../support/count.ts';
import { enforcing } from '../support/enforcer.ts';
import { inside, runInside } from '../support/inside.ts';
import { type PolicyWorld, policyWorld, type RealPod } from '../support/policy-world.ts';
import { seed } from '../support/seed.ts';
import { startStreams, type Stream } from '../support/streams.ts';
import { temporaryDirectory } from '../support/temporary.ts';

t.setTimeout(0);
/** One that policies of random clusters name. */
const PORT = 82;
const EVERY_MS = 4;
const PODS = Array.from({ length: 6 }, (_, at) => `p${at}`);
const addressOf = (name: string, family: 4 | 6): string => {
  const at = Number(name.slice(1)) + 1;
  return family === 4 ? `10.1.0.${at}` : `fd00::${at.toString(16)}`;
};
const addressesOf = (name: string): string[] => ([4, 6] as const).map((family) => addressOf(name, family));

interface State extends Cluster {
  readonly title: string;
}

/** `role` is the label; those of namespace x are policed. `place`: whose addresses it has. */
const pod = (name: string, namespace: string, role: string, place = name): Manifest => ({
  metadata: { name, namespace, labels: { role } },
  spec: { nodeName: 'here', containers: [] },
  status: { podIPs: addressesOf(place).map((ip) => ({ ip })) },
});
const server = pod('p0', 'x', 'server');
const friend = pod('p1', 'x', 'friend');
const stranger = pod('p2', 'x', 'stranger');
const far = pod('p3', 'y', 'friend');
const others = [pod('p4', 'y', 'stranger'), pod('p5', 'z', 'stranger')];
const ALL = [server, friend, stranger, far, ...others];
const namespaceY = (labels: Record<string, string>): Manifest => ({ metadata: { name: 'y', labels } });
const admitting = (...from: object[]): Manifest => ({
  metadata: { name: 'server', namespace: 'x' },
  spec: {
    podSelector: { matchLabels: { role: 'server' } },
    ingress: [{ from, ports: [{ port: PORT, protocol: 'UDP' }] }],
  },
});
const FRIENDS = { podSelector: { matchLabels: { role: 'friend' } } };
const LABELLED = { namespaceSelector: { matchLabels: { team: 'ours' } } };
const SILENT: Manifest = {
  metadata: { name: 'silent', namespace: 'x' },
  spec: { podSelector: { matchLabels: { role: 'stranger' } }, policyTypes: ['Egress'] },
};
const state = (title: string, pods: Manifest[], policies: Manifest[], labels = {}): State => ({
  title,
  namespaces: [namespaceY(labels)],
  pods,
  policies,
});
const swapped = [pod('p0', 'x', 'server', 'p2'), friend, pod('p2', 'x', 'stranger', 'p0'), far, ...others];
const relabelled = [server, pod('p1', 'x', 'stranger'), pod('p2', 'x', 'friend'), far, ...others];

const STORY: readonly State[] = [
  state('no policy', ALL, []),
  state('a policy', ALL, [admitting(FRIENDS, LABELLED)]),
  state('a label of a namespace', ALL, [admitting(FRIENDS, LABELLED)], { team: 'ours' }),
  state('another one', ALL, [admitting(FRIENDS, LABELLED)], { team: 'theirs' }),
  state('labels of pods', relabelled, [admitting(FRIENDS, LABELLED)]),
  state('back', ALL, [admitting(FRIENDS, LABELLED)]),
  state('addresses change hands', swapped, [admitting(FRIENDS)]),
  state('and back', ALL, [admitting(FRIENDS)]),
  state('an edit', ALL, [admitting(LABELLED)], { team: 'ours' }),
  state('one more policy', ALL, [admitting(LABELLED), SILENT], { team: 'ours' }),
  state('in place of it', ALL, [SILENT], { team: 'ours' }),
  state('a pod that ends', [stranger, far, ...others], [admitting(FRIENDS), SILENT]),
  state('all begin', ALL, [admitting(FRIENDS), SILENT]),
  state('no policy any more', ALL, []),
];

/** Whether a stream may come through in a state, as the independent matcher has it. */
const allows = (cluster: Cluster, { from, address }: Stream): boolean =>
  mayPass(
    cluster,
    { from: addressOf(from, address.includes(':') ? 6 : 4), to: address, protocol: 'UDP', port: PORT },
    isHere,
  );

/**
 * What is amiss with a stream in the epoch in which one state follows another; undefined when all is well. One datagram of a
 * stream may be lost: rules are those of the generation in which a packet began, sets those of the moment (nft_do_chain), and
 * a packet that a transaction overtakes meets old rules with new sets.
 */
function wrong(stream: Stream, before: Cluster, after: Cluster): string | undefined {
  const [was, is] = [allows(before, stream), allows(after, stream)];
  const { sent, came, back } = stream;
  if (!was && !is && came > 0) return `${came} of ${sent} passed that neither state allows`;
  if (was && is && back < sent - 1) return `of ${sent} that both states allow, ${came} came, ${back} back`;
  if (is && came === 0) return `none of ${sent} came that the new state allows`;
  return undefined;
}

async function live(t: Test, { pods }: PolicyWorld, states: readonly State[]): Promise<void> {
  const directory = temporaryDirectory(t);
  const want = enforcing(t);
  const [first] = states as [State];
  await want(first);
  const streams = await startStreams(t, {
    directory,
    port: PORT,
    everyMs: EVERY_MS,
    pods: new Map(PODS.map((name) => [name, addressesOf(name)])),
    start: (name, program, args) =>
      spawn('nsenter', [`--net=${(pods.get(name) as RealPod).namespace}`, program, ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      }),
  });
  // Neighbours are found in the first epoch, of which nothing is said.
  for (let rounds = 0; rounds < WARM_ROUNDS; rounds++) await streams.round();
  for (const [at, each] of states.entries()) {
    await streams.begin(at + 1);
    await want(each);
    await streams.round();
  }
  await streams.begin(states.length + 1);
  await streams.round();
  const all = await streams.report();
  const found = all.flatMap((stream) => {
    const after = states[stream.epoch - 1];
    const problem = after && wrong(stream, states[stream.epoch - 2] ?? first, after);
    return problem === undefined ? [] : [`${after?.title}: ${stream.from} to ${stream.address}: ${problem}`];
  });
  t.same(found, [], `${all.length} streams of ${states.length} states`);
  t.ok(all.length >= states.length * PODS.length * (PODS.length - 1) * 2);
}

const WARM_ROUNDS = 50;

const random = (): State[] =>
  fc
    .sample(cluster, { seed, numRuns: count(400) })
    .map((each, at) => ({ ...each, title: `random ${at}: ${JSON.stringify(each)}` }));

if (inside === undefined) {
  for (const mode of ['routed', 'bridge']) await runInside(t, import.meta.filename, mode);
} else {
  const world = await policyWorld(t, PODS, { mode: inside === 'bridge' ? 'bridge' : 'routed', addresses: addressOf });
  t.test('labels, addresses and policies change', async (t) => live(t, world, STORY));
  t.test('from any state to any other', async (t) => live(t, world, [state('no policy', ALL, []), ...random()]));
}
