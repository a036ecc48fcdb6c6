// The backends by name.

import { NetError } from '../../model/errors.ts';
import { openAlloc } from './alloc.ts';
import type { Backend, BackendInput, OpenBackend } from './backend.ts';
import { openExtension } from './extension.ts';
import { openHostGw } from './host-gw.ts';
import { openUdp } from './udp.ts';
import { openVxlan } from './vxlan.ts';

const BACKENDS: Readonly<Record<string, OpenBackend>> = {
  alloc: openAlloc,
  extension: openExtension,
  'host-gw': openHostGw,
  udp: openUdp,
  vxlan: openVxlan,
};

/** The backend of that type. @throws NetError invalid-network-config naming key and value */
export function openBackend(type: string, input: BackendInput): Backend {
  const open = Object.hasOwn(BACKENDS, type) ? BACKENDS[type] : undefined;
  if (open !== undefined) return open(input);
  const known = Object.keys(BACKENDS).join(', ');
  const found =
    Object.keys(input.options).length === 0 ? `Backend: not given, which means "${type}"` : `Backend.Type: "${type}"`;
  throw new NetError('invalid-network-config', `${found}: not supported in this version, which has ${known}`, {
    subject: 'Backend.Type',
  });
}
