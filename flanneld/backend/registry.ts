// The backends by name, and those of flannel's that are not here, which are refused by name. Pure.

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

/** What flannel has besides, and what of the kernel it would need; undefined: nothing of its own. */
const ELSEWHERE: Readonly<Record<string, string | undefined>> = {
  ipip: 'ipip',
  wireguard: 'wireguard',
  ipsec: undefined,
  'tencent-vpc': undefined,
};

/** The kind of link that a backend of flannel's needs and that no backend here does. */
export const foreignKind = (type: string): string | undefined =>
  Object.hasOwn(ELSEWHERE, type) ? ELSEWHERE[type] : undefined;

/** The backend of that type. @throws NetError invalid-network-config naming key and value */
export function openBackend(type: string, input: BackendInput): Backend {
  const open = Object.hasOwn(BACKENDS, type) ? BACKENDS[type] : undefined;
  if (open !== undefined) return open(input);
  const known = Object.keys(BACKENDS).join(', ');
  const found =
    Object.keys(input.options).length === 0 ? `Backend: not given, which means "${type}"` : `Backend.Type: "${type}"`;
  const what = Object.hasOwn(ELSEWHERE, type) ? `flannel's backend ${type} is not supported` : 'not supported';
  const lacking = input.lacking === undefined ? '' : ` (and this kernel has no ${input.lacking} links)`;
  throw new NetError('invalid-network-config', `${found}: ${what} in this version, which has ${known}${lacking}`, {
    subject: 'Backend.Type',
  });
}
