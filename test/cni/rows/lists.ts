// 2b: plugins in a list, as a runtime calls them. The partner in the list is the foreign plugin tuning.

import assert from 'node:assert/strict';
import { atLeast, VERSIONS } from '../../../cni-plugin/versions.ts';
import { silent } from '../expect.ts';
import { PluginError } from '../libcni.ts';
import { addressesOf } from '../observe.ts';
import type { Json } from '../stage.ts';
import { REFERENCE, type Row, since } from '../table.ts';
import { BRIDGE, bridgeConfig, DUAL, reserved, V4 } from './attached.ts';
import { container, runtimeOn } from './runtime.ts';

const MAC = '02:00:5e:10:00:02';
/** Debian's tuning ends at 1.0.0. */
const TUNABLE = VERSIONS.filter((version) => atLeast(version, '0.3.0') && version !== '1.1.0');

const links = (names: readonly { readonly ifname: string }[]): string[] => names.map(({ ifname }) => ifname);

const wholeLife: Row = {
  id: 'a list: results go from plugin to plugin, CHECK and DEL get the last one, DEL goes back and may be repeated',
  covers: [
    'libcni/prev-result-chaining',
    'libcni/del-reverse',
    'libcni/del-before-0.4.0',
    'libcni/group-add-list',
    'libcni/group-check-list',
    'libcni/group-del-list',
  ],
  versions: TUNABLE,
  async run(stage) {
    const tuning = stage.config('tuning', { mac: MAC, mtu: 1300, sysctl: { 'net.core.somaxconn': '500' } });
    const runtime = runtimeOn(stage, [bridgeConfig(stage, DUAL), tuning]);
    const pod = await container(stage, 'pod');
    const result = await runtime.add(pod);
    const interfaces = result.interfaces as readonly { readonly name: string; readonly mac: string }[];
    assert.equal(interfaces.at(-1)?.mac, MAC, 'the second plugin has changed the MAC');
    assert.equal((await stage.observe('pod')).link('eth0').address, MAC);
    if (atLeast(stage.version, '0.4.0')) await runtime.check(pod);
    await runtime.del(pod);
    assert.deepEqual(links((await stage.observe('pod')).links), ['lo']);
    await runtime.del(pod);
    assert.deepEqual(await reserved(stage), []);
  },
};

const failedSecond: Row = {
  id: 'the second plugin fails: DEL without a result takes away what the first has done',
  covers: ['libcni/failed-second', 'libcni/group-add-list', 'libcni/group-del-list'],
  versions: TUNABLE,
  async run(stage) {
    const tuning = stage.config('tuning', { sysctl: { 'net.no.such.key': '1' } });
    const runtime = runtimeOn(stage, [bridgeConfig(stage, V4), tuning]);
    const pod = await container(stage, 'pod');
    await assert.rejects(runtime.add(pod), PluginError);
    assert.deepEqual(runtime.cached(), []);
    await runtime.del(pod);
    assert.deepEqual(links((await stage.observe('pod')).links), ['lo']);
    assert.deepEqual(await reserved(stage), []);
    assert.deepEqual(links((await stage.observe()).links), ['lo', BRIDGE]);
    await runtime.del(pod);
  },
};

const single: Row = {
  id: 'one plugin: ADD, CHECK, DEL; errors come with their code; another ADD after DEL',
  covers: ['libcni/group-add-network', 'libcni/group-check-network', 'libcni/group-del-network', 'skel/typed-error'],
  versions: since('0.4.0'),
  async run(stage) {
    const runtime = runtimeOn(stage, [bridgeConfig(stage, V4)]);
    const pod = await container(stage, 'pod');
    await assert.rejects(runtime.add({ ...pod, ifname: 'eth:0' }), { code: 4 });
    await assert.rejects(runtime.add({ ...pod, netns: '/run/netns/none' }), PluginError);
    await runtime.add(pod);
    await runtime.check(pod);
    await stage.sh('ip -n pod addr flush dev eth0');
    await assert.rejects(runtime.check(pod), PluginError, 'CHECK misses the address');
    await runtime.del(pod);
    await runtime.add(pod);
    await runtime.check(pod);
    await stage.sh('ip -n pod link del eth0');
    await assert.rejects(runtime.check(pod), PluginError, 'CHECK misses the interface');
    await runtime.del(pod);
    assert.deepEqual(await reserved(stage), []);
  },
};

const capabilities: Row = {
  id: 'capabilities: a plugin gets those it declares and the runtime has',
  covers: ['libcni/capability-filtering', 'libcni/group-capabilities'],
  versions: since('0.3.0'),
  async run(stage) {
    const capabilityArgs: Json = { mac: MAC, ips: ['10.1.2.77'], aliases: ['a'] };
    const declaring = (capabilities: Json) => runtimeOn(stage, [bridgeConfig(stage, V4, { capabilities })]);
    await declaring({ mac: true, ips: true }).add(await container(stage, 'pod', { capabilityArgs }));
    const eth0 = (await stage.observe('pod')).link('eth0');
    assert.deepEqual([eth0.address, ...addressesOf(eth0)], [MAC, '10.1.2.77/24']);
    await declaring({ mac: false }).add(await container(stage, 'other', { capabilityArgs }));
    assert.notEqual((await stage.observe('other')).link('eth0').address, MAC);
  },
};

const disableCheck: Row = {
  id: 'disableCheck: the runtime asks no plugin',
  covers: ['libcni/disable-check', 'libcni/group-check-list'],
  async run(stage) {
    const plugins = [bridgeConfig(stage, V4)];
    const pod = await container(stage, 'pod');
    const runtime = runtimeOn(stage, plugins, { disableCheck: true });
    await runtime.add(pod);
    await stage.sh('ip -n pod link del eth0');
    await runtime.check(pod);
  },
};

/** The result of an older version as libcni converts it for a newer configuration. */
function upgraded(result: Json, cniVersion: string): Json {
  const ips = (result.ips as readonly Json[]).map(({ version: _, ...rest }) => rest);
  return { ...result, cniVersion, ips };
}

const upgrade: Row = {
  id: 'the configuration gets a newer version between ADD and DEL',
  covers: ['libcni/group-cache', 'types/1.0.0-to-1.1.0'],
  versions: since('1.0.0'),
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, DUAL);
    const old = { ...config, cniVersion: '0.4.0' };
    const result = JSON.parse((await stage.cni('bridge', 'ADD', old)).stdout) as Json;
    const now = { ...config, prevResult: upgraded(result, stage.version) };
    silent(await stage.cni('bridge', 'CHECK', now), 'CHECK');
    silent(await stage.cni('bridge', 'DEL', now), 'DEL');
    assert.deepEqual(await reserved(stage), []);
  },
};

/** Milliseconds after which ADD is killed: from before its first effect to after its last. */
const MOMENTS = [2, 5, 10, 20, 40, 80, 120];

/**
 * Kills a program and what it has executed after so many seconds, and waits until none of them is in the kernel any more:
 * what a call began that was under way is still done. Nobody collects the dead.
 */
const KILL = `exec 3<&0; timeout -s KILL "$1" "$2" <&3 & wait $!
  while pgrep -g $! -r R,S,D >/dev/null; do sleep 0.01; done`;

const killed: Row = {
  id: 'ADD is killed: DEL without a result takes away what there is, and ADD works again',
  covers: ['libcni/killed', 'libcni/group-timeouts'],
  defects: [
    {
      releases: REFERENCE,
      what: 'host-local that is killed before it has written to the file it made leaves a reservation of nobody',
      cites: 'cni.md 1b, host-local: "O_EXCL create = the reservation"; its content follows',
      race: true,
    },
  ],
  async run(stage) {
    const { target, machine } = stage;
    await stage.pod();
    const config = bridgeConfig(stage, DUAL);
    const program = `${target.directory}/${target.programs.bridge}`;
    const env = {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: '/run/netns/pod',
      CNI_IFNAME: 'eth0',
      CNI_PATH: target.path,
    };
    for (const moment of MOMENTS) {
      const input = JSON.stringify(config);
      await machine.run('sh', ['-c', KILL, 'sh', String(moment / 1000), program], { env, input });
      silent(await stage.cni('bridge', 'DEL', config), `DEL after ${moment} ms of ADD`);
      assert.deepEqual(links((await stage.observe('pod')).links), ['lo'], `pod, after ${moment} ms`);
      assert.deepEqual(await reserved(stage), [], `after ${moment} ms`);
    }
    assert.equal((await stage.cni('bridge', 'ADD', config)).code, 0);
  },
};

export const LIST_ROWS: readonly Row[] = [wholeLife, failedSecond, single, capabilities, disableCheck, upgrade, killed];
