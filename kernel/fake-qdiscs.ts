// Queueing disciplines and redirects of the fake kernel (net/sched/sch_api.c, cls_api.c). Burst and limit are kept as
// read back; nothing is ever delayed.

import type { Qdisc, Redirect } from '../model/state.ts';
import { burstOf, ticksOf } from '../model/token-bucket.ts';
import { type Device, deviceNamed, type HeldQdisc, type Net, refuse } from './fake-net.ts';

/** Equivalent to: tc qdisc add|replace dev DEVICE root handle 1: tbf …, or … ingress */
export function addQdisc(net: Net, qdisc: Qdisc, replace: boolean): void {
  const device = deviceNamed(net, qdisc.device);
  const there = qdiscAt(net, device, qdisc.kind);
  if (there !== undefined && !replace) refuse('EEXIST');
  if (qdisc.kind === 'tbf' && (qdisc.rate === 0 || ticksOf(qdisc) === 0)) refuse('EINVAL');
  net.qdiscs = [...net.qdiscs.filter((held) => held !== there), { device, qdisc: asRead(qdisc) }];
}

const qdiscAt = (net: Net, device: Device, kind: Qdisc['kind']): HeldQdisc | undefined =>
  net.qdiscs.find((held) => held.device === device && held.qdisc.kind === kind);

const asRead = (qdisc: Qdisc): Qdisc =>
  qdisc.kind === 'tbf' ? { ...qdisc, burst: burstOf(qdisc.rate, ticksOf(qdisc)) } : qdisc;

/** Equivalent to: tc qdisc delete dev DEVICE root|ingress; the ingress takes its filters along */
export function deleteQdisc(net: Net, qdisc: Qdisc): void {
  const device = deviceNamed(net, qdisc.device);
  const there = qdiscAt(net, device, qdisc.kind) ?? refuse('ENOENT');
  net.qdiscs = net.qdiscs.filter((held) => held !== there);
  if (qdisc.kind === 'ingress') net.redirects = net.redirects.filter((held) => held.device !== device);
}

/** Equivalent to: tc filter add|replace dev DEVICE ingress … redirect dev TO */
export function addRedirect(net: Net, redirect: Redirect, replace: boolean): void {
  const to = deviceNamed(net, redirect.to);
  const device = filteredDevice(net, redirect);
  const there = net.redirects.find((held) => held.device === device);
  if (there !== undefined && !replace) refuse('EEXIST');
  net.redirects = [...net.redirects.filter((held) => held !== there), { device, to }];
}

/** Equivalent to: tc filter delete dev DEVICE ingress …; where it leads doesn't matter */
export function deleteRedirect(net: Net, redirect: Redirect): void {
  const device = filteredDevice(net, redirect);
  const there = net.redirects.find((held) => held.device === device) ?? refuse('ENOENT');
  net.redirects = net.redirects.filter((held) => held !== there);
}

function filteredDevice(net: Net, { device: name }: Redirect): Device {
  const device = deviceNamed(net, name);
  return qdiscAt(net, device, 'ingress') === undefined ? refuse('EINVAL') : device;
}

/** The device's disciplines end with it; a redirect to it stays, and leads nowhere. */
export function dropQdiscs(device: Device): void {
  const { net } = device;
  net.qdiscs = net.qdiscs.filter((held) => held.device !== device);
  net.redirects = net.redirects.filter((held) => held.device !== device);
}

/** The disciplines and redirects of the devices, as they are read. */
export function readQdiscs(net: Net, names: readonly string[]): { qdiscs: Qdisc[]; redirects: Redirect[] } {
  const devices = names.flatMap((name) => net.devices.filter((device) => device.name === name));
  return {
    qdiscs: devices.flatMap((device) =>
      (['tbf', 'ingress'] as const).flatMap((kind) => qdiscAt(net, device, kind)?.qdisc ?? []),
    ),
    redirects: devices.flatMap((device) =>
      net.redirects
        .filter((held) => held.device === device && net.devices.includes(held.to))
        .map(({ to }) => ({ device: device.name, to: to.name })),
    ),
  };
}
