// What an attachment of "flannel" has besides its interface, when the runtime asks for it: ports of the host, and limits
// on its bandwidth.

import type { Kernel } from '../kernel/kernel.ts';
import type { Ip } from '../model/ip.ts';
import type { State } from '../model/state.ts';
import type { Attachment } from './attachments.ts';
import { type Bandwidth, isLimited, parseBandwidth, planShaping } from './bandwidth.ts';
import { closePorts, openPorts, portDifferences } from './host-ports.ts';
import { type AttachmentKey, ifbOf } from './names.ts';
import type { PortPlan } from './portmap.ts';
import { hostPorts, type PortmapConfig, parsePortmap } from './portmap-config.ts';
import type { Request } from './protocol.ts';
import type { CniInterface } from './result.ts';
import { shape, shapingDifferences } from './shaping.ts';
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

/** What the record says of them, so that they are found again whatever happens. @throws NetError invalid-config */
export function recorded({ portmap, bandwidth }: Extras, key: AttachmentKey, addresses: readonly Ip[]): Recorded {
  const ports = hostPorts(portmap, addresses);
  return {
    ...(ports.length > 0 && { portMappings: ports }),
    ...(bandwidth.egress !== undefined && { ifb: ifbOf(key) }),
  };
}

export interface ExtrasPlan {
  readonly ports: PortPlan;
  /** Undefined: no limits. */
  readonly shaping: State | undefined;
  readonly ifb: Recorded['ifb'];
}

/** The bridge, and the host's end of the pair with its MTU in bytes. */
interface Devices {
  readonly bridge: string;
  readonly host: string;
  readonly mtu: number | undefined;
}

/** Pure. */
export function planExtras(
  { portmap, bandwidth }: Extras,
  { portMappings = [], ifb, ...key }: Recorded & AttachmentKey,
  { bridge, host, mtu }: Devices,
): ExtrasPlan {
  return {
    ports: { ports: portMappings, device: bridge, isBridge: true, snat: portmap.snat },
    shaping: isLimited(bandwidth) ? planShaping(bandwidth, { host, mtu, ifb: ifbOf(key) }) : undefined,
    ifb,
  };
}

/** Puts the plan in place, and gives the interface that it adds, if any. @throws NetError kernel, foreign-object */
export function addExtras({ kernel, removeLink }: Dependencies, plan: ExtrasPlan, undo: Undo): CniInterface[] {
  const { ports, shaping, ifb } = plan;
  undo(() => closePorts(kernel, ports.ports));
  openPorts(kernel, ports);
  if (ifb !== undefined) undo(() => removeLink({ ...ifb, kind: 'ifb' }));
  if (shaping !== undefined) shape(kernel, shaping);
  return (shaping?.links ?? []).map(({ name, mac, mtu }) => ({ name, mac, mtu }));
}

/** What is missing of the plan, in words for CHECK. @throws NetError kernel, foreign-object */
export const extraDifferences = (kernel: Kernel, { ports, shaping }: ExtrasPlan): string[] => [
  ...portDifferences(kernel, ports),
  ...(shaping === undefined ? [] : shapingDifferences(kernel, shaping)),
];

/** Takes away what the record says of them: ports at once, devices by the time it resolves. @throws NetError kernel */
export async function removeExtras(
  { kernel, bootId, removeLink }: Dependencies,
  record: Recorded & Pick<Attachment, 'bootId'>,
): Promise<void> {
  // After a reboot another attachment may have the same ports and the same address.
  if (record.bootId === bootId) closePorts(kernel, record.portMappings ?? []);
  if (record.ifb !== undefined) await removeLink({ ...record.ifb, kind: 'ifb' });
}
