// Attachments that have ended without their DEL: after a reboot, a crash in the middle of ADD, the end of a pod's
// namespace. Only records are looked at. What has none is left alone, and so is every file that isn't one: names and MACs
// follow from the attachment, so that without one nothing proves that a device or an address is ours; its DEL still
// finds them.

import { DEFAULT_DATA_DIR } from '../ipam/config.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Mac } from '../model/ip.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { detachOwn, freeUnrecorded, isForeignOnly } from './detach.ts';
import { removeStrayGuards } from './guard.ts';
import { type AttachmentKey, hostVeth } from './names.ts';
import { restorer } from './restore.ts';
import { describe } from '../model/errors.ts';
import type { Dependencies } from './verbs.ts';

/** What was taken away or put back, or could not be, in words. */
export interface Reclaimed {
  readonly removed: readonly string[];
  /** Host ports, reservations, guards and routes of living attachments that were put back. */
  readonly restored: readonly string[];
  readonly problems: readonly string[];
}

/** Records looked at in one go, between which other requests are served. */
const CHUNK = 64;

/** Takes away the attachments under a directory of records that are dead. */
export async function reclaim(records: string, dependencies: Dependencies): Promise<Reclaimed> {
  const files = attachmentsIn(records, dependencies.lockTimeoutMs);
  const judge = judgeOf(dependencies);
  const restore = restorer(files, dependencies.kernel);
  const removed: string[] = [];
  const restored: string[] = [];
  const problems: string[] = [];
  const one = async (key: AttachmentKey): Promise<void> => {
    const name = nameOf(key);
    try {
      const reason = await reclaimOne(key, files, judge, dependencies);
      if (reason !== undefined) removed.push(`${name}: ${reason}`);
      else restored.push(...(await restore(key)).map((what) => `${name}: ${what}`));
    } catch (error) {
      problems.push(`${name}: ${describe(error)}`);
    }
  };
  try {
    for (const network of files.networks()) {
      const keys = files.list(network);
      for (let at = 0; at < keys.length; at += CHUNK) {
        await Promise.all(keys.slice(at, at + CHUNK).map(one));
        await new Promise(setImmediate);
      }
    }
    removed.push(...removeStrayGuards(dependencies.kernel).map((what) => `${what}: its interface is gone`));
  } catch (error) {
    problems.push(describe(error));
  }
  return { removed, restored, problems };
}

const nameOf = ({ network, containerId, ifname }: AttachmentKey): string =>
  `${ifname} of ${containerId} in network ${network}`;

/** Attachments that have records, in words. */
export interface Recorded {
  readonly staying: readonly string[];
  /** Those that {@link reclaim} takes away, with the reason. */
  readonly dead: readonly string[];
}

/** What is under a directory of records. Only looks. @throws NetError io, kernel */
export function recordedAttachments(records: string, host: Pick<Dependencies, 'kernel' | 'bootId'>): Recorded {
  const files = attachmentsIn(records, 0);
  const judge = judgeOf(host);
  const staying: string[] = [];
  const dead: string[] = [];
  for (const key of files.networks().flatMap((network) => files.list(network))) {
    const record = files.read(key);
    const reason = judge(key, record);
    // Another plugin's part outlives ours.
    if (reason === undefined || record?.foreign !== undefined) staying.push(nameOf(key));
    else dead.push(`${nameOf(key)}: ${reason}`);
  }
  return { staying, dead };
}

/** Why the attachment is dead; undefined when it lives, or nobody can tell. */
type Judge = (key: AttachmentKey, record: Attachment | undefined) => string | undefined;

/** Why it was taken away; undefined when it wasn't. */
async function reclaimOne(
  key: AttachmentKey,
  files: Attachments,
  judge: Judge,
  dependencies: Dependencies,
): Promise<string | undefined> {
  if (judge(key, files.read(key)) === undefined) return undefined;
  // Whoever holds the lock is at work on it.
  const unlock = await files.tryLock(key);
  if (unlock === undefined) return undefined;
  try {
    const record = files.read(key);
    const there = record !== undefined || files.list(key.network).some((other) => same(other, key));
    const reason = there ? judge(key, record) : undefined;
    if (reason === undefined) return undefined;
    if (record !== undefined) await detachOwn(record, files, dependencies);
    else freeUnrecorded(key, files, { addresses: DEFAULT_DATA_DIR });
    return record?.foreign === undefined ? reason : `${reason}; ${record.foreign.plugin} has its part until DEL or GC`;
  } finally {
    unlock();
  }
}

const same = (a: AttachmentKey, b: AttachmentKey): boolean => a.containerId === b.containerId && a.ifname === b.ifname;

function judgeOf({ kernel, bootId }: Pick<Dependencies, 'kernel' | 'bootId'>): Judge {
  const isThere = linkFinder(kernel);
  return (key, record) => {
    if (record === undefined) {
      // A loss of power may leave an empty file; the device's name and MAC follow from the key.
      const link = hostVeth(key);
      return isThere(link) ? undefined : 'its record is damaged and its interface gone';
    }
    if (isForeignOnly(record)) return undefined;
    if (record.bootId !== bootId) return 'it was made before the last boot';
    // Its device is in another network namespace, where this process sees nothing.
    if (record.host !== undefined && record.host !== kernel.host.id) return undefined;
    if (record.unfinished) return 'its ADD was broken off';
    return record.link === undefined || isThere(record.link) ? undefined : 'its interface is gone';
  };
}

/**
 * Whether a veth of the host has the name or the MAC. By name is cheap, and true nearly always; a device that has been
 * renamed is looked for among all, which are read once.
 */
function linkFinder(kernel: Kernel): (link: { readonly name: string; readonly mac: Mac }) => boolean {
  let macs: ReadonlySet<Mac | undefined> | undefined;
  return ({ name, mac }) => {
    const [found] = kernel.read(kernel.host, { links: [name] }).links;
    if (found?.kind === 'veth') return true;
    macs ??= new Set(kernel.read(kernel.host, { links: 'all' }).links.map((link) => link.mac));
    return macs.has(mac);
  };
}
