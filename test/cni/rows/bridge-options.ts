// 2c: the bridge plugin's options one by one.

import assert from 'node:assert/strict';
import { printed, refused, silent } from '../expect.ts';
import { addressesOf, isUp } from '../observe.ts';
import type { Attachment, Json, Stage } from '../stage.ts';
import type { CaseId } from '../catalogue.ts';
import { ALL, type Defect, OWN_CODES, REFERENCE, type Row, since } from '../table.ts';
import { BRIDGE, bridgeConfig, hostEnd, ipamOf, NONE, reserved, V4 } from './attached.ts';

/** Keys that releases after 1.1.1 brought: 1.1.1 ignores them. */
export const lacks = (key: string): Defect => ({
  releases: ['1.1.1'],
  what: `ignores ${key}`,
  cites: `cni.md 1b: "Debian 1.1.1 lacks: … ${key}"`,
});

const MAC = '02:00:5e:10:00:01';

function macRow(from: string, covers: CaseId, keys: Json, attachment: Attachment = {}): Row {
  return {
    id: `the pod's MAC from ${from}`,
    covers: [covers],
    versions: ALL,
    async run(stage) {
      await stage.pod();
      printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4, keys), attachment));
      assert.equal((await stage.observe('pod')).link('eth0').address, MAC);
    },
  };
}

/** A second network's gateway on a bridge that has the first one's. */
interface Meeting {
  readonly first: { readonly subnet: string; readonly gateway: string };
  readonly second: { readonly subnet: string; readonly gateway: string };
  /** Whether one excludes the other. */
  readonly conflict: boolean;
}

const withLength = ({ subnet, gateway }: Meeting['first']): string => `${gateway}/${subnet.split('/')[1]}`;

async function meet(stage: Stage, { first, second, conflict }: Meeting): Promise<void> {
  const [one, other] = [withLength(first), withLength(second)];
  const configOf = (name: string, range: Meeting['first'], keys: Json = {}) =>
    stage.config('bridge', { name, bridge: BRIDGE, isGateway: true, ipam: { type: 'host-local', ...range }, ...keys });
  const onBridge = async () => addressesOf((await stage.observe()).link(BRIDGE)).sort();
  const [a, b, c] = [await stage.pod('a'), await stage.pod('b'), await stage.pod('c')];
  printed(await stage.cni('bridge', 'ADD', configOf('first', first), { netns: a, containerId: 'a' }));
  assert.deepEqual(await onBridge(), [one]);
  const answer = await stage.cni('bridge', 'ADD', configOf('second', second), { netns: b, containerId: 'b' });
  if (conflict) {
    const msg = new RegExp(`"${BRIDGE}" already has an IP address different from ${RegExp.escape(other)}`);
    refused(stage, answer, { ownCode: 105, msg }, 'ADD with another address');
    assert.deepEqual(await onBridge(), [one], 'nothing has changed');
    assert.deepEqual(await reserved(stage, 'second'), [], 'the address is released');
  } else {
    printed(answer);
    assert.deepEqual(await onBridge(), [one, other].sort(), 'both');
  }
  const force = configOf('second', second, { forceAddress: true });
  printed(await stage.cni('bridge', 'ADD', force, { netns: c, containerId: 'c' }));
  assert.deepEqual(await onBridge(), conflict ? [other] : [one, other].sort(), 'with forceAddress');
}

const meetingRow = (name: string, covers: readonly CaseId[], meeting: Meeting): Row => ({
  id: `another address on the bridge: ${name}`,
  covers,
  versions: ALL,
  differs: OWN_CODES,
  run: (stage) => meet(stage, meeting),
});

const promiscuous: Row = {
  id: 'promiscMode, and not together with hairpinMode',
  covers: ['bridge/promiscuous'],
  versions: ALL,
  differs: OWN_CODES,
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { promiscMode: true });
    const both = await stage.cni('bridge', 'ADD', { ...config, hairpinMode: true });
    refused(stage, both, { ownCode: 7, msg: /cannot set hairpin mode and promiscuous mode at the same time/ });
    printed(await stage.cni('bridge', 'ADD', config));
    assert.ok((await stage.observe()).link(BRIDGE).flags.includes('PROMISC'));
  },
};

const stableMac: Row = {
  id: "the bridge's MAC stays when a port with a lower one joins, and when ports leave",
  covers: ['bridge/stable-mac'],
  versions: ALL,
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4);
    const macOf = async () => (await stage.observe()).link(BRIDGE).address;
    printed(await stage.cni('bridge', 'ADD', config));
    const before = await macOf();
    await stage.sh(
      `ip link add low address 02:00:00:00:00:01 type veth peer name other; ip link set low master ${BRIDGE}`,
    );
    assert.equal(await macOf(), before, 'after a lower one has joined');
    silent(await stage.cni('bridge', 'DEL', config), 'DEL');
    assert.equal(await macOf(), before, 'after DEL');
  },
};

const foreignDevice: Row = {
  id: 'a device of that name that is no bridge',
  covers: ['bridge/release-on-error', 'skel/untyped-error'],
  versions: ALL,
  differs: OWN_CODES,
  async run(stage) {
    await stage.pod();
    await stage.sh(`ip link add ${BRIDGE} type veth peer name other`);
    const answer = await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4));
    const code = stage.target.ours ? 105 : 999;
    refused(stage, answer, { code, msg: new RegExp(`"${BRIDGE}" already exists but is not a bridge`) });
    assert.deepEqual(await reserved(stage), [], 'no address stays reserved');
  },
};

const rollback: Row = {
  id: 'a failed ADD leaves no interface in the pod',
  covers: ['bridge/release-on-error'],
  versions: ['1.0.0'],
  defects: [
    {
      releases: REFERENCE,
      what: 'the veth is not removed after a late failure',
      cites: 'cni.md 1b, ADD step 8; problem 6 (p#327)',
    },
  ],
  async run(stage) {
    await stage.pod();
    await stage.sh(`ip link add ${BRIDGE} type bridge; ip addr add 192.0.2.1/24 dev ${BRIDGE}`);
    refused(stage, await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)), {});
    assert.deepEqual(
      (await stage.observe('pod')).links.map(({ ifname }) => ifname),
      ['lo'],
    );
  },
};

const isolation = (on: boolean): Row => ({
  id: `portIsolation ${on ? 'on' : 'off'}, hairpinMode and mtu`,
  covers: [on ? 'bridge/isolation-on' : 'bridge/isolation-off', 'bridge/isolated'],
  versions: ALL,
  ...(on && { defects: [lacks('portIsolation')] }),
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { portIsolation: on, hairpinMode: on, mtu: 1400 });
    printed(await stage.cni('bridge', 'ADD', config));
    const host = await stage.observe();
    const { isolated, hairpin } = hostEnd(host).linkinfo?.info_slave_data ?? {};
    assert.deepEqual([isolated ?? false, hairpin ?? false], [on, on], 'isolated, hairpin');
    const mtus = [host.link(BRIDGE).mtu, hostEnd(host).mtu, (await stage.observe('pod')).link('eth0').mtu];
    assert.deepEqual(mtus, [1400, 1400, 1400], 'mtu of bridge and both ends');
  },
});

const disabledWithIpam: Row = {
  id: 'disableContainerInterface with address management',
  covers: ['bridge/disabled-with-ipam'],
  versions: ALL,
  differs: OWN_CODES,
  defects: [lacks('disableContainerInterface')],
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { disableContainerInterface: true });
    const msg = /cannot use IPAM when DisableContainerInterface flag is set/;
    refused(stage, await stage.cni('bridge', 'ADD', config), { ownCode: 7, msg });
  },
};

const disabled: Row = {
  id: 'disableContainerInterface leaves the interface down',
  covers: ['bridge/disabled-l2'],
  versions: since('0.3.0'),
  defects: [lacks('disableContainerInterface')],
  async run(stage) {
    await stage.pod();
    printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, NONE, { disableContainerInterface: true })));
    assert.ok(!isUp((await stage.observe('pod')).link('eth0')), 'down');
  },
};

const ownDns: Row = {
  id: "the configuration's own dns and routes",
  covers: ['bridge/dns'],
  versions: ['1.0.0'],
  async run(stage) {
    await stage.pod();
    const ipam = ipamOf(V4, { routes: [{ dst: '198.51.100.0/24' }, { dst: '203.0.113.0/24', gw: '10.1.2.9' }] });
    const added = await stage.cni(
      'bridge',
      'ADD',
      bridgeConfig(stage, V4, { dns: { nameservers: ['192.0.2.7'] }, ipam }),
    );
    assert.deepEqual(printed(added).dns, { nameservers: ['192.0.2.7'] });
    const { routes } = await stage.observe('pod');
    const gatewayOf = (dst: string) => routes.find((route) => route.dst === dst)?.gateway;
    assert.equal(gatewayOf('198.51.100.0/24'), '10.1.2.1', "by the address's gateway");
    assert.equal(gatewayOf('203.0.113.0/24'), '10.1.2.9', 'by its own');
  },
};

export const BRIDGE_OPTION_ROWS: readonly Row[] = [
  macRow('CNI_ARGS', 'bridge/mac-cni-args', {}, { args: `IgnoreUnknown=1;MAC=${MAC};K8S_POD_NAME=p` }),
  macRow('args.cni.mac', 'bridge/mac-args', { args: { cni: { mac: MAC } } }),
  macRow('runtimeConfig.mac', 'bridge/mac-runtime-config', { runtimeConfig: { mac: MAC } }),
  meetingRow('IPv4', ['bridge/address-v4', 'bridge/release-on-error'], {
    first: { subnet: '10.0.0.0/8', gateway: '10.0.0.1' },
    second: { subnet: '10.1.0.0/16', gateway: '10.1.2.3' },
    conflict: true,
  }),
  meetingRow('overlapping IPv6', ['bridge/address-v6-overlap'], {
    first: { subnet: '2001:db8:1::/48', gateway: '2001:db8:1::1' },
    second: { subnet: '2001:db8:1:2::/64', gateway: '2001:db8:1:2::1' },
    conflict: true,
  }),
  meetingRow('disjoint IPv6', ['bridge/address-v6-disjoint'], {
    first: { subnet: '2001:db8:1:2::/64', gateway: '2001:db8:1:2::1' },
    second: { subnet: 'fd00:1234::/64', gateway: 'fd00:1234::1' },
    conflict: false,
  }),
  promiscuous,
  stableMac,
  foreignDevice,
  rollback,
  isolation(false),
  isolation(true),
  disabledWithIpam,
  disabled,
  ownDns,
];
