// NetworkPolicy with real packets: nine pods, TCP, UDP and SCTP, ports 80 and 81, IPv4 and IPv6, on a bridge and on links of
// their own. What they find is printed as tables where it isn't what the literals, or the independent matcher, say.

import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { CATALOGUE, type CatalogueCase, PODS } from '../flanneld/policy/catalogue.ts';
import { isHere } from '../flanneld/policy/compiled.ts';
import { type Manifest, mayPass, type Packet } from '../flanneld/policy/oracle.ts';
import { cluster } from '../flanneld/policy/random-cluster.ts';
import { addressOf, CASES, clusterAt, expected, type Probe } from '../flanneld/policy/truth-tables.ts';
import { count } from '../support/count.ts';
import { type Enforce, enforcing } from '../support/enforcer.ts';
import { inside, runInside } from '../support/inside.ts';
import { type PolicyWorld, policyWorld } from '../support/policy-world.ts';
import { isDifferent, type Probed, probeTables } from '../support/probe-table.ts';
import { seed } from '../support/seed.ts';

t.setTimeout(0);
/** What is allowed gets through however busy the machine is; what is denied is waited for so long. */
const [ALLOWED_MS, DENIED_MS] = [30_000, 80];
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const GRID = PROTOCOLS.flatMap((protocol) => ([80, 81] as const).map((port) => ({ protocol, port })));

interface Wish extends Packet {
  readonly asker: string;
  readonly asked: string;
  readonly wanted: boolean;
}

async function probeAll({ pods }: PolicyWorld, wishes: readonly Wish[]): Promise<Probed[]> {
  return Promise.all(
    wishes.map(async ({ asker, asked, to, protocol, port, wanted }) => ({
      kind: `${protocol} ${port}, IPv${to.includes(':') ? 6 : 4}`,
      from: asker,
      to: asked,
      reached: (await pods.get(asker)?.probe(to, port, protocol, wanted ? ALLOWED_MS : DENIED_MS)) === true,
      expected: wanted,
    })),
  );
}

/** Counts as one assertion; the tables are printed where something differs. */
function judgeTables(t: Test, title: string, probed: readonly Probed[]): void {
  const wrong = probed.filter(isDifferent).length;
  if (wrong > 0) t.comment(`${title}\n${probeTables(probed)}`);
  t.equal(wrong, 0, `${title}: ${probed.length} probes`);
}

const pairs = (pods: readonly string[]): (readonly [string, string])[] =>
  pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => [from, to] as const));

const wishesOf = (
  pods: readonly string[],
  probes: readonly Pick<Probe, 'port' | 'protocol'>[],
  wanted: (packet: Packet, from: string, to: string, probe: never) => boolean,
): Wish[] =>
  pairs(pods).flatMap(([asker, asked]) =>
    probes.flatMap((probe) =>
      ([4, 6] as const).map((family) => {
        const packet = { from: addressOf(asker, family), to: addressOf(asked, family), ...probe };
        return { ...packet, asker, asked, wanted: wanted(packet, asker, asked, probe as never) };
      }),
    ),
  );

async function truthTables(t: Test, want: Enforce, world: PolicyWorld): Promise<void> {
  for (const each of CASES) {
    for (const stage of each.stages) {
      await want(clusterAt(each, stage));
      const wishes = wishesOf(each.pods, stage.probes, (_, from, to, probe) => expected(probe as Probe, from, to));
      judgeTables(t, each.title, await probeAll(world, wishes));
    }
  }
}

/** A spread over all of the catalogue when not every case is tried. */
const chosen = (cases: readonly CatalogueCase[], wanted: number): readonly CatalogueCase[] =>
  Array.from({ length: wanted }, (_, at) => cases[Math.floor((at * cases.length) / wanted)] as CatalogueCase);

async function catalogue(t: Test, want: Enforce, world: PolicyWorld): Promise<void> {
  for (const { title, steps } of chosen(CATALOGUE, count(CATALOGUE.length))) {
    for (const cluster of steps) {
      await want(cluster);
      const names = cluster.pods.map(({ metadata }) => `${metadata.namespace}${metadata.name}`);
      const wishes = wishesOf(names, GRID, (packet) => mayPass(cluster, packet));
      judgeTables(t, title, await probeAll(world, wishes));
    }
  }
}

/** Two pods change places: what held for an address holds for it no more, whoever has it. */
async function reuse(t: Test, want: Enforce, world: PolicyWorld): Promise<void> {
  const [first, second] = ['xa', 'xb'] as const;
  const only = (pod: string): Manifest => ({
    metadata: { namespace: 'x', name: 'only' },
    spec: { podSelector: { matchLabels: { pod } }, policyTypes: ['Ingress'] },
  });
  const { pods, ...rest } = clusterAt(
    { title: '', pods: PODS, stages: [] },
    { policies: [only('a')], labels: {}, probes: [] },
  );
  const swapped = pods.map((pod) => {
    const name = `${pod.metadata.namespace}${pod.metadata.name}`;
    const place = name === first ? second : name === second ? first : name;
    return {
      ...pod,
      status: { ...pod.status, podIPs: ([4, 6] as const).map((family) => ({ ip: addressOf(place, family) })) },
    };
  });
  for (const cluster of [
    { pods, ...rest },
    { pods: swapped, ...rest },
    { pods, ...rest },
  ]) {
    await want(cluster);
    const wishes = wishesOf(['xa', 'xb', 'ya'], GRID, (packet) => mayPass(cluster, packet));
    judgeTables(t, 'addresses change hands', await probeAll(world, wishes));
  }
}

const NINE = Array.from({ length: 9 }, (_, at) => `p${at}`);
const nineAt = (name: string, family: 4 | 6): string => {
  const at = Number(name.slice(1)) + 1;
  return family === 4 ? `10.1.0.${at}` : `fd00::${at.toString(16)}`;
};

async function randomClusters(t: Test, want: Enforce, world: PolicyWorld): Promise<void> {
  for (const each of fc.sample(cluster, { seed, numRuns: count(100) })) {
    await want(each);
    const wishes = pairs(NINE.slice(0, each.pods.length)).flatMap(([asker, asked]) =>
      GRID.flatMap((probe) =>
        ([4, 6] as const).map((family) => {
          const packet = { from: nineAt(asker, family), to: nineAt(asked, family), ...probe };
          return { ...packet, asker, asked, wanted: mayPass(each, packet, isHere) };
        }),
      ),
    );
    judgeTables(t, JSON.stringify(each.policies), await probeAll(world, wishes));
  }
}

const MODES = ['routed', 'bridge', 'random'] as const;

if (inside === undefined) {
  for (const mode of MODES) t.test(mode, async (t) => runInside(t, import.meta.filename, mode));
} else if (inside === 'random') {
  const world = await policyWorld(t, NINE, { addresses: nineAt });
  t.test('random clusters', async (t) => randomClusters(t, enforcing(t), world));
} else {
  const world = await policyWorld(t, PODS, { mode: inside === 'bridge' ? 'bridge' : 'routed' });
  t.test('the 48 tables', async (t) => truthTables(t, enforcing(t), world));
  t.test('the catalogue', async (t) => catalogue(t, enforcing(t), world));
  t.test('addresses that change hands', async (t) => reuse(t, enforcing(t), world));
}
