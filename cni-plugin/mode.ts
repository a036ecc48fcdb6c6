// How a pod is attached, `mode`: to a bridge, or by a link of its own that the host routes to; and which keys only a bridge
// can give a meaning. Pure.

import { NetError } from '../model/errors.ts';
import type { Request } from './protocol.ts';

export const MODES = ['bridge', 'routed'] as const;
export type Mode = (typeof MODES)[number];

/** Of these the reference plugin's meaning is lost without a bridge, and with some of them what is let through. */
const OF_BRIDGES = ['bridge', 'forceAddress', 'promiscMode', 'portIsolation', 'macspoofchk'] as const;

type BridgeKeys = Readonly<Partial<Record<(typeof OF_BRIDGES)[number], unknown>>>;

/** @throws NetError invalid-config naming every key that asks for something of a bridge */
export function refuseBridgeKeys(keys: BridgeKeys, { network }: Pick<Request, 'network'>): void {
  const asked = OF_BRIDGES.filter((key) => keys[key]);
  if (asked.length === 0) return;
  const message = `network ${network}: mode "routed" has no bridge: remove ${asked.join(', ')}`;
  throw new NetError('invalid-config', message, { subject: asked[0] });
}
