// 2g: the foreign plugin firewall behind the bridge plugin under test. Its rules are its own; that they come, hold and go
// shows that results, CHECK and DEL fit.

import assert from 'node:assert/strict';
import { printed } from '../expect.ts';
import { type Container, PluginError, type Runtime } from '../libcni.ts';
import type { Json, Stage } from '../stage.ts';
import type { Row } from '../table.ts';
import { bridgeConfig, ipamOf, V4 } from './attached.ts';
import { container, runtimeOn } from './runtime.ts';
import { misses, reaches } from './traffic.ts';

/** Debian's firewall knows these. */
const VERSIONS = ['0.4.0', '1.0.0'] as const;

const firewallOf = (stage: Stage, keys: Json = {}): Json => stage.config('firewall', { backend: 'iptables', ...keys });

const listOf = (stage: Stage, keys: Json = {}): Runtime =>
  runtimeOn(stage, [bridgeConfig(stage, V4), firewallOf(stage, keys)]);

const filterRules = async (stage: Stage): Promise<string[]> => (await stage.sh('iptables-save -t filter')).split('\n');

/** What firewall puts there for an address. */
const own = (address: string): string[] => [
  `-A CNI-FORWARD -d ${address}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
  `-A CNI-FORWARD -s ${address}/32 -j ACCEPT`,
];

async function assertRules(stage: Stage, address: string, there: boolean): Promise<void> {
  const found = await filterRules(stage);
  assert.deepEqual(
    own(address).filter((rule) => found.includes(rule)),
    there ? own(address) : [],
    `the rules for ${address}`,
  );
}

const unchanged: Row = {
  id: 'firewall hands the result on unchanged',
  covers: ['firewall/prev-result', 'libcni/prev-result-chaining'],
  versions: VERSIONS,
  async run(stage) {
    await stage.pod();
    const prevResult = printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)));
    const { dns: _, ...result } = printed(await stage.cni('firewall', 'ADD', { ...firewallOf(stage), prevResult }));
    const { dns: __, ...expected } = prevResult;
    assert.deepEqual(result, expected);
  },
};

const rulesRow: Row = {
  id: 'firewall: ADD, CHECK, DEL of one of two pods',
  covers: ['firewall/rules', 'firewall/add-check-del'],
  versions: VERSIONS,
  async run(stage) {
    const runtime = listOf(stage);
    const [one, two] = [await container(stage, 'one'), await container(stage, 'two')];
    await runtime.add(one);
    await runtime.add(two);
    const found = await filterRules(stage);
    for (const jump of ['-A FORWARD', '-A CNI-FORWARD'])
      assert.ok(
        found.some((rule) => rule.startsWith(jump)),
        jump,
      );
    assert.ok(found.some((rule) => /^-A FORWARD .*-j CNI-FORWARD/.test(rule)));
    assert.ok(found.some((rule) => /^-A CNI-FORWARD .*-j CNI-ADMIN/.test(rule)));
    await assertRules(stage, '10.1.2.2', true);
    await assertRules(stage, '10.1.2.3', true);
    await runtime.check(one);
    await runtime.check(two);
    await runtime.del(one);
    await assertRules(stage, '10.1.2.2', false);
    await assertRules(stage, '10.1.2.3', true);
    await runtime.check(two);
    await stage.sh('iptables -F CNI-FORWARD');
    await assert.rejects(runtime.check(two), PluginError);
    await runtime.del(two);
  },
};

const adminChain: Row = {
  id: 'firewall with another admin chain',
  covers: ['firewall/admin-chain'],
  versions: VERSIONS,
  async run(stage) {
    await listOf(stage, { iptablesAdminChainName: 'CNI-foobar' }).add(await container(stage, 'pod'));
    assert.ok((await filterRules(stage)).some((rule) => /^-A CNI-FORWARD .*-j CNI-foobar/.test(rule)));
    await assertRules(stage, '10.1.2.2', true);
  },
};

const concurrent: Row = {
  id: 'firewall: four pods at once',
  covers: ['firewall/concurrent'],
  async run(stage) {
    const runtime = listOf(stage);
    const pods: Container[] = [];
    for (const name of ['a', 'b', 'c', 'd']) pods.push(await container(stage, name));
    await Promise.all(pods.map((pod) => runtime.add(pod)));
    for (const end of [2, 3, 4, 5]) await assertRules(stage, `10.1.2.${end}`, true);
    for (const pod of pods) await runtime.check(pod);
  },
};

/** Two pods on the bridge foo and one on the bridge bar. */
async function threePods(stage: Stage, ingressPolicy: string): Promise<void> {
  const on = (name: string, third: number) => {
    const net = { subnets: [`10.1.${third}.0/24`], gateways: [] };
    const bridge = bridgeConfig(stage, net, { bridge: name, ipam: ipamOf(net), ipMasq: false });
    return runtimeOn(stage, [bridge, firewallOf(stage, { ingressPolicy })], { name });
  };
  const [foo, bar] = [on('foo', 2), on('bar', 3)];
  await foo.add(await container(stage, 'foo1'));
  await foo.add(await container(stage, 'foo2'));
  await bar.add(await container(stage, 'bar1'));
}

const sameBridge: Row = {
  id: 'firewall, same-bridge: foo reaches foo and not bar',
  covers: ['firewall/same-bridge-allows', 'firewall/same-bridge-blocks'],
  versions: VERSIONS,
  async run(stage) {
    await threePods(stage, 'same-bridge');
    assert.ok(await reaches(stage, 'foo1', '10.1.2.3'), 'foo reaches foo');
    assert.ok(await misses(stage, 'foo1', '10.1.3.2'), 'foo does not reach bar');
    assert.ok(await misses(stage, 'bar1', '10.1.2.2'), 'bar does not reach foo');
  },
};

const isolated: Row = {
  id: 'firewall, isolated: foo reaches neither foo nor bar',
  covers: ['firewall/isolated'],
  versions: VERSIONS,
  async run(stage) {
    try {
      await threePods(stage, 'isolated');
    } catch (error) {
      // The one of Debian (1.1.1) does not know it; then there is nothing of the plugin under test to see.
      if (/unknown ingress policy: "isolated"/.test(String(error))) return;
      throw error;
    }
    assert.ok(await misses(stage, 'foo1', '10.1.2.3'), 'foo does not reach foo');
    assert.ok(await misses(stage, 'foo1', '10.1.3.2'), 'foo does not reach bar');
  },
};

const open: Row = {
  id: 'firewall, open: foo reaches bar',
  covers: ['firewall/same-bridge-blocks'],
  async run(stage) {
    await threePods(stage, 'open');
    assert.ok(await reaches(stage, 'foo1', '10.1.3.2'));
  },
};

export const FIREWALL_ROWS: readonly Row[] = [unchanged, rulesRow, adminChain, concurrent, sameBridge, isolated, open];
