// 2c: ADD, CHECK and DEL of the bridge plugin, for every version and family.

import assert from 'node:assert/strict';
import { atLeast } from '../../../cni-plugin/versions.ts';
import type { CaseId } from '../catalogue.ts';
import { printed, refused, resultOf, silent } from '../expect.ts';
import { isUp } from '../observe.ts';
import type { Json, Stage } from '../stage.ts';
import { ALL, OWN_CODES, type Row } from '../table.ts';
import {
  assertDetached,
  assertHost,
  assertInterfaces,
  assertPod,
  BRIDGE,
  bridgeConfig,
  DUAL,
  ipamOf,
  MULTIPLE,
  type Net,
  NONE,
  reserved,
  V4,
  V6,
} from './attached.ts';

/** The configuration of CHECK and DEL: from 0.4.0 on with the result of ADD. */
export const withPrevious = (stage: Stage, config: Json, result: Json): Json =>
  atLeast(stage.version, '0.4.0') ? { ...config, prevResult: result } : config;

const COMMON: readonly CaseId[] = [
  'bridge/result-interfaces',
  'bridge/is-bridge',
  'bridge/vlan-filtering',
  'bridge/gateways',
  'bridge/host-links',
  'bridge/macs-differ',
  'bridge/pod-interface',
  'bridge/pod-addresses',
  'bridge/pod-routes',
  'bridge/del',
  'bridge/check',
];

async function wholeLife(stage: Stage, net: Net): Promise<void> {
  await stage.pod();
  const config = bridgeConfig(stage, net);
  const before = await stage.observe();
  const added = await stage.cni('bridge', 'ADD', config);
  const result = resultOf(stage, added);
  const [host, pod] = [await stage.observe(), await stage.observe('pod')];
  assertHost(before, host, net);
  assertInterfaces(stage, result, host, pod);
  assertPod(pod, result, net);
  const after = withPrevious(stage, config, printed(added));
  if (atLeast(stage.version, '0.4.0')) silent(await stage.cni('bridge', 'CHECK', after), 'CHECK');
  silent(await stage.cni('bridge', 'DEL', after), 'DEL');
  await assertDetached(stage, net);
  silent(await stage.cni('bridge', 'DEL', config), 'DEL once more');
}

const lifeRow = (name: string, net: Net, covers: readonly CaseId[]): Row => ({
  id: `default route ${name}: ADD, CHECK, DEL`,
  covers: [...covers, ...COMMON],
  versions: ALL,
  run: (stage) => wholeLife(stage, net),
});

const multiple: Row = {
  id: 'default routes, several ranges of both families',
  covers: ['bridge/route-multiple', 'ipam-config/too-many', ...COMMON],
  versions: ALL,
  async run(stage) {
    if (atLeast(stage.version, '0.3.0')) return wholeLife(stage, MULTIPLE);
    await stage.pod();
    const answer = await stage.cni('bridge', 'ADD', bridgeConfig(stage, MULTIPLE));
    const msg = new RegExp(`CNI version ${stage.version} does not support more than 1 address per family`);
    refused(stage, answer, { ownCode: 7, msg });
  },
  differs: OWN_CODES,
};

const layer2: Row = {
  id: 'a bridge without addresses',
  covers: ['bridge/l2', 'types/no-addresses'],
  versions: ALL,
  differs: OWN_CODES,
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, NONE);
    const added = await stage.cni('bridge', 'ADD', config);
    // These results have no other content than addresses.
    if (!atLeast(stage.version, '0.3.0')) {
      refused(stage, added, { ownCode: 7, msg: /cannot convert: no valid IP addresses/ });
    } else {
      const result = resultOf(stage, added);
      assertInterfaces(stage, result, await stage.observe(), await stage.observe('pod'));
      assertPod(await stage.observe('pod'), result, NONE);
    }
    silent(await stage.cni('bridge', 'DEL', config), 'DEL');
    await assertDetached(stage, NONE);
  },
};

const existing: Row = {
  id: 'takes a bridge that exists',
  covers: ['bridge/existing', 'bridge/creates'],
  versions: ALL,
  async run(stage) {
    await stage.pod();
    await stage.sh(`ip link add ${BRIDGE} type bridge`);
    const before = (await stage.observe()).link(BRIDGE);
    printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)));
    const after = (await stage.observe()).link(BRIDGE);
    assert.equal(after.ifindex, before.ifindex, 'the same device');
    assert.ok(isUp(after), 'the bridge is up');
  },
};

const RESOLV_CONF = '/run/resolv.conf';
const DNS = {
  nameservers: ['192.0.2.1', '2001:db8::53'],
  domain: 'example.com',
  search: ['a.example.com', 'b.example.com'],
  options: ['ndots:2', 'rotate'],
};

const dns: Row = {
  id: 'the DNS settings of resolvConf are in the result',
  covers: ['bridge/dns', 'resolv-conf/simple', 'resolv-conf/comments', 'resolv-conf/all-fields'],
  versions: ALL,
  defects: [
    {
      releases: ['1.1.1'],
      what: "ignores the address management's dns",
      cites: 'cni.md 1b: "result.DNS = config dns only"',
    },
  ],
  async run(stage) {
    await stage.pod();
    const lines = [
      '# a comment',
      '; another',
      ...DNS.nameservers.map((each) => `nameserver ${each}`),
      `domain ${DNS.domain}`,
      `search ${DNS.search.join(' ')}`,
      `options ${DNS.options.join(' ')}`,
    ];
    await stage.sh(`printf '%s\\n' '${lines.join("' '")}' > ${RESOLV_CONF}`);
    const ipam = ipamOf(V4, { resolvConf: RESOLV_CONF });
    const given = await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4, { ipam }));
    assert.deepEqual(resultOf(stage, given).dns, DNS);
  },
};

const neverAdded: Row = {
  id: 'DEL of what was never added, with the namespace, without it, and with one that is gone',
  covers: ['bridge/del-unconfigured', 'skel/del-optional-netns', 'skel/del-optional-args', 'skel/del-calls'],
  versions: ALL,
  async run(stage) {
    const netns = await stage.pod();
    const config = bridgeConfig(stage, DUAL);
    for (const path of [netns, '', '/run/netns/gone']) {
      silent(await stage.cni('bridge', 'DEL', config, { netns: path }), `DEL with the namespace "${path}"`);
    }
  },
};

const withoutVersion: Row = {
  id: 'a configuration without a version, or with an empty one, is one of 0.1.0',
  covers: [
    'skel/add-no-version',
    'types/empty-version',
    'skel/add-calls',
    'skel/add-optional-args',
    'skel/add-only-add',
  ],
  versions: ['0.1.0'],
  async run(stage) {
    await stage.pod();
    const { cniVersion: _, ...config } = bridgeConfig(stage, DUAL);
    const added = await stage.cni('bridge', 'ADD', config);
    assertPod(await stage.observe('pod'), resultOf(stage, added), DUAL);
    silent(await stage.cni('bridge', 'DEL', { ...config, cniVersion: '' }), 'DEL');
    assert.deepEqual(await reserved(stage), []);
  },
};

export const BRIDGE_ATTACH_ROWS: readonly Row[] = [
  lifeRow('IPv4', V4, [
    'bridge/route-v4',
    'bridge/check-v4',
    'skel/check-calls',
    'skel/check-optional-args',
    'skel/check-only-check',
    'skel/del-only-del',
  ]),
  lifeRow('IPv6', V6, ['bridge/route-v6', 'bridge/check-v6']),
  lifeRow('of both families', DUAL, ['bridge/route-dual', 'bridge/check-dual', 'ipam-config/one-of-each']),
  multiple,
  layer2,
  existing,
  dns,
  neverAdded,
  withoutVersion,
];
