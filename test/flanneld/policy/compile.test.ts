// The compiled table against the semantics of the API, packet by packet, on random clusters.

import * as fc from 'fast-check';
import t from 'tap';
import { createCompiler } from '../../../flanneld/policy/compile.ts';
import { planChange, planReplacement } from '../../../flanneld/policy/transaction.ts';
import type { Established } from '../../../flanneld/policy/table.ts';
import { policyTable } from '../../../flanneld/policy/table.ts';
import type { Policy } from '../../../flanneld/policy/objects.ts';
import { EMPTY_WORLD, worldOf } from '../../../flanneld/policy/world.ts';
import { commit, readTable, type Tables } from '../../../kernel/fake-nftables.ts';
import { printTable, type Table } from '../../../model/ruleset.ts';
import { count } from '../../support/count.ts';
import { seed } from '../../support/seed.ts';
import { answerTo, firstOf, isHere, objectsOf, tableOf, worldHere } from './compiled.ts';
import { judgePacket } from './interpret.ts';
import { type Cluster, type Manifest, mayPass, type Packet } from './oracle.ts';
import { cluster, packetsOf } from './random-cluster.ts';

const STRANGERS = ['192.0.2.7', '192.0.2.200', '10.1.0.200', '10.9.9.9', 'fd00::1:1', '2001:db8::5'];
const PORTS = [80, 82, 83, 5000, 65_535];
const STAMPED: Established = { mode: 'cut', stamp: 7 };
const STAMP = 0x07000000;

function* packets(world: Cluster): Generator<Packet> {
  yield* packetsOf(world, STRANGERS, ['TCP', 'UDP', 'SCTP'], PORTS);
  yield* packetsOf(world, STRANGERS, ['ICMP'], [0]);
}

t.test('random clusters', async (t) => {
  let judged = 0;
  let denied = 0;
  fc.assert(
    fc.property(cluster, (world) => {
      const [stamped, judging, keeping] = [
        tableOf(world, STAMPED),
        tableOf(world, { mode: 'cut', stamp: undefined }),
        tableOf(world, { mode: 'keep' }),
      ] as [Table, Table, Table];
      for (const packet of packets(world)) {
        const expected = mayPass(world, packet, isHere);
        judged++;
        denied += expected ? 0 : 1;
        const first = judgePacket(stamped, firstOf(packet));
        if (first.passes !== expected) return false;
        // A flow from an earlier ruleset, whichever end sends next.
        const again = judgePacket(stamped, { ...answerTo(packet), mark: 0x06001234 });
        if (again.passes !== expected) return false;
        if (judgePacket(judging, answerTo(packet)).passes !== expected) return false;
        if (judgePacket(keeping, firstOf(packet)).passes !== expected) return false;
        if (!judgePacket(keeping, answerTo(packet)).passes) return false;
        if (first.mark !== 0 && first.mark !== STAMP) return false;
      }
      return true;
    }),
    { seed, numRuns: count(2000) },
  );
  t.ok(denied > judged / 50, `${judged} packets, ${denied} of them denied`);
});

t.test('from any state to any other', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(cluster, { minLength: 2, maxLength: 4 }), (clusters) => {
        const tables: Tables = new Map();
        const compile = createCompiler('closed');
        let world = EMPTY_WORLD;
        let inForce = { table: undefined as Table | undefined, established: STAMPED };
        for (const each of clusters) {
          world = worldHere(each, world);
          const plan = planChange(inForce, compile(world));
          if (plan.transaction !== undefined) commit(tables, plan.transaction);
          inForce = plan.after as typeof inForce;
          const whole = createCompiler('closed')(worldHere(each));
          const want = whole.empty ? undefined : policyTable(whole, inForce.established);
          const have = readTable(tables, 'inet', 'flannel-policy');
          if (sorted(have) !== sorted(want)) return false;
        }
        return true;
      }),
      { seed, numRuns: count(2000) },
    ),
  );
});

type Rules = readonly { readonly from?: unknown[]; readonly to?: unknown[]; readonly ports?: unknown[] }[];
/** Without those that allow everything, beside which nothing else would be seen. */
const narrow = (rules: Rules = []): Rules =>
  rules.filter(({ from = [], to = [], ports = [] }) => from.length + to.length + ports.length > 0);

/** The policies of many clusters, for every pod of x. */
const manyForOne = fc.array(cluster, { minLength: 40, maxLength: 40 }).map((clusters) =>
  clusters
    .flatMap(({ policies }) => policies)
    .map(
      ({ spec }, at): Manifest => ({
        metadata: { name: `policy${at}`, namespace: 'x' },
        spec: { ...spec, podSelector: {}, ingress: narrow(spec.ingress), egress: narrow(spec.egress) },
      }),
    ),
);

t.test('many policies of one pod, of which one is edited at a time', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(manyForOne, fc.array(cluster, { minLength: 2, maxLength: 4 }), (policies, clusters) => {
        const compile = createCompiler('closed');
        let world = EMPTY_WORLD;
        const all = objectsOf({ namespaces: [], pods: [], policies }).policies;
        return clusters.every((each, at) => {
          const { namespaces, pods } = objectsOf({ ...each, policies: [] });
          const edited = all.with(at, { ...(all[at + 4] as Policy), name: all[at]?.name ?? '' });
          // What hasn't changed is the same object, as sources tell it.
          return [all, edited].every((now) => {
            const objects = { namespaces, pods, policies: now };
            world = worldOf(objects, [], 'here', world);
            const whole = createCompiler('closed')(worldOf(objects, [], 'here', EMPTY_WORLD));
            return sorted(policyTable(compile(world), STAMPED)) === sorted(policyTable(whole, STAMPED));
          });
        });
      }),
      { seed, numRuns: count(200) },
    ),
  );
});

/** Elements and objects have no order. */
const sorted = (table: Table | undefined): string =>
  table === undefined
    ? 'none'
    : printTable({
        ...table,
        chains: [...table.chains].sort((a, b) => (a.name < b.name ? -1 : 1)),
        sets: [...table.sets]
          .sort((a, b) => (a.name < b.name ? -1 : 1))
          .map((set) => ({ ...set, elements: [...set.elements].sort() })),
      });

t.test('a replacement needs no knowledge of what was there', async (t) => {
  const tables: Tables = new Map();
  const compiled = createCompiler('closed')(worldHere(CLUSTER));
  for (let round = 0; round < 2; round++) {
    const { transaction, after } = planReplacement({ table: undefined, established: STAMPED }, compiled);
    if (transaction !== undefined) commit(tables, transaction);
    t.equal(sorted(readTable(tables, 'inet', 'flannel-policy')), sorted(after.table));
    t.same(after.established, { mode: 'cut', stamp: undefined }, 'flows of before are all judged');
  }
});

const pod = (name: string, ip: string, labels = {}) => ({
  metadata: { name, namespace: 'x', labels },
  spec: { nodeName: 'here', containers: [] },
  status: { podIPs: [{ ip }] },
});

const CLUSTER: Cluster = {
  namespaces: [],
  pods: [pod('a', '10.1.0.1', { pod: 'a' }), pod('b', '10.1.0.2', { pod: 'b' })],
  policies: [{ metadata: { name: 'none', namespace: 'x' }, spec: { podSelector: {} } }],
};

t.test('stamps', async (t) => {
  const compile = createCompiler('closed');
  const compiled = compile(worldHere(CLUSTER));
  const start = { table: policyTable(compiled, STAMPED), established: STAMPED };
  const stampAfter = (cluster: Cluster) => planChange(start, compile(worldHere(cluster))).after.established;
  const allowing = {
    ...CLUSTER,
    policies: [
      {
        metadata: { name: 'none', namespace: 'x' },
        spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] },
      },
    ],
  };
  t.same(planChange(start, compiled), { transaction: undefined, after: start }, 'nothing new');
  t.same(stampAfter({ ...CLUSTER, policies: [] }).mode, 'cut');
  t.same(stampAfter(allowing), { mode: 'cut', stamp: 8 }, 'a chain that changes is judged anew');
  const looser = planChange(
    { table: policyTable(compile(worldHere(allowing)), STAMPED), established: STAMPED },
    compile(
      worldHere({
        ...allowing,
        pods: [...allowing.pods, { ...pod('c', '10.1.0.3'), spec: { nodeName: 'there', containers: [] } }],
      }),
    ),
  );
  t.same(looser.after.established, STAMPED, 'one more peer takes nothing from anybody');
  const last: Established = { mode: 'cut', stamp: 255 };
  const over = planChange({ table: policyTable(compiled, last), established: last }, compile(worldHere(allowing)));
  t.same(over.after.established, { mode: 'cut', stamp: undefined }, 'after the last stamp all packets are judged');
});

t.test('no policy, no table', async (t) => {
  const compiled = createCompiler('closed')(worldHere({ ...CLUSTER, policies: [] }));
  t.ok(compiled.empty);
  t.same(planChange({ table: undefined, established: STAMPED }, compiled).transaction, undefined);
});
