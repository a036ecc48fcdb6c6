// STATUS (spec 1.1.0): whether an ADD would find what it needs, and if not, what is missing. It changes nothing.

import { reservations } from '../ipam/verbs.ts';
import { asNetError, describe, NetError } from '../model/errors.ts';
import { linkOf } from './attach.ts';
import { parseConfig, parseOwnIpam, placesOf } from './config.ts';
import { askStatus } from './delegation.ts';
import { readSubnetFile } from './pod.ts';
import type { Request } from './protocol.ts';
import type { Dependencies } from './verbs.ts';

/**
 * @throws NetError not-ready (code 50) naming what is missing; what the configuration itself is wrong about as ADD would;
 * another plugin's own error
 */
export async function status(request: Request, dependencies: Dependencies): Promise<void> {
  const { kernel } = dependencies;
  const config = parseConfig(
    request,
    whenReady(() => readSubnetFile(request)),
  );
  const bridge = linkOf(kernel, kernel.host, config.bridge);
  if (bridge !== undefined && bridge.kind !== 'bridge') {
    throw new NetError('not-ready', `"${config.bridge}" already exists but is not a bridge`, {
      subject: config.bridge,
    });
  }
  storeIsReadable(request);
  if (config.foreignIpam !== undefined) await askStatus(dependencies, config.foreignIpam);
}

/** STATUS of the plugin "flannel-ipam". @throws NetError not-ready */
export async function addressStatus(request: Request): Promise<void> {
  parseOwnIpam(request);
  storeIsReadable(request);
}

function storeIsReadable(request: Request): void {
  const { addresses: dataDir } = placesOf(request);
  if (dataDir !== undefined) whenReady(() => reservations({ dataDir, network: request.network }));
}

/** What would only have to be tried again is "not available" here: the runtime asks STATUS again by itself. */
export function whenReady<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    const known = asNetError(error);
    if (!known.transient && known.code !== 'io') throw known;
    throw new NetError('not-ready', describe(known), { subject: known.subject, cause: known.cause });
  }
}
