// DEL of the plugin "flannel": what ADD did, backwards. It succeeds whatever is missing (namespace, interface, record,
// reservation), and an address is freed only after the interface that has it is gone.

import { verify } from '../ipam/verbs.ts';
import { hasCode, NetError } from '../model/errors.ts';
import type { Ip } from '../model/ip.ts';
import type { Namespace } from '../model/state.ts';
import { isOurs, removeByPodEnd, removePodEnd } from './attach.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { type Places, placesOf } from './config.ts';
import { detach, freeUnrecorded, isYounger } from './detach.ts';
import { type AttachmentKey, hostVeth } from './names.ts';
import { ask } from './delegation.ts';
import { flannelFile } from './flannel-file.ts';
import { type ForeignPlugin, foreignOf } from './foreign.ts';
import { openPodIfThere, subnetFileIfThere } from './pod.ts';
import type { Request } from './protocol.ts';
import { removeReferenceChains } from './reference-chains.ts';
import type { Dependencies } from './verbs.ts';

/** Detaches the pod. @throws NetError kernel, io, busy; invalid-netns for the host's own namespace */
export async function del(request: Request, dependencies: Dependencies): Promise<void> {
  const places = placesOf(request);
  const pod = openPodIfThere(dependencies.kernel, request.netns);
  try {
    const files = attachmentsIn(places.records, dependencies.lockTimeoutMs);
    const unlock = await files.lock(request);
    try {
      const record = files.read(request);
      if (record === undefined) {
        await removeUnrecorded(request, pod, places, dependencies);
        await askUnrecorded(request, places, dependencies);
        freeUnrecorded(request, files, places);
      } else if (!isYounger(record, dependencies)) {
        removeRenamed(record, pod, dependencies);
        await detach(record, files, dependencies, request);
      }
    } finally {
      unlock();
    }
  } finally {
    pod?.close();
  }
}

/** Somebody may have given the host's end another name: then the pair is known by the pod's end. */
function removeRenamed(
  { link, mac, ifname }: Attachment,
  pod: Namespace | undefined,
  { kernel }: Pick<Dependencies, 'kernel'>,
): void {
  if (pod === undefined || link === undefined || mac === undefined || isOurs(kernel, link)) return;
  removeByPodEnd(kernel, pod, { name: ifname, mac });
}

/**
 * Without a record, the pair is known by the names ADD gives. One that another program attached is found by the pod's
 * end, and is this attachment's only if the store says that it has an address: else an ADD that failed because the pod
 * had such an interface would be followed by a DEL that removes it.
 */
async function removeUnrecorded(
  request: Request,
  pod: Namespace | undefined,
  places: Places,
  { kernel, removeLink }: Dependencies,
): Promise<void> {
  if (await removeLink(hostVeth(request))) return;
  const { network, ifname } = request;
  const { addresses, bridge } = places;
  if (pod === undefined || addresses === undefined) return;
  if (holds({ dataDir: addresses, network }, request, [])) removePodEnd(kernel, pod, ifname, bridge);
}

/**
 * Without a record, another plugin may still have a part in the attachment: one that flannel's own plugin told, or the
 * configuration's address management. A plugin that makes interfaces has never been executed by us for it.
 */
async function askUnrecorded(request: Request, { records }: Places, dependencies: Dependencies): Promise<void> {
  const file = flannelFile(request, records);
  const plugin = file === undefined ? ipamIfValid(request) : file.plugin;
  if (plugin !== undefined) await ask(dependencies, plugin, 'DEL');
  if (file === undefined) return;
  removeReferenceChains(dependencies.kernel, request);
  file.remove();
}

/** With a configuration that ADD refuses, no plugin was executed. */
function ipamIfValid(request: Request): ForeignPlugin | undefined {
  try {
    const plugin = foreignOf(request, subnetFileIfThere(request));
    return plugin?.role === 'ipam' ? plugin : undefined;
  } catch (error) {
    if (hasCode(error, 'invalid-config')) return undefined;
    throw error;
  }
}

/**
 * Before ADD: clears away what is left of an attachment that died, by a reboot or in the middle of an ADD, or whose
 * client asks again: the agent that made it died before it had answered.
 * @throws NetError duplicate-attachment when it is alive; kernel, io
 */
export async function clearPrevious(request: Request, files: Attachments, dependencies: Dependencies): Promise<void> {
  const record = files.read(request);
  if (record === undefined) return;
  const { network, containerId, ifname } = record;
  if (isAlive(record, dependencies) && !isAskedAgain(record, dependencies)) {
    const message = `container ${containerId} already has interface ${ifname} in network ${network}`;
    throw new NetError('duplicate-attachment', message, { subject: containerId });
  }
  await detach(record, files, dependencies);
}

/**
 * An attachment dies with the boot it was made in, with its ADD (whoever asks holds the lock, so it isn't at work), or
 * with its device; one without a device, with its reservations. Another plugin's interface is nobody's to judge.
 */
function isAlive(record: Attachment, { kernel, bootId }: Dependencies): boolean {
  if (record.bootId !== bootId || record.unfinished) return false;
  if (record.foreign?.role === 'interface') return true;
  return record.link === undefined ? holdsAddresses(record) : isOurs(kernel, record.link);
}

const isAskedAgain = (record: Attachment, { call }: Dependencies): boolean =>
  call !== undefined && record.call === call;

function holdsAddresses({ addressDir, addresses, ...key }: Attachment): boolean {
  if (addressDir === undefined || addresses.length === 0) return false;
  return holds({ dataDir: addressDir, network: key.network }, key, addresses);
}

/** Whether the addresses are reserved for the attachment; with none given, whether any is. */
function holds(store: Parameters<typeof verify>[0], key: AttachmentKey, addresses: readonly Ip[]): boolean {
  try {
    verify(store, key, addresses);
    return true;
  } catch (error) {
    if (hasCode(error, 'check-failed')) return false;
    throw error;
  }
}
