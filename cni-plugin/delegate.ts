// The verbs of flannel's form with another plugin than "bridge" to execute: the interface is that one's business. A record
// keeps what it was told, so that DEL tells it the same whatever has become of configuration and subnet file.

import { NetError } from '../model/errors.ts';
import { familyOf } from '../model/ip.ts';
import { type Attachment, attachmentsIn } from './attachments.ts';
import { placesOf } from './config.ts';
import { previousResult } from './check.ts';
import { clearPrevious } from './del.ts';
import { ask, askAdd, askStatus, nameOfResult } from './delegation.ts';
import { type ForeignPlugin, foreignOf } from './foreign.ts';
import { gatewayFor } from './plan.ts';
import { openPod, readSubnetFile } from './pod.ts';
import type { Request } from './protocol.ts';
import { parseResult, type Result, resultFor } from './result.ts';
import { whenReady } from './status.ts';
import { orUndo } from './undo.ts';
import type { Dependencies } from './verbs.ts';

/** @throws NetError as the plugin's own; duplicate-attachment; try-later without the subnet file */
export async function addDelegate(request: Request, dependencies: Dependencies): Promise<unknown> {
  const plugin = delegateOf(request);
  const pod = openPod(dependencies.kernel, request.netns);
  pod.close();
  const files = attachmentsIn(placesOf(request).records, dependencies.lockTimeoutMs);
  const unlock = await files.lock(request);
  try {
    await clearPrevious(request, files, dependencies);
    return await orUndo(async (undo) => {
      const record = intent(request, plugin, pod.id, dependencies);
      undo(() => files.remove(record));
      files.write(record);
      const result = inVersion(request, plugin, await askAdd(dependencies, plugin, undo));
      files.write({ ...record, unfinished: undefined });
      return result;
    });
  } finally {
    unlock();
  }
}

/** @throws NetError invalid-config, try-later */
function delegateOf(request: Request): ForeignPlugin {
  const plugin = foreignOf(request, readSubnetFile(request));
  if (plugin === undefined) throw new NetError('internal', 'the configuration names no plugin to execute');
  return plugin;
}

function intent(
  { network, containerId, ifname, netns, args }: Request,
  plugin: ForeignPlugin,
  netnsId: string,
  { kernel, bootId, now }: Dependencies,
): Attachment {
  return {
    plugin: 'flannel',
    bootId,
    host: kernel.host.id,
    created: now(),
    unfinished: true,
    network,
    containerId,
    ifname,
    netns: { path: netns, id: netnsId },
    addresses: [],
    routes: [],
    foreign: { ...plugin, args },
  };
}

/** A result of the configuration's version is handed on as it is. */
function inVersion({ cniVersion }: Request, plugin: ForeignPlugin, printed: unknown): unknown {
  const result = parseResult(printed, nameOfResult(plugin), 'plugin-failed');
  return (printed as { cniVersion?: unknown }).cniVersion === cniVersion ? printed : resultFor(cniVersion, result);
}

/** @throws NetError as the plugin's own; invalid-config without a previous result */
export async function checkDelegate(request: Request, dependencies: Dependencies): Promise<void> {
  const prevResult = resultFor(request.cniVersion, withNextHops(previousResult(request)));
  const { plugin, input } = delegateOf(request);
  await ask(dependencies, { plugin, input: JSON.stringify({ ...JSON.parse(input), prevResult }) }, 'CHECK');
}

/**
 * Flannel's routes name no next hop, so that ADD gives them the gateway; the reference's CHECK looks for one without any
 * (containernetworking/plugins, pkg/ip: ValidateExpectedRoute).
 */
function withNextHops(result: Result): Result {
  const routes = result.routes.map((route) => {
    const gw = route.gw ?? gatewayFor(result.ips, familyOf(route.dst));
    return gw === undefined ? route : { ...route, gw };
  });
  return { ...result, routes };
}

/** @throws NetError not-ready without the subnet file; as the plugin's own */
export async function delegateStatus(request: Request, dependencies: Dependencies): Promise<void> {
  await askStatus(
    dependencies,
    whenReady(() => delegateOf(request)),
  );
}
