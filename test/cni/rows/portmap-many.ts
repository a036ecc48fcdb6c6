// 2e: what is left of host ports by DEL, and what CHECK finds missing.

import assert from 'node:assert/strict';
import { type Container, PluginError, type Runtime } from '../libcni.ts';
import type { Stage } from '../stage.ts';
import { type Defect, REFERENCE, type Row, since } from '../table.ts';
import { DUAL, type Net, V4 } from './attached.ts';
import { rules } from './bridge-rules.ts';
import { mapped, podWith, WEB } from './portmap.ts';
import { container } from './runtime.ts';
import { ask, askInVain, HOST, neighbour, OUTSIDE, serve } from './traffic.ts';

/** Whatever leads to a pod of the net, in either world. */
const LEADS_TO_PODS = /dnat to 10\.1\.2\.\d|--to-destination 10\.1\.2\.\d|: 10\.1\.2\.\d+ \. /;

async function fivePods(stage: Stage, runtime: Runtime): Promise<Container[]> {
  const pods: Container[] = [];
  for (const [index, name] of ['a', 'b', 'c', 'd', 'e'].entries()) {
    const pod = await podWith(stage, name, { ...WEB, hostPort: 8080 + index });
    await runtime.add(pod);
    pods.push(pod);
  }
  return pods;
}

const many: Row = {
  id: 'several containers: DEL of one leaves the others',
  covers: ['portmap/nftables-del', 'portmap/nftables-shared', 'portmap/chain-delete-twice'],
  async run(stage) {
    await neighbour(stage);
    const runtime = mapped(stage, {}, V4);
    const [first] = await fivePods(stage, runtime);
    await serve(stage, 'b', 80);
    for (let times = 0; times < 2; times++) await runtime.del(first as Container);
    assert.match((await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8081 })) ?? '', /^b /);
    assert.equal(await askInVain(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 }), undefined);
  },
};

const parallel: Row = {
  id: 'DELs in parallel, of several containers and of each twice',
  covers: ['portmap/chain-parallel-delete', 'portmap/chain-delete-twice'],
  defects: [
    {
      releases: REFERENCE,
      what: 'one DEL disturbs another one of the same container',
      cites: 'p#418',
      race: true,
    },
  ],
  async run(stage) {
    const runtime = mapped(stage, {}, V4);
    const pods = await fivePods(stage, runtime);
    await Promise.all(pods.flatMap((pod) => [runtime.del(pod), runtime.del(pod)]));
    assert.doesNotMatch(await rules(stage), LEADS_TO_PODS);
  },
};

const STALE: Defect = {
  releases: REFERENCE,
  what: 'DEL without the mappings leaves their rules',
  cites: 'cni.md 3, problem 9 (p#752, rke#3440); p PR#509',
};

const bareDel: Row = {
  id: 'DEL with neither runtimeConfig nor prevResult',
  covers: ['portmap/config-del'],
  defects: [STALE],
  async run(stage) {
    const runtime = mapped(stage, {}, V4);
    const pod = await podWith(stage, 'pod', WEB);
    await runtime.add(pod);
    runtime.forget(pod);
    const { capabilityArgs: _, ...bare } = pod;
    await runtime.del(bare);
    assert.doesNotMatch(await rules(stage), LEADS_TO_PODS);
  },
};

/** An agent looks soon after a verb has failed, and may put the rules back before CHECK sees that they are gone. */
async function failsWithoutRules(stage: Stage, check: () => Promise<unknown>): Promise<void> {
  for (let left = stage.target.agent ? 5 : 0; ; left--) {
    await stage.sh('nft flush ruleset');
    const error = await check().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error !== undefined) return assert.ok(error instanceof PluginError, String(error));
    assert.ok(left > 0, 'CHECK succeeds without rules');
    assert.match(await rules(stage), LEADS_TO_PODS);
  }
}

const checkRow = (families: string, net: Net): Row => ({
  id: `CHECK of a pod ${families}, before and after its rules are gone`,
  covers: ['portmap/nftables-check'],
  versions: since('0.4.0'),
  defects: [
    { releases: ['1.1.1'], what: 'CHECK looks for the rules of one family among those of the other', cites: 'p#819' },
  ],
  async run(stage) {
    const runtime = mapped(stage, {}, net);
    const pod = await podWith(stage, 'pod', WEB);
    await runtime.add(pod);
    await runtime.check(pod);
    await failsWithoutRules(stage, () => runtime.check(pod));
    await runtime.del(pod);
  },
});

const nothing: Row = {
  id: 'without mappings nothing is done',
  covers: ['portmap/chain-create-twice', 'portmap/config-add'],
  async run(stage) {
    const runtime = mapped(stage, {}, V4);
    const pod = await container(stage, 'pod');
    const before = await rules(stage);
    await runtime.add(pod);
    await runtime.check(pod);
    assert.equal(await rules(stage), before);
    await runtime.del(pod);
  },
};

export const PORTMAP_MANY_ROWS: readonly Row[] = [
  many,
  parallel,
  bareDel,
  checkRow('with both families', DUAL),
  checkRow('without IPv6', V4),
  nothing,
];
