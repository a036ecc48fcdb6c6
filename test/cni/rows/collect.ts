// 2a and 2b: GC and STATUS, the verbs of 1.1.0.

import assert from 'node:assert/strict';
import { refused, silent } from '../expect.ts';
import { kindOf } from '../observe.ts';
import type { Json, Stage } from '../stage.ts';
import type { Defect, Row } from '../table.ts';
import { added, allocated, filesOf, ipamConfig } from './addresses.ts';
import { bridgeConfig, ipamOf, reserved, V4 } from './attached.ts';
import { container, runtimeOn } from './runtime.ts';

export const NO_GC: Defect = {
  releases: ['newer'],
  what: 'GC is not implemented: it succeeds and does nothing',
  cites: 'cni.md 3, problem 2 (p#1047)',
};

const ends = async (stage: Stage): Promise<number> =>
  (await stage.observe()).links.filter((link) => kindOf(link) === 'veth').length;

/** Three pods: `one` stays valid, `two` is known to the runtime, `three` was forgotten by it. */
async function threePods(stage: Stage) {
  const runtime = runtimeOn(stage, [bridgeConfig(stage, V4)]);
  const [one, two, three] = [
    await container(stage, 'one'),
    await container(stage, 'two'),
    await container(stage, 'three'),
  ];
  for (const pod of [one, two, three]) await runtime.add(pod);
  runtime.forget(three);
  return { runtime, one, three };
}

const collects: Row = {
  id: 'GC takes away what is not valid, and leaves what is',
  covers: [
    'libcni/gc',
    'libcni/group-gc-list',
    'skel/gc-calls',
    'skel/gc-only-gc',
    'skel/gc-optional-container-id',
    'skel/gc-optional-netns',
    'skel/gc-optional-ifname',
    'skel/gc-optional-args',
  ],
  versions: ['1.1.0'],
  defects: [NO_GC],
  async run(stage) {
    const { runtime, one } = await threePods(stage);
    await runtime.gc([one]);
    assert.deepEqual(await reserved(stage), ['10.1.2.2']);
    assert.equal(await ends(stage), 1, "one host's end is left");
    await runtime.check(one);
  },
};

const without: Row = {
  id: 'GC without the list does nothing; with an empty one nothing is valid',
  covers: ['libcni/gc', 'libcni/group-gc-list'],
  versions: ['1.1.0'],
  defects: [NO_GC],
  async run(stage) {
    const { runtime } = await threePods(stage);
    await runtime.gc(undefined);
    assert.deepEqual([(await reserved(stage)).length, await ends(stage)], [3, 3], 'without the list');
    await runtime.gc([]);
    assert.deepEqual([await reserved(stage), await ends(stage)], [[], 0], 'with an empty one');
  },
};

const otherNetwork: Row = {
  id: 'GC leaves other networks alone',
  covers: ['skel/gc-only-gc'],
  versions: ['1.1.0'],
  async run(stage) {
    const { runtime } = await threePods(stage);
    const foreign = {
      name: 'other',
      ipam: ipamOf({ subnets: ['10.9.0.0/24'], gateways: [] }),
      isDefaultGateway: false,
    };
    const netns = await stage.pod('four');
    const config = bridgeConfig(stage, V4, foreign);
    assert.equal((await stage.cni('bridge', 'ADD', config, { netns, containerId: 'four' })).code, 0);
    await runtime.gc([]);
    assert.deepEqual(await reserved(stage, 'other'), ['10.9.0.2']);
    assert.ok((await stage.observe('four')).link('eth0'));
  },
};

const addresses: Row = {
  id: 'GC of address management alone: valid by container and interface',
  covers: ['skel/gc-calls', 'libcni/gc'],
  versions: ['1.1.0'],
  defects: [NO_GC],
  async run(stage) {
    const config = ipamConfig(stage, { subnet: '10.1.2.0/24' });
    for (const ifname of ['eth0', 'eth1']) await added(stage, config, { ifname });
    await added(stage, config, { containerId: 'c2' });
    const key = (list: readonly Json[]) => ({ ...config, 'cni.dev/valid-attachments': list });
    silent(await stage.cni('ipam', 'GC', config), 'GC without the list');
    assert.equal((await reserved(stage)).length, 3);
    silent(await stage.cni('ipam', 'GC', key([{ containerID: 'c1', ifname: 'eth1' }])), 'GC');
    assert.deepEqual(await reserved(stage), ['10.1.2.3']);
    assert.ok('last_reserved_ip.0' in (await filesOf(stage)), 'what is no reservation stays');
    assert.deepEqual(await allocated(stage, config, { containerId: 'c3' }), ['10.1.2.5/24']);
  },
};

const ready: Row = {
  id: 'STATUS of a plugin that can do ADD',
  covers: ['skel/status-calls', 'skel/status-optional', 'libcni/group-status-list'],
  versions: ['1.1.0'],
  async run(stage) {
    silent(await stage.cni('bridge', 'STATUS', bridgeConfig(stage, V4)), 'STATUS');
    silent(await stage.cni('ipam', 'STATUS', ipamConfig(stage, { subnet: '10.1.2.0/24' })), 'STATUS of ipam');
  },
};

const chained: Row = {
  id: 'a list: STATUS and GC of every plugin',
  covers: ['libcni/group-status-list', 'libcni/group-gc-list'],
  versions: ['1.1.0'],
  async run(stage) {
    const plugins = [bridgeConfig(stage, V4), stage.config('portmap'), stage.config('bandwidth')];
    const runtime = runtimeOn(stage, plugins);
    await runtime.status();
    await runtime.gc(undefined);
    await runtime.gc([]);
  },
};

const ports: Row = {
  id: 'GC takes away host ports and limits of what is not valid',
  covers: ['libcni/gc', 'libcni/group-gc-list'],
  versions: ['1.1.0'],
  defects: [NO_GC],
  async run(stage) {
    const portmap = stage.config('portmap', { capabilities: { portMappings: true } });
    const limits = { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 };
    const runtime = runtimeOn(stage, [bridgeConfig(stage, V4), portmap, stage.config('bandwidth', limits)]);
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
    const pod = await container(stage, 'pod', { capabilityArgs: { portMappings } });
    await runtime.add(pod);
    runtime.forget(pod);
    await runtime.gc([]);
    const { links } = await stage.observe();
    assert.deepEqual(
      links.map(kindOf).filter((kind) => kind === 'ifb' || kind === 'veth'),
      [],
    );
    assert.doesNotMatch(await stage.sh('nft --stateless list ruleset'), /10\.1\.2\.2\b/);
  },
};

const notReady: Row = {
  id: 'STATUS with address management that is not there: the code reaches the runtime',
  covers: ['libcni/status-code', 'libcni/group-status-list', 'skel/status-calls'],
  versions: ['1.1.0'],
  differs: 'the reference answers 999 where the specification wants 50 ("not available")',
  async run(stage) {
    const config = bridgeConfig(stage, V4, { ipam: { type: 'no-such-ipam' } });
    const { code } = refused(stage, await stage.cni('bridge', 'STATUS', config), { ownCode: 50, msg: /no-such-ipam/ });
    await assert.rejects(runtimeOn(stage, [config]).status(), { code });
  },
};

export const COLLECT_ROWS: readonly Row[] = [
  collects,
  without,
  otherNetwork,
  addresses,
  ports,
  chained,
  ready,
  notReady,
];
