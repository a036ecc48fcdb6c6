// What holds for every attachment to a bridge (cni.md 2c, "common assertions"), whatever the options and the version.

import assert from 'node:assert/strict';
import { atLeast } from '../../../cni-plugin/versions.ts';
import type { SeenResult } from '../expect.ts';
import { addressesOf, isUp, kindOf, type NetState, type SeenLink } from '../observe.ts';
import { type Json, podPath, type Stage } from '../stage.ts';

export const BRIDGE = 'br0';

/** Where host-local keeps the reservations of a network; the default of both. */
export const STORE = '/var/lib/cni/networks';

export interface Net {
  /** One address of each. */
  readonly subnets: readonly string[];
  /** On the bridge. */
  readonly gateways: readonly string[];
}

export const V4: Net = { subnets: ['10.1.2.0/24'], gateways: ['10.1.2.1/24'] };
export const V6: Net = { subnets: ['2001:db8::/64'], gateways: ['2001:db8::1/64'] };
export const DUAL: Net = {
  subnets: ['192.168.0.0/24', 'fd00::/64'],
  gateways: ['192.168.0.1/24', 'fd00::1/64'],
};
export const MULTIPLE: Net = {
  subnets: ['192.168.0.0/24', 'fd00::/64', '2001:db8::/64'],
  gateways: ['192.168.0.1/24', 'fd00::1/64', '2001:db8::1/64'],
};
export const NONE: Net = { subnets: [], gateways: [] };

export const ipamOf = ({ subnets }: Net, more: Json = {}): Json => ({
  type: 'host-local',
  ranges: subnets.map((subnet) => [{ subnet }]),
  ...more,
});

/** A plain bridge configuration with addresses out of the net. */
export const bridgeConfig = (stage: Stage, net: Net, keys: Json = {}): Json =>
  stage.config('bridge', {
    bridge: BRIDGE,
    isDefaultGateway: net.subnets.length > 0,
    ...(net.subnets.length > 0 && { ipam: ipamOf(net) }),
    ...keys,
  });

/** The host's end of the only pod's pair. */
export function hostEnd(host: NetState): SeenLink {
  const ends = host.links.filter((link) => kindOf(link) === 'veth' && link.master === BRIDGE);
  assert.equal(ends.length, 1, `one port on the bridge: ${ends.map(({ ifname }) => ifname)}`);
  return ends[0] as SeenLink;
}

const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;
const sorted = (texts: readonly string[]): string[] => [...texts].sort();
const isV6 = (address: string): boolean => address.includes(':');

/** The result's interfaces are the links that are there. Before 0.3.0 a result has none. */
export function assertInterfaces(stage: Stage, { interfaces }: SeenResult, host: NetState, pod: NetState): void {
  if (!atLeast(stage.version, '0.3.0')) return;
  const end = hostEnd(host);
  const [bridge, outside, inside] = interfaces;
  assert.equal(interfaces.length, 3, 'bridge, host end and pod end');
  assert.equal(bridge?.name, BRIDGE);
  assert.equal(outside?.name, end.ifname);
  assert.equal(inside?.name, 'eth0');
  assert.deepEqual(
    [bridge?.sandbox, outside?.sandbox, inside?.sandbox],
    [undefined, undefined, podPath()],
    'sandboxes',
  );
  for (const { name, mac } of interfaces) assert.match(mac ?? '', MAC, `MAC of ${name}`);
  assert.deepEqual(
    interfaces.map(({ mac }) => mac),
    [host.link(BRIDGE).address, end.address, pod.link('eth0').address],
    'the MACs are those of the links',
  );
}

/** The host has gained the bridge and the pod's host end, and nothing else. */
export function assertHost(before: NetState, host: NetState, { gateways }: Net): void {
  const bridge = host.link(BRIDGE);
  const end = hostEnd(host);
  const gained = host.links.map(({ ifname }) => ifname).filter((name) => !before.links.some((l) => l.ifname === name));
  assert.deepEqual(sorted(gained), sorted([BRIDGE, end.ifname]), 'links the host has gained');
  assert.equal(kindOf(bridge), 'bridge');
  assert.ok(isUp(bridge) && isUp(end), 'bridge and host end are up');
  assert.notEqual(bridge.address, end.address, "the bridge's MAC is its own");
  assert.equal(bridge.linkinfo?.info_data?.vlan_filtering ?? 0, 0, 'no VLAN filtering');
  assert.deepEqual(sorted(addressesOf(bridge)), sorted(gateways), 'the gateways are on the bridge');
}

/** The pod's interface, its addresses and default routes. */
export function assertPod(pod: NetState, { ips }: SeenResult, net: Net): void {
  const eth0 = pod.link('eth0');
  assert.equal(kindOf(eth0), 'veth');
  assert.ok(isUp(eth0), 'eth0 is up');
  const addresses = addressesOf(eth0);
  assert.deepEqual(
    sorted(addresses),
    sorted(ips.map(({ address }) => address)),
    'the addresses are those of the result, each once',
  );
  assert.equal(addresses.length, net.subnets.length, 'an address of each range');
  const tentative = eth0.addr_info.filter((address) => address.tentative && address.scope !== 'link');
  assert.deepEqual(tentative, [], 'every address is usable when ADD returns');
  assertDefaultRoutes(pod, net);
}

function assertDefaultRoutes({ routes }: NetState, { gateways }: Net): void {
  const defaults = routes.filter(({ dst }) => dst === 'default').map(({ gateway }) => gateway ?? '');
  const first = [gateways.find((each) => !isV6(each)), gateways.find(isV6)].filter((each) => each !== undefined);
  assert.deepEqual(
    sorted(defaults),
    sorted(first.map((gateway) => gateway.split('/')[0] as string)),
    "a default route by each family's first gateway",
  );
}

/** Addresses that are reserved in a network. */
export async function reserved(stage: Stage, network = 'testnet'): Promise<string[]> {
  const names = await stage.sh(`ls -A ${STORE}/${network} 2>/dev/null || :`);
  return names.split('\n').filter((name) => /^[0-9a-f.:]+$/.test(name) && name !== '');
}

/** After DEL: both ends are gone, the bridge and its addresses stay, no address is reserved. */
export async function assertDetached(stage: Stage, net: Net): Promise<void> {
  const [host, pod] = [await stage.observe(), await stage.observe('pod')];
  assert.deepEqual(
    pod.links.map(({ ifname }) => ifname),
    ['lo'],
    "the pod's interface is gone",
  );
  assert.deepEqual(
    host.links.filter((link) => kindOf(link) === 'veth').map(({ ifname }) => ifname),
    [],
    "the host's end is gone",
  );
  assert.deepEqual(sorted(addressesOf(host.link(BRIDGE))), sorted(net.gateways), 'the bridge stays as it is');
  assert.deepEqual(await reserved(stage), [], 'no address is reserved');
}
