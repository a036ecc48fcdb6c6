// The policy table in the real kernel: nft takes it, transactions lead where a full load leads, flows that are known are
// judged again, and what others change is put back.

import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { createApplier } from '../../flanneld/policy/apply.ts';
import { createCompiler } from '../../flanneld/policy/compile.ts';
import { type InForce, planChange } from '../../flanneld/policy/transaction.ts';
import { EMPTY_WORLD } from '../../flanneld/policy/world.ts';
import { systemClock } from '../../flanneld/clock.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { openKernel } from '../../kernel/open.ts';
import { diffTable } from '../../model/ruleset.ts';
import { worldHere } from '../flanneld/policy/compiled.ts';
import type { Cluster, Manifest } from '../flanneld/policy/oracle.ts';
import { cluster } from '../flanneld/policy/random-cluster.ts';
import { addressOf, clusterAt, type Stage } from '../flanneld/policy/truth-tables.ts';
import { count } from '../support/count.ts';
import { inside, runInside } from '../support/inside.ts';
import { type PolicyWorld, policyWorld, type RealFlow, type RealPod } from '../support/policy-world.ts';
import { seed } from '../support/seed.ts';

t.setTimeout(0);
const PODS = ['xa', 'ya'];
/** What is allowed gets through however busy the machine is; what is denied is waited for so long. */
const [ALLOWED_MS, DENIED_MS] = [20_000, 150];
const LOG = {
  debug: () => undefined,
  info: () => undefined,
  warn: (_: object, text: string) => t.comment(text),
  error: () => undefined,
};

const POLICY_TRANSACTION = { family: 'inet', table: 'flannel-policy' } as const;
const CLEARED = [
  { verb: 'add', type: 'table' },
  { verb: 'delete', type: 'table' },
] as const;

/** In the words of nft, elements in order. */
function listed(kernel: Kernel): string {
  const table = kernel.readTable('inet', 'flannel-policy');
  if (table === undefined) return 'none';
  const byName = <T extends { readonly name: string }>(items: readonly T[]) =>
    [...items].sort((a, b) => (a.name < b.name ? -1 : 1));
  const sets = byName(table.sets).map((set) => ({ ...set, elements: [...set.elements].sort() }));
  return JSON.stringify({ chains: byName(table.chains), sets });
}

function incremental(t: Test, kernel: Kernel): void {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(cluster, { minLength: 2, maxLength: 4 }), (clusters) => {
        const compile = createCompiler('closed');
        let world = EMPTY_WORLD;
        let inForce: InForce = { table: undefined, established: { mode: 'cut', stamp: 7 } };
        kernel.commit({ ...POLICY_TRANSACTION, commands: CLEARED });
        for (const each of clusters) {
          world = worldHere(each, world);
          const plan = planChange(inForce, compile(world));
          if (plan.transaction !== undefined) kernel.commit(plan.transaction);
          inForce = plan.after;
        }
        const step = listed(kernel);
        const whole = inForce.table === undefined ? undefined : diffTable(undefined, inForce.table, () => true);
        kernel.commit({ ...POLICY_TRANSACTION, commands: [...CLEARED, ...(whole?.commands ?? [])] });
        return step === listed(kernel);
      }),
      { seed, numRuns: count(400) },
    ),
  );
}

/** An applier with its own notifications, until the returned function is called or the test ends. */
function applying(t: Test, kernel: Kernel, established: 'cut' | 'keep' = 'cut') {
  const stop = new AbortController();
  const applier = createApplier({ kernel, clock: systemClock, log: LOG, established, signal: stop.signal });
  const unwatch = kernel.watch(applier.onChange);
  const compile = createCompiler('closed');
  const end = () => {
    stop.abort();
    unwatch();
  };
  t.teardown(end);
  return { applier, end, want: (cluster: Cluster) => applier.want(compile(worldHere(cluster))) };
}

const TWO_PODS = { title: 'two pods', pods: ['xa', 'ya'], stages: [] };
const stageOf = (...policies: Manifest[]): Stage => ({ policies, labels: {}, probes: [] });
const ingressOfYa = (ingress: object[]): Manifest => ({
  metadata: { name: 'p', namespace: 'y' },
  spec: { podSelector: {}, policyTypes: ['Ingress'], ingress },
});
const FREE = clusterAt(TWO_PODS, stageOf());
const DENYING = clusterAt(TWO_PODS, stageOf(ingressOfYa([])));
const ALLOWING = clusterAt(
  TWO_PODS,
  stageOf(ingressOfYa([{ from: [{ namespaceSelector: {} }], ports: [{ port: 80 }, { port: 80, protocol: 'UDP' }] }])),
);

async function flows(t: Test, kernel: Kernel, { pods }: PolicyWorld): Promise<void> {
  const [client, server] = [pods.get('xa') as RealPod, pods.get('ya') as RealPod];
  const open = () =>
    Promise.all(
      (['TCP', 'UDP'] as const).flatMap((protocol) =>
        ([4, 6] as const).map((family) => client.open(addressOf('ya', family), 80, protocol, ALLOWED_MS)),
      ),
    );
  const all = async (
    what: string,
    open: readonly RealFlow[],
    expected: boolean,
    judge: (flow: RealFlow) => Promise<boolean>,
  ) => {
    const found = await Promise.all(open.map(async (flow) => ((await judge(flow)) === expected ? [] : [flow.title])));
    t.same(found.flat(), [], what);
  };
  const allSay = (what: string, open: readonly RealFlow[], expected: boolean) =>
    all(what, open, expected, (flow) => flow.say(expected ? ALLOWED_MS : DENIED_MS));
  const anyHear = async (what: string, open: readonly RealFlow[], expected: boolean) => {
    const heard = all(what, open, expected, (flow) => flow.hear(expected ? ALLOWED_MS : DENIED_MS));
    await server.shout();
    await heard;
  };

  const first = applying(t, kernel);
  await first.want(FREE);
  const [talking, listening] = [await open(), await open()];
  await allSay('no policy', [...talking, ...listening], true);
  await first.want(ALLOWING);
  await allSay('flows from before the table existed', talking, true);
  await anyHear('the same, the server first', listening, true);
  await first.want(DENYING);
  await anyHear('denied, the server first', listening, false);
  await allSay('denied, the client first', talking, false);
  await allSay('denied, the client second', listening, false);
  await first.want(ALLOWING);
  await allSay('allowed again', [...talking, ...listening], true);
  first.end();

  const second = applying(t, kernel);
  const more = await open();
  await second.want(ALLOWING);
  await anyHear('another agent takes over, the server first', [...talking, ...more], true);
  await allSay('the client', [...talking, ...more], true);
  second.end();

  const keeping = applying(t, kernel, 'keep');
  await keeping.want(DENYING);
  await allSay('kept', talking, true);
  await anyHear('kept, the server first', talking, true);
  t.equal((await client.open(addressOf('ya', 4), 80, 'TCP', DENIED_MS)).opened, false, 'a new flow is not');
  await keeping.want(FREE);
  t.equal(kernel.readTable('inet', 'flannel-policy'), undefined, 'no policy, no table');
  keeping.end();
}

async function foreign(t: Test, kernel: Kernel): Promise<void> {
  const { applier, want, end } = applying(t, kernel);
  await want(DENYING);
  const before = listed(kernel);
  const changes = [
    'flush chain inet flannel-policy forward',
    'delete table inet flannel-policy',
    'add element inet flannel-policy isolated4 { 10.9.9.9 }',
  ];
  for (const [at, change] of changes.entries()) {
    execFileSync('nft', [change]);
    await until(() => applier.status().replacements === at + 2 && applier.status().current);
    t.equal(listed(kernel).replaceAll(STAMPING, ''), before.replaceAll(STAMPING, ''), change);
  }
  execFileSync('nft', ['add table inet somebody; add chain inet somebody else; delete table inet somebody']);
  await want(ALLOWING);
  await sleep(300);
  t.equal(applier.status().replacements, changes.length + 1, 'neither other tables nor our own changes count');
  await want(FREE);
  end();
}

const STAMPING = /,?"ct mark [^"]*"/g;
const WAIT_MS = 20_000;

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while (!condition() && Date.now() < end) await sleep(10);
}

const SEND = `const [to] = process.argv.slice(1);
const socket = require('node:dgram').createSocket(to.includes(':') ? 'udp6' : 'udp4');
socket.on('error', () => {}).send('x', 9, to, () => socket.close());`;

async function marks(t: Test, kernel: Kernel): Promise<void> {
  const state = () =>
    ['ipv4', 'ipv6']
      .map((family) =>
        execFileSync('conntrack', ['-L', '-f', family], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
      )
      .join('');
  const marksNow = () => [...new Set([...state().matchAll(/ dport=9 .* mark=(\d+)/g)].map(([, mark]) => Number(mark)))];
  execFileSync('conntrack', ['-F'], { stdio: 'ignore' });
  execFileSync('nft', ['-f', '-'], {
    input: `table inet marking {
      chain output { type filter hook output priority 0; ct mark set ${0x05000042}; }
    }`,
  });
  for (const to of ['127.0.0.1', '::1']) execFileSync(process.execPath, ['-e', SEND, to]);
  t.same(marksNow(), [0x05000042]);
  await kernel.unmarkFlows(0xff000000, new AbortController().signal);
  t.same(marksNow(), [0x42], 'the others stay');
}

if (inside === undefined) {
  for (const mode of ['routed', 'bridge']) await runInside(t, import.meta.filename, mode);
} else {
  const how = inside === 'bridge' ? 'bridge' : 'routed';
  const kernel = openKernel();
  t.teardown(() => kernel.close());
  const world = await policyWorld(t, PODS, { mode: how });
  t.test('flows that are known when a policy gets stricter', async (t) => flows(t, kernel, world));
  if (how === 'routed') {
    t.test('transactions lead where a full load leads', async (t) => incremental(t, kernel));
    t.test('another program changes the table', async (t) => foreign(t, kernel));
    t.test('bits of marks', async (t) => marks(t, kernel));
  }
}
