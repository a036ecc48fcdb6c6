// What is done to the kernel, and when: on the kernel in memory, with time in the test's hands.

import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { createApplier } from '../../../flanneld/policy/apply.ts';
import { createCompiler } from '../../../flanneld/policy/compile.ts';
import { createFakeKernel } from '../../../kernel/fake.ts';
import { NetError } from '../../../model/errors.ts';
import type { Transaction } from '../../../model/ruleset.ts';
import { testClock, testLog } from '../fixtures/host.ts';
import { worldHere } from './compiled.ts';
import type { Cluster } from './oracle.ts';

const pod = (at: number, node = 'here') => ({
  metadata: { name: `p${at}`, namespace: 'x', labels: { pod: 'a' } },
  spec: { nodeName: node, containers: [] },
  status: { podIPs: [{ ip: `10.1.${at >> 8}.${at & 255}` }] },
});
const policy = (ingress: object[]) => ({ metadata: { name: 'n', namespace: 'x' }, spec: { podSelector: {}, ingress } });
const FROM_ALL = policy([{ from: [{ podSelector: {} }] }]);
const cluster = (pods: number, ...policies: Cluster['policies']): Cluster => ({
  namespaces: [],
  pods: [pod(1), ...Array.from({ length: pods }, (_, at) => pod(at + 2, 'there'))],
  policies,
});

/** Everything that follows without time passing has happened. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await turn();
}

const atOnce = async (): Promise<void> => undefined;

function rig(established: 'cut' | 'keep' = 'cut', { asideTakes = atOnce, unmarkTakes = atOnce } = {}) {
  const kernel = createFakeKernel();
  const [clock, log, stop] = [testClock(), testLog(), new AbortController()];
  const done: string[] = [];
  const size = ({ commands }: Transaction) => `${commands.length}`;
  const applier = createApplier({
    kernel: {
      commit(transaction) {
        kernel.commit(transaction);
        done.push(`commit ${size(transaction)}`);
      },
      async commitAside(transaction) {
        await asideTakes();
        await kernel.commitAside(transaction);
        done.push('aside');
      },
      async unmarkFlows(mask, signal) {
        await unmarkTakes();
        await kernel.unmarkFlows(mask, signal);
        done.push('unmark');
      },
    },
    clock,
    log,
    established,
    signal: stop.signal,
  });
  kernel.watch(applier.onChange);
  const compile = createCompiler('closed');
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 10) {
      clock.advance(10);
      await settled();
    }
  };
  return { kernel, log, stop, applier, done, pass, want: (world: Cluster) => applier.want(compile(worldHere(world))) };
}

const table = (r: ReturnType<typeof rig>) => r.kernel.readTable('inet', 'flannel-policy');

t.test('first whole, then stamps, then what changes', async (t) => {
  const r = rig();
  t.same(r.done, [], 'nothing before a state is given');
  t.equal(await r.want(cluster(1, FROM_ALL)), true);
  await r.pass(20);
  t.match(r.done.join(', '), /^commit \d+, unmark, commit \d+$/);
  t.match(r.applier.status(), { current: true, replacements: 1, transactions: 2, trouble: undefined });
  const more = r.want(cluster(2, FROM_ALL));
  const most = r.want(cluster(3, FROM_ALL));
  await settled();
  t.equal(r.done.length, 3, 'gathered for a moment');
  await r.pass(20);
  t.same(await Promise.all([more, most]), [true, true]);
  t.match(r.done.slice(3), ['commit 1'], 'one element more, for both');
});

t.test('nobody waits for flows that lose the stamps of an earlier time', async (t) => {
  const slow = Promise.withResolvers<void>();
  const r = rig('cut', { unmarkTakes: () => slow.promise });
  const stamps = () =>
    (table(r)?.chains ?? []).flatMap(({ rules }) => rules.filter((rule) => rule.includes('mark set')));
  await r.want(cluster(1, FROM_ALL));
  const more = r.want(cluster(2, FROM_ALL));
  await r.pass(20);
  t.equal(await more, true, 'in force');
  t.strictSame(stamps(), [], 'without giving stamps');
  slow.resolve();
  await r.pass(20);
  t.match(stamps(), [/ct mark set/, /ct mark set/]);
  t.match(r.done.join(', '), /^commit \d+, commit 1, unmark, commit \d+$/);
});

t.test('flows that can’t be unmarked get no stamps, and it is tried again', async (t) => {
  const tries = [
    () => Promise.reject(new NetError('kernel', 'list marked flows: ENOMEM', { errno: 'ENOMEM' })),
    atOnce,
  ];
  const r = rig('cut', { unmarkTakes: () => (tries.shift() ?? atOnce)() });
  await r.want(cluster(1, FROM_ALL));
  await r.pass(500);
  t.match(r.applier.status(), { current: true, trouble: /ENOMEM/, transactions: 1 });
  await r.pass(1000);
  t.match(r.applier.status(), { current: true, trouble: undefined, transactions: 2 });
  t.match(r.done.join(', '), /^commit \d+, unmark, commit \d+$/);
});

t.test('many elements in a process of their own', async (t) => {
  const r = rig('keep');
  await r.want(cluster(2000, FROM_ALL));
  t.same(r.done, ['aside']);
});

t.test('one that takes long is not taken for somebody else’s', async (t) => {
  const slow = Promise.withResolvers<void>();
  const r = rig('keep', { asideTakes: () => slow.promise });
  void r.want(cluster(2000, FROM_ALL));
  await r.pass(3000);
  t.same(r.done, []);
  slow.resolve();
  await r.pass(3000);
  t.same(r.done, ['aside']);
  t.match(r.applier.status(), { current: true, replacements: 1 });
});

t.test('a failure keeps what was in force, and is made up for whole', async (t) => {
  const r = rig();
  await r.want(cluster(1, FROM_ALL));
  await r.pass(20);
  const before = table(r);
  r.kernel.failNext(/./, 'ENOMEM');
  let done = false;
  void r.want(cluster(2, policy([]))).then(() => {
    done = true;
  });
  await r.pass(20);
  t.same(table(r), before);
  t.match(r.applier.status(), { current: false, trouble: /ENOMEM/ });
  t.equal(done, false);
  await r.pass(1000);
  t.equal(done, true);
  t.match(r.applier.status(), { current: true, trouble: undefined, replacements: 2 });
});

t.test('somebody else changes the table: it is put back, not too often', async (t) => {
  const r = rig();
  await r.want(cluster(1, FROM_ALL));
  await r.pass(2000);
  const wipe = () =>
    r.kernel.commit({ family: 'inet', table: 'flannel-policy', commands: [{ verb: 'delete', type: 'table' }] });
  wipe();
  await settled();
  t.ok(table(r), 'at once');
  await r.pass(20);
  wipe();
  await settled();
  t.notOk(table(r));
  await r.pass(1000);
  t.ok(table(r), 'a second after the last time');
  t.match(r.applier.status(), { current: true, replacements: 3 });
  r.applier.onChange({ type: 'overrun' });
  await r.pass(1000);
  t.match(r.applier.status(), { replacements: 4 }, 'notifications were lost');
});

t.test('a stop leaves the table', async (t) => {
  const r = rig();
  await r.want(cluster(1, FROM_ALL));
  r.stop.abort();
  await settled();
  t.equal(await r.want(cluster(2, FROM_ALL)), false);
  t.ok(table(r));
});
