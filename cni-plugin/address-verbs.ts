// The plugin "flannel-ipam": address management alone, executed by another plugin (Go's bridge or macvlan, say) under
// the name in its `ipam.type`. It keeps records as well, so that a reboot voids what it reserved too.

import { release, verify } from '../ipam/verbs.ts';
import { addressOf } from '../model/ip.ts';
import { type Attachment, type Attachments, attachmentsIn } from './attachments.ts';
import { previousResult } from './check.ts';
import { parseOwnIpam, placesOf } from './config.ts';
import { clearPrevious } from './del.ts';
import { detach, freeUnrecorded, isYounger } from './detach.ts';
import { podOfArgs, type Request } from './protocol.ts';
import { reserveAddresses } from './reservations.ts';
import { resultFor } from './result.ts';
import { orUndo } from './undo.ts';
import type { Dependencies } from './verbs.ts';

/** Reserves addresses and returns a result without interfaces. @throws NetError; then nothing is reserved */
export async function addAddresses(request: Request, dependencies: Dependencies): Promise<Record<string, unknown>> {
  const config = parseOwnIpam(request);
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  return locked(files, request, async () => {
    await clearPrevious(request, files, dependencies);
    return orUndo(async (undo) => {
      const record = intent(request, config.dataDir, dependencies);
      undo(() => files.remove(request));
      files.write(record);
      const { ips, routes, dns } = await reserveAddresses(config, request, files, dependencies.bootId);
      const addresses = ips.map(({ address }) => addressOf(address));
      undo(() => release(config, request, addresses));
      const known = { ...record, addresses, routes };
      if (dependencies.admit !== undefined) files.write(known);
      await dependencies.admit?.(known);
      const result = resultFor(request.cniVersion, { interfaces: [], ips, routes, dns });
      files.write({ ...known, unfinished: undefined });
      return result;
    });
  });
}

async function locked<T>(files: Attachments, request: Request, action: () => T | Promise<T>): Promise<T> {
  const unlock = await files.lock(request);
  try {
    return await action();
  } finally {
    unlock();
  }
}

function intent(
  { network, containerId, ifname, netns, args }: Request,
  addressDir: string,
  { kernel, bootId, now, call }: Dependencies,
): Attachment {
  const key = { network, containerId, ifname };
  return {
    plugin: 'flannel-ipam',
    bootId,
    host: kernel.host.id,
    created: now(),
    unfinished: true,
    call,
    ...key,
    netns: { path: netns },
    addressDir,
    addresses: [],
    routes: [],
    pod: podOfArgs(args),
  };
}

/** Frees the addresses; one that has none is no error. @throws NetError io, busy */
export async function delAddresses(request: Request, dependencies: Dependencies): Promise<void> {
  const places = placesOf(request);
  const files = attachmentsIn(places.records, dependencies.lockTimeoutMs);
  await locked(files, request, async () => {
    const record = files.read(request);
    if (record === undefined) freeUnrecorded(request, files, places);
    else if (!isYounger(record, dependencies)) await detach(record, files, dependencies);
  });
}

/** @throws NetError check-failed naming the reservation that is missing */
export async function checkAddresses(request: Request, dependencies: Dependencies): Promise<void> {
  const config = parseOwnIpam(request);
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  await locked(files, request, () => {
    previousResult(request);
    verify(config, request, files.read(request)?.addresses ?? []);
  });
}
