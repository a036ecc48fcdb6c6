// CHECK of the plugin "flannel": the difference between the plan and what is there is empty. The plan is made again from
// the result that the runtime hands back, so that what chained plugins changed since (a MAC, say) is what is expected.

import { verify } from '../ipam/verbs.ts';
import type { Kernel, OpenNamespace } from '../kernel/kernel.ts';
import type { CniRoute } from '../model/cni.ts';
import { diff } from '../model/diff.ts';
import { NetError } from '../model/errors.ts';
import { addressOf, FAMILIES, tryMac } from '../model/ip.ts';
import { EMPTY_STATE, type Link, MAIN_TABLE, merge, type State } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import { linkOf, readBridge, readRoutedHost } from './attach.ts';
import { type Attachment, attachmentsIn } from './attachments.ts';
import { type BridgeConfig, parseConfig, placesOf } from './config.ts';
import { ask } from './delegation.ts';
import { type Extras, extraDifferences, parseExtras, planExtras, recorded } from './extras.ts';
import { guardDifferences } from './guard.ts';
import { type Ends, isForwarding, planBridge, planHost, planHostEnd, planMasquerade, planPod, wayTo } from './plan.ts';
import { openPod, readSubnetFile } from './pod.ts';
import type { Request } from './protocol.ts';
import { spoofTable } from './spoof.ts';
import { missingFrom } from './table.ts';
import { type CniAddress, parseResult, type Result } from './result.ts';
import type { Dependencies } from './verbs.ts';

/** @throws NetError check-failed naming each difference; and what ADD throws for a bad request */
export async function check(request: Request, dependencies: Dependencies): Promise<void> {
  const config = parseConfig(request, readSubnetFile(request));
  const extras = parseExtras(request);
  const previous = previousResult(request);
  const pod = openPod(dependencies.kernel, request.netns);
  try {
    const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
    const unlock = await files.lock(request);
    try {
      const { kernel, sources } = dependencies;
      compare({ request, config, extras, kernel, pod, previous, record: files.read(request), sources });
      if (config.foreignIpam !== undefined) await ask(dependencies, config.foreignIpam, 'CHECK');
    } finally {
      unlock();
    }
  } finally {
    pod.close();
  }
}

/** @throws NetError invalid-config when the runtime sent none */
export function previousResult({ config }: Request): Result {
  const given = Object.entries(config).find(([key]) => key.toLowerCase() === 'prevresult')?.[1];
  if (given === undefined || given === null) throw new NetError('invalid-config', 'required prevResult missing');
  return parseResult(given);
}

interface Comparison {
  readonly request: Request;
  readonly config: BridgeConfig;
  readonly extras: Extras;
  readonly kernel: Kernel;
  readonly pod: OpenNamespace;
  readonly previous: Result;
  readonly record: Attachment | undefined;
  readonly sources: Dependencies['sources'];
}

function compare(comparison: Comparison): void {
  const { request, config, record } = comparison;
  const addresses = { ips: ownAddresses(comparison), routes: ownRoutes(comparison), dns: {} };
  const ends = findEnds(comparison);
  const differences = [
    ...(config.mode === 'routed' ? routedDifferences : bridgeDifferences)(comparison, ends, addresses.ips),
    ...podDifferences(comparison, planPod(config, ends, addresses)),
  ];
  if (config.ipMasq) differences.push(...masqueradeDifferences(comparison, addresses.ips));
  if (config.macspoofchk && ends.podMac !== undefined) {
    differences.push(...guardDifferences(comparison.kernel, spoofTable([{ name: ends.host, mac: ends.podMac }])));
  }
  if (record !== undefined) differences.push(...(comparison.sources?.differences(record) ?? []));
  differences.push(...extrasOf(comparison, ends, addresses.ips));
  if (differences.length > 0) throw failed(request, differences);
  if (config.ipam === undefined) return;
  const reserved = record?.addresses ?? addresses.ips.map(({ address }) => addressOf(address));
  verify(config.ipam, request, reserved);
}

function extrasOf({ request, config, extras, kernel }: Comparison, ends: Ends, ips: readonly CniAddress[]): string[] {
  const addresses = ips.map(({ address }) => addressOf(address));
  const wanted = { ...request, ...recorded(extras, request, wayTo(config, ends.host), addresses) };
  const plan = planExtras(extras, wanted, { host: ends.host, mtu: config.mtu });
  return extraDifferences(kernel, plan);
}

function failed({ ifname, containerId }: Request, differences: readonly string[]): NetError {
  return new NetError('check-failed', `${ifname} of ${containerId} differs from its plan: ${differences.join('; ')}`, {
    subject: ifname,
  });
}

/** The previous result's addresses on the interface; of them, if a record says so, those that were ours to give. */
function ownAddresses({
  request,
  previous,
  record,
}: Comparison): { address: CniAddress['address']; gateway: CniAddress['gateway'] }[] {
  const onInterface = ({ interface: index }: CniAddress) => {
    const device = index === undefined ? undefined : previous.interfaces[index];
    return device === undefined || (device.name === request.ifname && device.sandbox !== undefined);
  };
  return previous.ips
    .filter(onInterface)
    .filter(({ address }) => record === undefined || record.addresses.includes(addressOf(address)))
    .map(({ address, gateway }) => ({ address, gateway }));
}

/** Results before 1.1.0 leave out a route's metric and table, which the record has. Only the main table is looked at. */
function ownRoutes({ previous, record }: Comparison): CniRoute[] {
  const recorded = ({ dst, gw }: CniRoute) => record?.routes.find((route) => route.dst === dst && route.gw === gw);
  return previous.routes
    .map((route) => recorded(route) ?? route)
    .filter(({ table }) => table === undefined || table === 0 || table === MAIN_TABLE);
}

/** The pair's ends by name: the host's is the one of the record or of the previous result that the pod's end names. */
function findEnds({ request, kernel, pod, previous, record }: Comparison): Ends {
  const inside = linkOf(kernel, pod, request.ifname);
  if (inside === undefined) throw failed(request, [`no such interface in ${request.netns}`]);
  const names = previous.interfaces.filter(({ sandbox }) => sandbox === undefined).map(({ name }) => name);
  const { links } = kernel.read(kernel.host, { links: record?.link === undefined ? names : [record.link.name] });
  const outside = links.find(({ index, peerIndex }) => index === inside.peerIndex && peerIndex === inside.index);
  if (outside === undefined) throw failed(request, ["the pair's other end is not on the host"]);
  const expected = previous.interfaces.find(({ name, sandbox }) => name === request.ifname && sandbox !== undefined);
  return { host: outside.name, hostMac: record?.link?.mac, pod: request.ifname, podMac: tryMac(expected?.mac) };
}

type Addresses = Parameters<typeof planBridge>[1];

function bridgeDifferences({ kernel, config, sources }: Comparison, ends: Ends, ips: Addresses): string[] {
  const plan = planBridge(config, ips, sources !== undefined);
  const bridge = { ...plan, links: plan.links.map(withoutBirth), sysctls: plan.sysctls.filter(isForwarding) };
  const want = merge(bridge, { links: [withoutBirth(planHostEnd(config, ends))] });
  const port = linkOf(kernel, kernel.host, ends.host);
  const have = merge(readBridge(kernel, config.bridge, want), { links: port === undefined ? [] : [port] });
  return printed(diff(have, want));
}

/** Settings of the link itself are for its birth; others may have reasons to change them since. */
function routedDifferences({ kernel }: Comparison, ends: Ends, ips: Addresses): string[] {
  const plan = planHost(ends, ips);
  const want = { ...plan, sysctls: plan.sysctls.filter(isForwarding) };
  return printed(diff(readRoutedHost(kernel, ends.host, want), want));
}

/** What a device was created with may have been changed since, by chained plugins or people; its MTU above all. */
const withoutBirth = ({ mac: _, mtu: __, ...link }: Link): Link => link;

function podDifferences({ kernel, pod, request }: Comparison, plan: State): string[] {
  const links = plan.links.filter(({ name }) => name === request.ifname);
  const { addresses, neighbours, routes } = plan;
  const want = { ...EMPTY_STATE, links, addresses, neighbours, routes };
  const have = kernel.read(pod, {
    links: [request.ifname],
    addresses: [request.ifname],
    neighbours: neighbours.length > 0 ? [request.ifname] : [],
    routes: { families: FAMILIES, device: request.ifname },
  });
  return printed(diff(have, want));
}

/** Differences are told as what would repair them. */
const printed = (steps: readonly Step[]): string[] => steps.map((step) => `missing: ${printStep(step)}`);

/** Without a bridge the result's addresses are without their subnets, which the record has. */
function masqueradeDifferences({ kernel, config, record }: Comparison, ips: Addresses): string[] {
  const subnets = record?.routed?.subnets.map((address) => ({ address, gateway: undefined }));
  const want = planMasquerade(config, subnets ?? ips);
  return missingFrom(kernel.readTable(want.family, want.name), want).map((what) => `missing: ${what}`);
}
