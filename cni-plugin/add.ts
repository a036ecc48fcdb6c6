// ADD of the plugin "flannel": record, reservation, kernel, in that order; on failure everything is undone in the
// opposite order.

import { type IpamResult, release } from '../ipam/verbs.ts';
import type { OpenNamespace } from '../kernel/kernel.ts';
import { NetError } from '../model/errors.ts';
import { addressOf, familyOf, type Ip, type Mac, networkOf } from '../model/ip.ts';
import type { Link } from '../model/state.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { configurePod, createPair, ensureBridge, masquerade, routeToPod } from './attach.ts';
import { type BridgeConfig, parseConfig, placesOf } from './config.ts';
import { clearPrevious } from './del.ts';
import { addExtras, type Extras, parseExtras, planExtras, recorded } from './extras.ts';
import { reserveForeign } from './foreign-ipam.ts';
import { guard, unguard } from './guard.ts';
import { type AttachmentKey, hostVeth, hostVethName, podMac } from './names.ts';
import { type Ends, gatewayAddresses, planBridge, planHostEnd, planMasquerade, wayTo, withGateways } from './plan.ts';
import { openPod, readSubnetFile } from './pod.ts';
import { podOfArgs, type Request } from './protocol.ts';
import { reserveAddresses } from './reservations.ts';
import { type Result, resultFor } from './result.ts';
import { settleAddresses } from './settle.ts';
import { spoofTable } from './spoof.ts';
import { orUndo, type Undo } from './undo.ts';
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
  const extras = parseExtras(request);
  const pod = openPod(kernel, request.netns);
  try {
    const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
    const unlock = await files.lock(request);
    try {
      await clearPrevious(request, files, dependencies);
      return await orUndo((undo) => attach({ request, config, extras, pod, files, dependencies }, undo));
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
  readonly extras: Extras;
  readonly pod: OpenNamespace;
  readonly files: Attachments;
  readonly dependencies: Dependencies;
}

async function attach(work: Work, undo: Undo): Promise<Record<string, unknown>> {
  const { request, files } = work;
  const record = intent(work);
  undo(() => files.remove(record));
  files.write(record);
  const reserved = await addressesFor(work, record, undo);
  const known = withAddresses(work, record, reserved);
  const { admit, sources } = work.dependencies;
  if (hasMore(known) || (admit ?? sources) !== undefined) files.write(known);
  await admit?.(known);
  const [result, attached] = connect(work, known, reserved, undo);
  await settle(work, reserved);
  const answer = resultFor(request.cniVersion, result);
  files.write({ ...attached, unfinished: undefined });
  return answer;
}

function intent({ request, config, pod, dependencies }: Work): IntendedAttachment {
  const { network, containerId, ifname, netns } = request;
  return {
    plugin: 'flannel',
    bootId: dependencies.bootId,
    host: dependencies.kernel.host.id,
    created: dependencies.now(),
    unfinished: true,
    call: dependencies.call,
    network,
    containerId,
    ifname,
    netns: { path: netns, id: pod.id },
    bridge: config.mode === 'bridge' ? config.bridge : undefined,
    link: hostVeth(request),
    addressDir: config.ipam?.dataDir,
    addresses: [],
    routes: [],
    foreign: config.foreignIpam && { ...config.foreignIpam, args: request.args },
    pod: podOfArgs(request.args),
  };
}

async function addressesFor({ config, files, dependencies }: Work, key: AttachmentKey, undo: Undo) {
  const { ipam, foreignIpam } = config;
  if (foreignIpam !== undefined) return reserveForeign(foreignIpam, dependencies, undo);
  if (ipam === undefined) return NOTHING;
  const reserved = await reserveAddresses(ipam, key, files, dependencies.bootId);
  const ips = reserved.ips.map(({ address }) => addressOf(address));
  undo(() => release(ipam, key, ips));
  return reserved;
}

/** A record from the beginning. */
type IntendedAttachment = Attachment & { readonly link: { readonly name: string; readonly mac: Mac } };
/** A record from the time its addresses are known. */
type KnownAttachment = IntendedAttachment & { readonly mac: Mac };

/** The record with what follows from the addresses. */
function withAddresses({ config, extras }: Work, record: IntendedAttachment, { ips }: IpamResult): KnownAttachment {
  const addresses = ips.map(({ address }) => addressOf(address));
  const mac = config.mac ?? podMac(record, addresses);
  const known = { ...record, mac, addresses, ...recorded(extras, record, wayTo(config, record.link.name), addresses) };
  if (config.macspoofchk) return { ...known, guardedMac: mac };
  if (config.mode === 'bridge') return known;
  const subnets = [...new Set(ips.map(({ address }) => networkOf(address)))];
  return { ...known, routed: { mac, subnets } };
}

/** Whether DEL has more to undo than a device and addresses, so that it must be on disk before it is done. */
const hasMore = ({ portMappings, ifb, guardedMac }: Attachment): boolean =>
  portMappings !== undefined || ifb !== undefined || guardedMac !== undefined;

/** Until the pod and its gateways are reached at their addresses. */
async function settle({ config, pod, dependencies: { kernel } }: Work, reserved: IpamResult): Promise<void> {
  const own = reserved.ips.map(({ address }) => addressOf(address));
  if (own.every((address) => familyOf(address) === 4)) return;
  const onBridge = config.mode === 'routed' ? [] : gatewayAddresses(config, withGateways(config, reserved).ips);
  await settleAddresses(kernel, pod, own);
  await settleAddresses(
    kernel,
    kernel.host,
    onBridge.map(({ address }) => addressOf(address)),
  );
}

/** All of the kernel's part; the result, and the record with all that is known now. */
function connect(work: Work, record: KnownAttachment, reserved: IpamResult, undo: Undo): [Result, Attachment] {
  const { config, extras, pod, dependencies } = work;
  const { kernel, sources } = dependencies;
  const addresses = withGateways(config, reserved);
  const plan = planBridge(config, addresses.ips, sources !== undefined);
  const bridge = config.mode === 'routed' ? undefined : ensureBridge(kernel, config, plan);
  const [ends, current] = createEnds(work, record, bridge, undo);
  sources?.allow(current);
  if (bridge === undefined) routeToPod(kernel, ends, addresses);
  else preparePort(work, ends, bridge, addresses);
  const routes = configurePod(kernel, pod, config, ends, addresses);
  if (config.ipMasq && addresses.ips.length > 0) masquerade(kernel, planMasquerade(config, reserved.ips));
  const shaping = { host: ends.host, mtu: config.mtu };
  const added = addExtras(dependencies, planExtras(extras, current, shaping), undo);
  kernel.settleCarrier(ends.host);
  // It has a carrier when one of its ports has.
  if (bridge !== undefined && !bridge.operational) kernel.settleCarrier(bridge.name);
  const result = resultOf(config, bridge, ends, pod.path, { ...addresses, routes });
  return [
    { ...result, interfaces: [...result.interfaces, ...added] },
    { ...current, routes },
  ];
}

/** Ends as we have made them. */
type BornEnds = Ends & { readonly podMac: Mac };

/** What a port of the bridge needs before the pod's end is up. */
function preparePort(
  { config, dependencies: { kernel } }: Work,
  ends: BornEnds,
  bridge: Link,
  addresses: IpamResult,
): void {
  const port = { name: ends.host, mac: ends.podMac };
  if (config.macspoofchk) guard(kernel, spoofTable([port]));
  kernel.announce(bridge, port.mac, announced(config, addresses));
}

/** Addresses of which neighbours are told at once: an IPv6 address that may be a duplicate isn't claimed yet. */
const announced = ({ dad }: BridgeConfig, { ips }: IpamResult): Ip[] =>
  ips.map(({ address }) => addressOf(address)).filter((address) => !dad || familyOf(address) === 4);

/** The record says which name it is before there is a device of that name. */
function createEnds(work: Work, record: KnownAttachment, bridge: Link | undefined, undo: Undo): [BornEnds, Attachment] {
  const { config, pod, files, dependencies } = work;
  const { kernel } = dependencies;
  for (let salt = 0; salt < NAME_TRIES; salt++) {
    const link = salt === 0 ? record.link : { ...record.link, name: hostVethName(record, salt) };
    const ends = { host: link.name, hostMac: link.mac, pod: record.ifname, podMac: record.mac };
    const portMappings = record.portMappings && { ...record.portMappings, ...wayTo(config, link.name) };
    const current = { ...record, link, portMappings };
    if (salt > 0) files.write(current);
    let isMade = false;
    undo(async () => {
      await dependencies.removeLink(link);
      // After the port, so that nothing gets in by it unlooked at.
      if (isMade) unguardPort(work, current, ends);
    });
    isMade = createPair(kernel, pod, planHostEnd(config, ends, pod), ends, bridge);
    if (isMade) return [ends, current];
  }
  throw new NetError('foreign-object', `${NAME_TRIES} names for the host's end are taken by other devices`, {
    subject: record.link.name,
  });
}

function unguardPort(
  { config, dependencies: { kernel, sources } }: Work,
  record: Attachment,
  { host, podMac }: BornEnds,
): void {
  if (config.macspoofchk) unguard(kernel, spoofTable([{ name: host, mac: podMac }]));
  sources?.forget(record);
}

/** The interfaces are the bridge if there is one, the host's end, the pod's end; the addresses belong to the last. */
function resultOf(
  config: BridgeConfig,
  bridge: Link | undefined,
  ends: Ends,
  sandbox: string,
  addresses: IpamResult,
): Result {
  const { mtu } = config;
  const onHost = bridge === undefined ? [] : [{ name: bridge.name, mac: bridge.mac, mtu: bridge.mtu }];
  return {
    interfaces: [
      ...onHost,
      { name: ends.host, mac: ends.hostMac, mtu },
      { name: ends.pod, mac: ends.podMac, mtu, sandbox },
    ],
    ips: addresses.ips.map(({ address, gateway }) => ({ address, gateway, interface: onHost.length + 1 })),
    routes: addresses.routes,
    dns: Object.keys(config.dns).length > 0 ? config.dns : addresses.dns,
  };
}
