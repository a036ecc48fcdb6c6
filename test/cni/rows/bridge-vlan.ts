// 2c: VLANs. A kernel without VLAN filtering in bridges must be said so by an error; what ADD does with one that has it is
// asserted only there.

import assert from 'node:assert/strict';
import type { CaseId } from '../catalogue.ts';
import { printed, refused, silent } from '../expect.ts';
import { addressesOf, isUp } from '../observe.ts';
import type { Json, Stage } from '../stage.ts';
import { OWN_CODES, type Row, since } from '../table.ts';
import { BRIDGE, bridgeConfig, DUAL, hostEnd, type Net, NONE, reserved, V4, V6 } from './attached.ts';
import { lacks } from './bridge-options.ts';

const NO_FILTERING =
  'a kernel without VLAN filtering: the reference says "operation not supported", ours names the option';

async function canFilter({ machine }: Stage): Promise<boolean> {
  const { code } = await machine.run('ip', ['link', 'add', 'probe', 'type', 'bridge', 'vlan_filtering', '1']);
  if (code === 0) await machine.must('ip', ['link', 'delete', 'probe']);
  return code === 0;
}

/** VLANs of a port, "pvid" before the one that untagged frames get. */
async function vlansOf({ machine }: Stage, port: string): Promise<string[]> {
  const printed = await machine.must('bridge', ['-j', 'vlan', 'show', 'dev', port]);
  const [found] = JSON.parse(printed) as {
    readonly vlans: readonly { readonly vlan: number; readonly vlanEnd?: number; readonly flags?: readonly string[] }[];
  }[];
  return (found?.vlans ?? []).map(
    ({ vlan, vlanEnd, flags }) =>
      `${flags?.includes('PVID') ? 'pvid ' : ''}${vlan}${vlanEnd === undefined ? '' : `-${vlanEnd}`}`,
  );
}

interface Expected {
  readonly keys: Json;
  readonly net: Net;
  readonly vlans: readonly string[];
}

/** Where the kernel can't: refused, with nothing left but perhaps a bridge. */
async function refusedByKernel(stage: Stage, config: Json): Promise<void> {
  const msg = stage.target.ours ? /vlan/i : /operation not supported/;
  refused(stage, await stage.cni('bridge', 'ADD', config), { msg });
  assert.deepEqual(
    (await stage.observe('pod')).links.map(({ ifname }) => ifname),
    ['lo'],
  );
  assert.deepEqual(await reserved(stage), []);
}

async function attach(stage: Stage, { keys, net, vlans }: Expected): Promise<void> {
  await stage.pod();
  const config = bridgeConfig(stage, net, keys);
  if (!(await canFilter(stage))) return refusedByKernel(stage, config);
  const { interfaces } = printed(await stage.cni('bridge', 'ADD', config)) as { interfaces: readonly Json[] };
  const host = await stage.observe();
  assert.equal(host.link(BRIDGE).linkinfo?.info_data?.vlan_filtering, 1);
  const gateway = net.gateways.length > 0;
  assert.equal(interfaces.length, gateway ? 4 : 3, 'interfaces of the result');
  const port = gateway ? host.links.find(({ ifname }) => ifname === interfaces[1]?.name) : hostEnd(host);
  assert.deepEqual(await vlansOf(stage, port?.ifname ?? ''), vlans);
  if (gateway) {
    const own = host.link(`${BRIDGE}.100`);
    assert.ok(isUp(own));
    assert.deepEqual(addressesOf(own).sort(), [...net.gateways].sort());
  }
  silent(await stage.cni('bridge', 'DEL', config), 'DEL');
}

const TRUNK = [{ id: 101 }, { minID: 200, maxID: 210 }];

/** Debian's knows only `vlan`; with `preserveDefaultVlan` the port keeps VLAN 1 beside. */
const vlanRow = (id: string, covers: readonly CaseId[], expected: Expected): Row => ({
  id: `VLAN: ${id}`,
  covers: [...covers, 'bridge/vlan-lists', 'bridge/vlan-filtering'],
  versions: since('0.3.0'),
  differs: NO_FILTERING,
  ...('vlanTrunk' in expected.keys && !('vlan' in expected.keys) && { defects: [lacks('vlanTrunk')] }),
  run: (stage) => attach(stage, expected),
});

const routed = (net: Net): Expected => ({ keys: { vlan: 100 }, net, vlans: ['pvid 100'] });

const MISSING = (which: string) => `minID and maxID should be configured simultaneously, ${which} is missing`;
const WRONG_TRUNKS: readonly (readonly [covers: CaseId, item: Json, msg: string])[] = [
  ['bridge/trunk-no-max', { minID: 100 }, MISSING('maxID')],
  ['bridge/trunk-no-min', { maxID: 200 }, MISSING('minID')],
  ['bridge/trunk-min-negative', { minID: -100, maxID: 200 }, 'incorrect trunk minID parameter'],
  ['bridge/trunk-min-large', { minID: 5000, maxID: 200 }, 'incorrect trunk minID parameter'],
  ['bridge/trunk-max-large', { minID: 100, maxID: 5000 }, 'incorrect trunk maxID parameter'],
  ['bridge/trunk-max-negative', { minID: 100, maxID: -1 }, 'incorrect trunk maxID parameter'],
  ['bridge/trunk-id-large', { id: 5000 }, 'incorrect trunk id parameter'],
  ['bridge/trunk-id-negative', { id: -1 }, 'incorrect trunk id parameter'],
  ['bridge/trunk-reversed', { minID: 200, maxID: 100 }, 'minID is greater than maxID in trunk parameter'],
];

const wrongTrunks: Row = {
  id: 'VLAN: trunks that are refused',
  covers: WRONG_TRUNKS.map(([covers]) => covers),
  differs: OWN_CODES,
  defects: [lacks('vlanTrunk')],
  async run(stage) {
    await stage.pod();
    for (const [, item, text] of WRONG_TRUNKS) {
      const answer = await stage.cni('bridge', 'ADD', bridgeConfig(stage, NONE, { vlanTrunk: [item] }));
      refused(stage, answer, { ownCode: 7, msg: new RegExp(RegExp.escape(text)) }, JSON.stringify(item));
    }
  },
};

const emptyTrunk: Row = {
  id: 'VLAN: an empty trunk is none',
  covers: ['bridge/trunk-empty', 'bridge/vlan-filtering'],
  defects: [
    {
      releases: ['newer'],
      what: 'filters VLANs for an empty vlanTrunk',
      cites: 'cni.md 1b: "vlan_filtering=1 when vlan or vlanTrunk set", against 2c, where an empty list is none',
    },
  ],
  async run(stage) {
    await stage.pod();
    printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4, { vlanTrunk: [], vlan: 0 })));
    assert.equal((await stage.observe()).link(BRIDGE).linkinfo?.info_data?.vlan_filtering ?? 0, 0);
  },
};

const range: Row = {
  id: 'VLAN: ids outside 0-4094',
  covers: ['bridge/vlan-range'],
  differs: `${OWN_CODES}, and every wrong key at once`,
  async run(stage) {
    await stage.pod();
    for (const vlan of [-1, 4095, 5000]) {
      const answer = await stage.cni('bridge', 'ADD', bridgeConfig(stage, NONE, { vlan }));
      const words = `invalid VLAN ID ${vlan} (must be between 0 and 4094)`;
      const msg = stage.target.ours ? new RegExp(`vlan.*${vlan}`, 'i') : new RegExp(RegExp.escape(words));
      refused(stage, answer, { ownCode: 7, msg });
    }
  },
};

export const BRIDGE_VLAN_ROWS: readonly Row[] = [
  vlanRow('100 without addresses', ['bridge/l2-vlan', 'bridge/l2-vlan-no-default'], {
    keys: { vlan: 100 },
    net: NONE,
    vlans: ['pvid 100'],
  }),
  vlanRow('a trunk', ['bridge/l2-trunk', 'bridge/trunk-id', 'bridge/trunk-range', 'bridge/trunk-id-and-range'], {
    keys: { vlanTrunk: TRUNK },
    net: NONE,
    vlans: ['pvid 1', '101', '200-210'],
  }),
  vlanRow('100 and a trunk', ['bridge/l2-vlan-trunk'], {
    keys: { vlan: 100, vlanTrunk: TRUNK },
    net: NONE,
    vlans: ['pvid 100', '101', '200-210'],
  }),
  vlanRow('100 with an IPv4 gateway', ['bridge/routed-vlan-v4', 'bridge/routed-vlan-no-default'], routed(V4)),
  vlanRow('100 with an IPv6 gateway', ['bridge/routed-vlan-v6'], routed(V6)),
  vlanRow('100 with gateways of both families', ['bridge/routed-vlan-dual'], routed(DUAL)),
  wrongTrunks,
  emptyTrunk,
  range,
];
