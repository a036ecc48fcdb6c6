// The plugin "flannel-portmap": host ports for a pod that any other plugin has attached.

import type { Kernel } from '../kernel/kernel.ts';
import { hasCode, NetError } from '../model/errors.ts';
import { addressOf, type Ip } from '../model/ip.ts';
import { linkOf } from './attach.ts';
import { handedResult, withoutPart, withPart } from './chained.ts';
import { closePorts, openPorts, portDifferences } from './host-ports.ts';
import type { PortPlan } from './portmap.ts';
import { hostPorts, parsePortmap } from './portmap-config.ts';
import type { Request } from './protocol.ts';
import { type CniAddress, type Result, resultFor } from './result.ts';
import { TABLE } from './table.ts';
import type { Dependencies } from './verbs.ts';

/** Opens the ports, and hands on the result. @throws NetError invalid-config, unsupported-field, kernel, io, busy */
export async function addPorts(request: Request, dependencies: Dependencies): Promise<Record<string, unknown>> {
  const { kernel } = dependencies;
  const result = handedResult(request);
  const plan = planOf(kernel, request, result);
  if (plan.ports.length > 0) {
    await withPart('flannel-portmap', request, dependencies, { portMappings: plan }, (before) => {
      if (before.portMappings !== undefined) closePorts(kernel, before.portMappings);
      openPorts(kernel, plan);
    });
  }
  return resultFor(request.cniVersion, result);
}

function planOf(kernel: Kernel, request: Request, result: Result): PortPlan {
  const config = parsePortmap(request);
  const addresses = result.ips
    .filter((each) => isOnInterface(each, result, request))
    .map(({ address }) => addressOf(address));
  const ports = hostPorts(config, addresses);
  const device = ports[0] === undefined ? undefined : deviceTo(kernel, ports[0].address);
  const isBridge = device !== undefined && linkOf(kernel, kernel.host, device)?.kind === 'bridge';
  return { ports, device, isBridge, snat: config.snat };
}

/** An address that names no interface, or one that isn't there, is taken for the pod's. */
function isOnInterface({ interface: index }: CniAddress, { interfaces }: Result, { ifname }: Request): boolean {
  const device = index === undefined ? undefined : interfaces[index];
  return device === undefined || (device.name === ifname && device.sandbox !== undefined);
}

/** Undefined when the host has no way to the pod of its own. */
function deviceTo(kernel: Kernel, address: Ip): string | undefined {
  try {
    return kernel.routeTo(kernel.host, address).device;
  } catch (error) {
    if (hasCode(error, 'kernel')) return undefined;
    throw error;
  }
}

/** Closes the ports that the record names. @throws NetError kernel, io, busy */
export const delPorts = (request: Request, dependencies: Dependencies): Promise<void> =>
  withoutPart('flannel-portmap', request, dependencies);

/** @throws NetError not-ready when nftables can't be used; and what ADD throws for a bad configuration */
export async function portStatus(request: Request, { kernel }: Dependencies): Promise<void> {
  parsePortmap(request);
  try {
    kernel.readTable(TABLE.family, TABLE.name);
  } catch (cause) {
    throw new NetError('not-ready', 'nftables can not be used', { cause });
  }
}

/** @throws NetError check-failed naming what is missing; and what ADD throws for a bad request */
export async function checkPorts(request: Request, { kernel }: Dependencies): Promise<void> {
  const differences = portDifferences(kernel, planOf(kernel, request, handedResult(request)));
  if (differences.length === 0) return;
  const message = `host ports of ${request.containerId} differ from their plan: ${differences.join('; ')}`;
  throw new NetError('check-failed', message, { subject: request.containerId });
}
