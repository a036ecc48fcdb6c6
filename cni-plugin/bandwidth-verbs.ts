// The plugin "flannel-bandwidth": limits the bandwidth of a pod that any other plugin has attached by a veth pair.

import type { Kernel } from '../kernel/kernel.ts';
import { NetError } from '../model/errors.ts';
import type { Link } from '../model/state.ts';
import { linkOf } from './attach.ts';
import { parseBandwidth, planShaping } from './bandwidth.ts';
import { handedResult, withoutPart, withPart } from './chained.ts';
import { ifbOf } from './names.ts';
import { openPod } from './pod.ts';
import type { Request } from './protocol.ts';
import { type Result, resultFor } from './result.ts';
import { shape, shapingDifferences } from './shaping.ts';
import type { Dependencies } from './verbs.ts';

/** Sets the limits, and hands on the result with the device that took. @throws NetError invalid-config, kernel, io, busy */
export async function addLimits(request: Request, dependencies: Dependencies): Promise<Record<string, unknown>> {
  const { kernel } = dependencies;
  const result = handedResult(request);
  const want = planOf(kernel, request, result);
  if (want === undefined) return resultFor(request.cniVersion, result);
  const ifbs = want.links.map(({ name, mac, mtu }) => ({ name, mac, mtu }));
  if (ifbs.length === 0) shape(kernel, want);
  else await withPart('flannel-bandwidth', request, dependencies, { ifb: ifbOf(request) }, () => shape(kernel, want));
  return resultFor(request.cniVersion, { ...result, interfaces: [...result.interfaces, ...ifbs] });
}

/** Undefined when nothing is to be limited. */
function planOf(kernel: Kernel, request: Request, { interfaces }: Result) {
  const { ingress, egress } = parseBandwidth(request);
  if (ingress === undefined && egress === undefined) return undefined;
  const names = interfaces.filter(({ sandbox }) => sandbox === undefined).map(({ name }) => name);
  const { name, mtu } = hostEnd(kernel, request, names);
  return planShaping({ ingress, egress }, { host: name, mtu, ifb: ifbOf(request) });
}

/** The other end of the pod's pair, among the interfaces that the plugins before have named. */
function hostEnd(kernel: Kernel, { netns, ifname }: Request, names: readonly string[]): Link {
  const pod = openPod(kernel, netns);
  try {
    const inside = linkOf(kernel, pod, ifname);
    if (inside?.peerIndex === undefined) throw noPeer(`container interface ${ifname} has no veth peer`, ifname);
    const { links } = kernel.read(kernel.host, { links: names });
    const found = links.find(({ index, peerIndex }) => index === inside.peerIndex && peerIndex === inside.index);
    if (found === undefined) throw noPeer('no veth peer of container interface found in host ns', ifname);
    return found;
  } finally {
    pod.close();
  }
}

const noPeer = (message: string, subject: string): NetError => new NetError('invalid-config', message, { subject });

/** Takes away the device for what the pod sends; the limit on the rest goes with the pair. @throws NetError kernel, io, busy */
export const delLimits = (request: Request, dependencies: Dependencies): Promise<void> =>
  withoutPart('flannel-bandwidth', request, dependencies);

/** @throws NetError invalid-config */
export async function limitStatus(request: Request): Promise<void> {
  parseBandwidth(request);
}

/** @throws NetError check-failed naming what is missing; and what ADD throws for a bad request */
export async function checkLimits(request: Request, { kernel }: Dependencies): Promise<void> {
  const want = planOf(kernel, request, handedResult(request));
  const differences = want === undefined ? [] : shapingDifferences(kernel, want);
  if (differences.length === 0) return;
  const message = `bandwidth of ${request.containerId} differs from its plan: ${differences.join('; ')}`;
  throw new NetError('check-failed', message, { subject: request.containerId });
}
