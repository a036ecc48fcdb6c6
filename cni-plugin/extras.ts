// What an attachment of "flannel" has besides its interface, when the runtime asks for it: ports of the host, and limits
// on its bandwidth.

import type { Kernel } from '../kernel/kernel.ts';
import type { Ip } from '../model/ip.ts';
import { deviceName } from '../model/ruleset.ts';
import type { State } from '../model/state.ts';
import type { Attachment } from './attachments.ts';
import { type Bandwidth, isLimited, parseBandwidth, planShaping, type ShapedPair } from './bandwidth.ts';
import { closePorts, openPorts, portDifferences } from './host-ports.ts';
import type { PortPlan } from './portmap.ts';
import { type AttachmentKey, ifbOf } from './names.ts';
import { hostPorts, type PortmapConfig, parsePortmap } from './portmap-config.ts';
import type { Request } from './protocol.ts';
import type { CniInterface } from './result.ts';
import { shapeNew, shapingDifferences } from './shaping.ts';
import type { Undo } from './undo.ts';
import type { Dependencies } from './verbs.ts';

export interface Extras {
  readonly portmap: PortmapConfig;
  readonly bandwidth: Bandwidth;
}

/** @throws NetError invalid-config, unsupported-field */
export const parseExtras = (request: Request): Extras => ({
  portmap: parsePortmap(request),
  bandwidth: parseBandwidth(request),
});

type Recorded = Pick<Attachment, 'portMappings' | 'ifb'>;

/** The host's device by which the pod is reached. */
export type Way = Pick<PortPlan, 'device' | 'isBridge'>;

/** What the record says of them, so that they are found again whatever happens. @throws NetError invalid-config */
export function recorded(
  { portmap, bandwidth }: Extras,
  key: AttachmentKey,
  way: Way,
  addresses: readonly Ip[],
): Recorded {
  const ports = hostPorts(portmap, addresses);
  // Rules will name the bridge: a name that can't stand in one is refused before the kernel is changed.
  if (ports.length > 0 && way.device !== undefined) deviceName(way.device);
  return {
    ...(ports.length > 0 && { portMappings: { ports, ...way, snat: portmap.snat } }),
    ...(bandwidth.egress !== undefined && { ifb: ifbOf(key) }),
  };
}

export interface ExtrasPlan extends Recorded {
  /** Undefined: no limits. */
  readonly shaping: State | undefined;
}

/** The plan for a pair with this host's end and MTU in bytes. Pure. */
export function planExtras(
  { bandwidth }: Extras,
  { portMappings, ifb, ...key }: Recorded & AttachmentKey,
  { host, mtu }: Pick<ShapedPair, 'host' | 'mtu'>,
): ExtrasPlan {
  const shaping = isLimited(bandwidth) ? planShaping(bandwidth, { host, mtu, ifb: ifbOf(key) }) : undefined;
  return { portMappings, ifb, shaping };
}

/** Puts the plan in place, and gives the interface that it adds, if any. @throws NetError kernel, foreign-object */
export function addExtras({ kernel, removeLink }: Dependencies, plan: ExtrasPlan, undo: Undo): CniInterface[] {
  const { portMappings, shaping, ifb } = plan;
  if (portMappings !== undefined) {
    undo(() => closePorts(kernel, portMappings));
    openPorts(kernel, portMappings);
  }
  if (ifb !== undefined) undo(() => removeLink({ ...ifb, kind: 'ifb' }));
  if (shaping !== undefined) shapeNew(kernel, shaping);
  return (shaping?.links ?? []).map(({ name, mac, mtu }) => ({ name, mac, mtu }));
}

/** What is missing of the plan, in words for CHECK. @throws NetError kernel, foreign-object */
export const extraDifferences = (kernel: Kernel, { portMappings, shaping }: ExtrasPlan): string[] => [
  ...(portMappings === undefined ? [] : portDifferences(kernel, portMappings)),
  ...(shaping === undefined ? [] : shapingDifferences(kernel, shaping)),
];

/** Takes away what the record says of them: ports at once, devices by the time it resolves. @throws NetError kernel */
export async function removeExtras(
  { kernel, bootId, removeLink }: Dependencies,
  record: Recorded & Pick<Attachment, 'bootId'>,
): Promise<void> {
  // After a reboot another attachment may have the same ports and the same address.
  if (record.portMappings !== undefined && record.bootId === bootId) closePorts(kernel, record.portMappings);
  if (record.ifb !== undefined) await removeLink({ ...record.ifb, kind: 'ifb' });
}
