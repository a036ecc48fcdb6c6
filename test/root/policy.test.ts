// The policy table in the real kernel: nft takes it, transactions lead where a full load leads, and packets between network
// namespaces pass or don't as the truth tables say.

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
import { cluster } from '../flanneld/policy/random-cluster.ts';
import { addressOf, CASES, type Case, clusterAt, expected, type Stage } from '../flanneld/policy/truth-tables.ts';
import { count } from '../support/count.ts';
import { makeNamespace } from '../support/namespace.ts';
import { type PolicyWorld, policyWorld } from '../support/policy-world.ts';
import { seed } from '../support/seed.ts';

const INSIDE = 'FLANNEL_TEST_IN_NAMESPACE';
const PODS = ['x', 'y', 'z'].flatMap((namespace) => ['a', 'b', 'c'].map((pod) => namespace + pod));
/** What is allowed gets through however busy the machine is; what is denied is waited for so long. */
const [ALLOWED_MS, DENIED_MS] = [20_000, 250];
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

if (process.env[INSIDE] === undefined) {
  const namespace = makeNamespace(t, 'policy');
  const again = [`--net=${namespace.path}`, process.execPath, import.meta.filename];
  await t.spawn('nsenter', again, { env: { ...process.env, [INSIDE]: namespace.name } }, 'in a namespace');
} else {
  const kernel = openKernel();
  t.teardown(() => kernel.close());
  t.test('transactions lead where a full load leads', async (t) => incremental(t, kernel));
  t.test('truth tables with packets', async (t) => truthTables(t, kernel));
}

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

async function truthTables(t: Test, kernel: Kernel): Promise<void> {
  const world = await policyWorld(t, PODS);
  const stop = new AbortController();
  const applier = createApplier({ kernel, clock: systemClock, log: LOG, established: 'cut', signal: stop.signal });
  const unwatch = kernel.watch(applier.onChange);
  t.teardown(() => {
    stop.abort();
    unwatch();
  });
  const compile = createCompiler('closed');
  for (const each of CASES.filter(({ stages }) =>
    stages.every(({ probes }) => probes.every(({ protocol }) => protocol !== 'SCTP')),
  )) {
    for (const stage of each.stages) {
      await applier.want(compile(worldHere(clusterAt(each, stage))));
      t.same(await differences(world, each, stage), [], each.title);
    }
  }
  t.equal(applier.status().replacements, 1, 'only the first load replaces the table');
}

async function differences(world: PolicyWorld, each: Case, { probes }: Stage): Promise<string[]> {
  const found = probes.flatMap((probe) =>
    each.pods.flatMap((from) =>
      each.pods
        .filter((to) => to !== from)
        .flatMap((to) =>
          ([4, 6] as const).map(async (family) => {
            const want = expected(probe, from, to);
            const patience = want ? ALLOWED_MS : DENIED_MS;
            const pod = world.pods.get(from);
            const reached = await pod?.probe(
              addressOf(to, family),
              probe.port,
              probe.protocol as 'TCP' | 'UDP',
              patience,
            );
            return reached === want
              ? []
              : [`${from} to ${to}, ${probe.protocol} ${probe.port}, IPv${family}: not ${want}`];
          }),
        ),
    ),
  );
  return (await Promise.all(found)).flat();
}
