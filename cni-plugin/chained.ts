// What the plugins have in common that are called behind another one in a list. They hand on the result they were handed,
// and share one record for the attachment: each adds its part and takes it out again, and the record goes with its last.

import { isObject } from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { placesOf } from './config.ts';
import { detach, isYounger } from './detach.ts';
import { removeExtras } from './extras.ts';
import type { Request } from './protocol.ts';
import { parseResult, type Result } from './result.ts';
import { orUndo } from './undo.ts';
import type { Dependencies } from './verbs.ts';

/** The part of the record that is each plugin's. A record of theirs has no others. */
const PARTS = { 'flannel-portmap': 'portMappings', 'flannel-bandwidth': 'ifb' } as const;

export type ChainedPlugin = keyof typeof PARTS;

/** @throws NetError invalid-config when no plugin was called before; decoding */
export function handedResult({ config }: Request): Result {
  const given = Object.entries(config).find(([key]) => key.toLowerCase() === 'prevresult')?.[1];
  if (!isObject(given)) throw new NetError('invalid-config', 'must be called as chained plugin');
  return parseResult(given);
}

async function locked<T>(
  request: Request,
  { lockTimeoutMs }: Dependencies,
  action: (files: Attachments) => Promise<T>,
): Promise<T> {
  const files = attachmentsIn(placesOf(request).records, lockTimeoutMs);
  const unlock = await files.lock(request);
  try {
    return await action(files);
  } finally {
    unlock();
  }
}

/**
 * Writes the plugin's part into the attachment's record, then acts. When that fails, the part is taken out again.
 * @throws NetError io, busy, and what the action throws
 */
export async function withPart(
  plugin: ChainedPlugin,
  request: Request,
  dependencies: Dependencies,
  part: Pick<Attachment, 'portMappings' | 'ifb'>,
  action: (before: Attachment) => void,
): Promise<void> {
  await locked(request, dependencies, (files) =>
    orUndo(async (undo) => {
      const before = await currentRecord(plugin, request, files, dependencies);
      const record = { ...before, ...part };
      undo(() => takeOut(plugin, record, files, dependencies));
      files.write(record);
      action(before);
    }),
  );
}

/** The attachment's record of this boot; a new one where no plugin of ours has made any. */
async function currentRecord(
  plugin: ChainedPlugin,
  { network, containerId, ifname, netns }: Request,
  files: Attachments,
  dependencies: Dependencies,
): Promise<Attachment> {
  const { bootId, kernel } = dependencies;
  const key = { network, containerId, ifname };
  const record = files.read(key);
  if (record?.bootId === bootId) return record;
  if (record !== undefined) await detach(record, files, dependencies);
  const created = dependencies.now();
  return { plugin, bootId, host: kernel.host.id, created, ...key, netns: { path: netns }, addresses: [], routes: [] };
}

async function takeOut(plugin: ChainedPlugin, record: Attachment, files: Attachments, dependencies: Dependencies) {
  const part = PARTS[plugin];
  await removeExtras(dependencies, { bootId: record.bootId, [part]: record[part] });
  const rest = { ...record, [part]: undefined };
  const isEmpty = Object.values(PARTS).every((each) => rest[each] === undefined);
  if (isEmpty && Object.hasOwn(PARTS, rest.plugin)) files.remove(rest);
  else files.write(rest);
}

/** DEL: takes the plugin's part out of the record, with what it speaks of. @throws NetError kernel, io, busy */
export async function withoutPart(plugin: ChainedPlugin, request: Request, dependencies: Dependencies): Promise<void> {
  await locked(request, dependencies, async (files) => {
    const record = files.read(request);
    if (record?.[PARTS[plugin]] === undefined || isYounger(record, dependencies)) return;
    await takeOut(plugin, record, files, dependencies);
  });
}
