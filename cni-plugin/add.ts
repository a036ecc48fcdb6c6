// ADD of the plugin "flannel": record, reservation, kernel, in that order; on failure everything is undone in the
// opposite order.

import { type IpamResult, release } from '../ipam/verbs.ts';
import type { OpenNamespace } from '../kernel/kernel.ts';
import { NetError } from '../model/errors.ts';
import { addressOf } from '../model/ip.ts';
import type { Link } from '../model/state.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { configurePod, createPair, ensureBridge, masquerade } from './attach.ts';
import { type BridgeConfig, parseConfig, placesOf } from './config.ts';
import { clearPrevious } from './del.ts';
import { type AttachmentKey, hostVethMac, hostVethName, podMac } from './names.ts';
import { type Ends, planBridge, planHostEnd, planMasquerade, withGateways } from './plan.ts';
import { openPod, readSubnetFile } from './pod.ts';
import type { Request } from './protocol.ts';
import { reserveAddresses } from './reservations.ts';
import { type Result, resultFor } from './result.ts';
import type { Dependencies } from './verbs.ts';

/** Names to try for the host's end before giving up; each is free with all but certainty. */
const NAME_TRIES = 10;
const NOTHING: IpamResult = { ips: [], routes: [], dns: {} };

/**
 * Attaches the pod and returns the result for the configuration's version.
 * @throws NetError of every kind; then nothing of the attempt is left
 */
export async function add(request: Request, dependencies: Dependencies): Promise<Record<string, unknown>> {
  const { kernel } = dependencies;
  const config = parseConfig(request, readSubnetFile(request));
  const pod = openPod(kernel, request.netns);
  try {
    const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
    const unlock = await files.lock(request);
    try {
      await clearPrevious(request, files, dependencies);
      return await attach({ request, config, pod, files, dependencies });
    } finally {
      unlock();
    }
  } finally {
    pod.close();
  }
}

interface Work {
  readonly request: Request;
  readonly config: BridgeConfig;
  readonly pod: OpenNamespace;
  readonly files: Attachments;
  readonly dependencies: Dependencies;
}

async function attach(work: Work): Promise<Record<string, unknown>> {
  const { request, files } = work;
  await using undo = new AsyncDisposableStack();
  const record = intent(work);
  files.write(record);
  undo.defer(() => attempt(() => files.remove(record)));
  const addresses = await addressesFor(work, record, undo);
  const known = { ...record, addresses: addresses.ips.map(({ address }) => addressOf(address)) };
  const [result, attached] = connect(work, known, addresses, undo);
  const answer = resultFor(request.cniVersion, result);
  files.write({ ...attached, unfinished: undefined });
  undo.move();
  return answer;
}

/** The first error is the one to report; what can't be undone is left to the DEL that follows a failed ADD. */
export async function attempt(action: () => unknown): Promise<void> {
  try {
    await action();
  } catch {}
}

function intent({ request, config, pod, dependencies }: Work): Attachment {
  const { network, containerId, ifname, netns } = request;
  return {
    plugin: 'flannel',
    bootId: dependencies.bootId,
    host: dependencies.kernel.host.id,
    created: dependencies.now(),
    unfinished: true,
    network,
    containerId,
    ifname,
    netns: { path: netns, id: pod.id },
    bridge: config.bridge,
    link: { name: hostVethName(request, 0), mac: hostVethMac(request) },
    addressDir: config.ipam?.dataDir,
    addresses: [],
    routes: [],
  };
}

async function addressesFor({ config, files, dependencies }: Work, key: AttachmentKey, undo: AsyncDisposableStack) {
  const { ipam } = config;
  if (ipam === undefined) return NOTHING;
  const reserved = await reserveAddresses(ipam, key, files, dependencies.bootId);
  const ips = reserved.ips.map(({ address }) => addressOf(address));
  undo.defer(() => attempt(() => release(ipam, key, ips)));
  return withGateways(config, reserved);
}

/** All of the kernel's part; the result, and the record with all that is known now. */
function connect(
  work: Work,
  record: Attachment,
  addresses: IpamResult,
  undo: AsyncDisposableStack,
): [Result, Attachment] {
  const { config, pod, dependencies } = work;
  const { kernel } = dependencies;
  const bridge = ensureBridge(kernel, config, planBridge(config, addresses.ips));
  const [ends, current] = createEnds(work, record, undo);
  const routes = configurePod(kernel, pod, config, ends, addresses);
  if (config.ipMasq && addresses.ips.length > 0) masquerade(kernel, planMasquerade(config, addresses.ips));
  return [resultOf(config, bridge, ends, pod.path, { ...addresses, routes }), { ...current, routes }];
}

/** The record says which name it is before there is a device of that name. */
function createEnds(
  { config, pod, files, dependencies }: Work,
  record: Attachment,
  undo: AsyncDisposableStack,
): [Ends, Attachment] {
  const { kernel } = dependencies;
  const mac = hostVethMac(record);
  const macInPod = config.mac ?? podMac(record, record.addresses);
  for (let salt = 0; salt < NAME_TRIES; salt++) {
    const link = { name: hostVethName(record, salt), mac };
    const ends = { host: link.name, hostMac: mac, pod: record.ifname, podMac: macInPod };
    const current = { ...record, link };
    if (salt > 0) files.write(current);
    undo.defer(() => attempt(() => dependencies.removeLink(link)));
    if (createPair(kernel, pod, planHostEnd(config, ends, pod), ends)) return [ends, current];
  }
  throw new NetError('foreign-object', `${NAME_TRIES} names for the host's end are taken by other devices`, {
    subject: record.link?.name,
  });
}

/** The interfaces are bridge, host's end, pod's end; the addresses belong to the third. */
function resultOf(config: BridgeConfig, bridge: Link, ends: Ends, sandbox: string, addresses: IpamResult): Result {
  const { mtu } = config;
  return {
    interfaces: [
      { name: bridge.name, mac: bridge.mac, mtu: bridge.mtu },
      { name: ends.host, mac: ends.hostMac, mtu },
      { name: ends.pod, mac: ends.podMac, mtu, sandbox },
    ],
    ips: addresses.ips.map(({ address, gateway }) => ({ address, gateway, interface: 2 })),
    routes: addresses.routes,
    dns: Object.keys(config.dns).length > 0 ? config.dns : addresses.dns,
  };
}
