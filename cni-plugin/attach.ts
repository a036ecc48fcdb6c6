// The kernel's side of an attachment: brings the bridge to its plan, creates the veth pair and fills the pod's
// namespace, and takes the pair away again. The hot path does not look first: it looks where the kernel says EEXIST.

import { throwFirst, type Failure, type Kernel } from '../kernel/kernel.ts';
import type { CniRoute } from '../model/cni.ts';
import { diff } from '../model/diff.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import { defaultPrefix, FAMILIES, type Family, familyOf, type Mac } from '../model/ip.ts';
import type { Table } from '../model/ruleset.ts';
import { type Address, EMPTY_STATE, type Link, type Namespace, type State } from '../model/state.ts';
import type { Step } from '../model/steps.ts';
import { ensureInPlace } from './in-place.ts';
import { establish } from './masquerade.ts';
import { bornPod, conflicts, type Ends, gatewayFor, isForwarding, planHost, planPod, settled } from './plan.ts';
import { behind } from './routes.ts';
import type { BridgeConfig } from './config.ts';
import { addElements } from './table.ts';
import type { IpamResult } from '../ipam/verbs.ts';

/** First ADDs that race for the bridge each find the other's work within one more look. */
const TRIES = 5;
/** rtm_protocol of a route learned from a router advertisement (linux/rtnetlink.h: RTPROT_RA). */
const LEARNED_BY_RA = 9;

/** What of the host a bridge's plan speaks of. */
export const readBridge = (kernel: Kernel, bridge: string, want: State): State =>
  kernel.read(kernel.host, { links: [bridge], addresses: [bridge], sysctls: want.sysctls.map(({ key }) => key) });

/** A bridge that was found as planned, and the revision it had before it was looked at. */
interface Verified {
  readonly plan: string;
  readonly bridge: Link;
  readonly revision: number;
}

/** By the host, whose object is the same for every view of a kernel. */
const verified = new WeakMap<Namespace, Map<string, Verified>>();

/**
 * Brings the bridge to its plan, and returns it. What is there already stays, also when another process is doing the
 * same. It is looked at only if something about it may have changed since the last time.
 * @throws NetError foreign-object, kernel, busy
 */
export function ensureBridge(kernel: Kernel, config: BridgeConfig, want: State): Link {
  const bridges = verified.get(kernel.host) ?? new Map<string, Verified>();
  verified.set(kernel.host, bridges);
  const last = bridges.get(config.bridge);
  const plan = JSON.stringify([want, config.forceAddress]);
  const index = last?.bridge.index;
  const revision = index === undefined ? undefined : kernel.linkRevision(index);
  if (last?.plan === plan && last.revision === revision) return last.bridge;
  const bridge = bringToPlan(kernel, config, want);
  if (bridge.index !== index) bridges.set(config.bridge, { plan: '', bridge, revision: 0 });
  else if (revision !== undefined) bridges.set(config.bridge, { plan, bridge, revision });
  return bridge;
}

function bringToPlan(kernel: Kernel, config: BridgeConfig, want: State): Link {
  for (let tries = 0; tries < TRIES; tries++) {
    const have = readBridge(kernel, config.bridge, want);
    const replaced = conflicts(config, have, want);
    const missing = [...replaced.map(deletion), ...bridgeSteps(have, want)];
    const steps = missing.length === 0 ? [] : [...missing, ...pin(have.links)];
    const failures = applyTolerantly(kernel, kernel.host, forwardingFirst(kernel, steps), want);
    const serious = failures.filter(({ error }) => !hasErrno(error, 'EEXIST'));
    throwFirst(serious);
    const [bridge] = have.links;
    if (failures.length === 0 && bridge !== undefined) return bridge;
    if (failures.length === 0) return want.links[0] as Link;
  }
  throw new NetError('busy', `bridge ${config.bridge} keeps changing`, { subject: config.bridge });
}

const deletion = (value: Address): Step => ({ verb: 'delete', item: { type: 'address', value } });

const bridgeSteps = (have: State, want: State): Step[] => diff(have, settled(want, have));

/** A bridge that someone else made may follow its ports' MACs; set to what it is, its MAC stays. */
const pin = (bridges: readonly Link[]): Step[] =>
  bridges.map(({ name, kind, mac }) => ({ verb: 'change', item: { type: 'link', value: { name, kind, mac } } }));

/**
 * Forwarding on all interfaces makes the kernel drop the default routes it learned by router advertisement, unless
 * accept_ra is 2 (addrconf_fixup_forwarding): set where such a route is, before.
 */
function forwardingFirst(kernel: Kernel, steps: readonly Step[]): Step[] {
  const on = (step: Step) =>
    step.item.type === 'sysctl' && isForwarding(step.item.value) && step.item.value.key.includes('ipv6');
  return steps.some(on) ? [...keepLearnedRoutes(kernel), ...steps] : [...steps];
}

function keepLearnedRoutes(kernel: Kernel): Step[] {
  const { routes } = kernel.read(kernel.host, { routes: { families: [6] } });
  const learned = routes.filter(
    ({ protocol, destination }) => protocol === LEARNED_BY_RA && destination === defaultPrefix(6),
  );
  const keys = [...new Set(learned.map(({ device }) => `net/ipv6/conf/${device}/accept_ra`))];
  // 0: something else than the kernel learned it, and keeps it.
  const listening = kernel.read(kernel.host, { sysctls: keys }).sysctls.filter(({ value }) => value === '1');
  return listening.map(({ key }) => ({ verb: 'change', item: { type: 'sysctl', value: { key, value: '2' } } }));
}

/** Applies the steps; a kernel without IPv6 has no IPv6 settings, which matters only to who has IPv6 addresses. */
function applyTolerantly(kernel: Kernel, namespace: Namespace, steps: readonly Step[], want: State): Failure[] {
  const needed =
    want.addresses.some(({ address }) => familyOf(address) === 6) ||
    want.routes.some(({ destination }) => familyOf(destination) === 6);
  const harmless = ({ step, error }: Failure) =>
    !needed && step.item.type === 'sysctl' && step.item.value.key.startsWith('net/ipv6/') && hasErrno(error, 'ENOENT');
  return kernel.apply(namespace, steps).filter((failure) => !harmless(failure));
}

/** What of the host a plan without a bridge speaks of, given the host's end. */
export const readRoutedHost = (kernel: Kernel, host: string, want: State): State =>
  kernel.read(kernel.host, {
    links: [host],
    neighbours: [host],
    routes: { families: [...new Set(want.routes.map(({ destination }) => familyOf(destination)))], device: host },
    sysctls: want.sysctls.map(({ key }) => key),
  });

/**
 * Leads the host to a pod whose pair without a bridge has just been created, before the pod's end is up.
 * @throws NetError kernel
 */
export function routeToPod(kernel: Kernel, ends: Ends, { ips }: IpamResult): void {
  const want = planHost(ends, ips);
  const { sysctls } = kernel.read(kernel.host, { sysctls: want.sysctls.filter(isForwarding).map(({ key }) => key) });
  const born = { ...EMPTY_STATE, links: [{ name: ends.host, kind: 'veth', up: false }], sysctls };
  throwFirst(applyTolerantly(kernel, kernel.host, forwardingFirst(kernel, diff(born, want)), want));
}

/**
 * Creates the veth pair, its other end in the pod's namespace, in one message. False when the host's end can't have
 * that name, since another device has it.
 * @throws NetError foreign-object when the pod has such an interface; kernel
 */
export function createPair(kernel: Kernel, pod: Namespace, link: Link, ends: Ends, bridge?: Link): boolean {
  const step: Step = { verb: 'add', item: { type: 'link', value: link } };
  const [failure] = kernel.apply(kernel.host, [step], bridge && [bridge]);
  if (failure === undefined) return true;
  if (!hasErrno(failure.error, 'EEXIST')) throw failure.error;
  if (linkOf(kernel, pod, ends.pod) !== undefined) {
    throw new NetError('foreign-object', `interface "${ends.pod}" already exists in ${pod.path}`, {
      subject: ends.pod,
      cause: failure.error,
    });
  }
  return false;
}

export const linkOf = (kernel: Kernel, namespace: Namespace, name: string): Link | undefined =>
  kernel.read(namespace, { links: [name] }).links[0];

/**
 * Fills the namespace of a pod whose interface has just been created. Returns the routes as they were made: where the
 * pod has one already, from another interface, ours stands behind it. @throws NetError foreign-object, kernel
 */
export function configurePod(
  kernel: Kernel,
  pod: Namespace,
  config: BridgeConfig,
  ends: Ends,
  addresses: IpamResult,
): readonly CniRoute[] {
  const want = planPod(config, ends, addresses);
  const failures = applyTolerantly(kernel, pod, diff(bornPod(ends), want).map(refusingOthers), want);
  const taken = ({ step, error }: Failure) => step.item.type === 'route' && hasErrno(error, 'EEXIST');
  throwFirst(failures.filter((failure) => !taken(failure)));
  return failures.length === 0 ? addresses.routes : addRoutesBehind(kernel, pod, config, ends, addresses);
}

/** A route that is there already is somebody else's: it must not be replaced. */
const refusingOthers = (step: Step): Step => (step.item.type === 'route' ? { verb: 'add', item: step.item } : step);

function addRoutesBehind(
  kernel: Kernel,
  pod: Namespace,
  config: BridgeConfig,
  ends: Ends,
  addresses: IpamResult,
): readonly CniRoute[] {
  const have = kernel.read(pod, { links: ['lo', ends.pod], addresses: [ends.pod], routes: { families: FAMILIES } });
  const gatewayOf = (family: Family) => gatewayFor(addresses.ips, family);
  const routes = behind(addresses.routes, ends.pod, gatewayOf, have.routes);
  const want = { ...planPod(config, ends, { ...addresses, routes }), sysctls: [] };
  throwFirst(kernel.apply(pod, diff(have, want)));
  return routes;
}

/** Masquerades the table's subnets. @throws NetError kernel */
export function masquerade(kernel: Kernel, table: Table): void {
  ensureInPlace(kernel, JSON.stringify(table.sets), () => {
    try {
      kernel.commit(addElements(table));
    } catch {
      // The first attachment with ipMasq since the table was there last, or a subnet that has changed.
      kernel.commit(establish(kernel.readTable(table.family, table.name), table));
    }
  });
}

/** A device by what tells it from any other of that name. */
export interface OwnLink {
  readonly name: string;
  /** "veth" when absent. */
  readonly kind?: string | undefined;
  readonly mac: Mac;
}

/** Whether the device is there, in the host's namespace or another, and is the attachment's own. */
export function isOurs(kernel: Kernel, { name, kind = 'veth', mac }: OwnLink, namespace = kernel.host): boolean {
  const found = linkOf(kernel, namespace, name);
  return found?.kind === kind && found.mac === mac;
}

/** Deletes a device, a veth with its peer; one that isn't there, or is another's, stays as it is. @throws NetError kernel */
export function removeOwn(kernel: Kernel, link: OwnLink): boolean {
  return isOurs(kernel, link) && deleteLink(kernel, kernel.host, link.name);
}

/** Deletes the veth pair by the pod's end, if that is the one described. @throws NetError kernel */
export function removeByPodEnd(kernel: Kernel, pod: Namespace, end: OwnLink): boolean {
  return isOurs(kernel, end, pod) && deleteLink(kernel, pod, end.name);
}

/**
 * Deletes the veth pair by the pod's end, for attachments without a record. Only a veth whose other end is a port of the
 * bridge: the pod may have an interface of that name from somebody else. @throws NetError kernel
 */
export function removePodEnd(kernel: Kernel, pod: Namespace, name: string, bridge: string): boolean {
  const end = linkOf(kernel, pod, name);
  if (end?.kind !== 'veth') return false;
  const { links } = kernel.read(kernel.host, { links: 'all' });
  const isPeer = ({ kind, index, peerIndex, master }: Link) =>
    kind === 'veth' && index === end.peerIndex && peerIndex === end.index && master === bridge;
  return links.some(isPeer) && deleteLink(kernel, pod, name);
}

function deleteLink(kernel: Kernel, namespace: Namespace, name: string): boolean {
  const failures = kernel.apply(namespace, [{ verb: 'delete', item: { type: 'link', value: { name, kind: 'veth' } } }]);
  throwFirst(failures.filter(({ error }) => !hasErrno(error, 'ENODEV') && !hasErrno(error, 'ENOENT')));
  return failures.length === 0;
}
