// What somebody has removed from attachments that live, put back: host ports, reservations of addresses, the guard of a
// port, the host's way to a pod without a bridge. Only records are looked at, and the kernel is read without their locks until something is missing.

import { reserveAgain, unreserved } from '../ipam/verbs.ts';
import { type Kernel, throwFirst } from '../kernel/kernel.ts';
import { diff } from '../model/diff.ts';
import { hostPrefix } from '../model/ip.ts';
import { EMPTY_STATE } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';
import { readRoutedHost } from './attach.ts';
import type { Attachment, Attachments } from './attachments.ts';
import { restoreGuard } from './guard.ts';
import { restorePorts } from './host-ports.ts';
import type { AttachmentKey } from './names.ts';
import { planHost } from './plan.ts';
import { portTable } from './portmap.ts';
import { SPOOF_TABLE, spoofTable } from './spoof.ts';
import { missingFrom, TABLE } from './table.ts';

/** Puts back what is missing, and gives it in words. */
type Repair = () => string[];

/** A function that puts back what is missing of an attachment. A table is read once, and if there is need of it. */
export function restorer(files: Attachments, kernel: Kernel): (key: AttachmentKey) => Promise<string[]> {
  const main = readOnce(() => kernel.readTable(TABLE.family, TABLE.name));
  const guards = readOnce(() => kernel.readTable(SPOOF_TABLE.family, SPOOF_TABLE.name));
  const ports = ({ portMappings }: Attachment): Repair[] => {
    if (portMappings === undefined || missingFrom(main(), portTable(portMappings)).length === 0) return [];
    return [() => restorePorts(kernel, portMappings, main())];
  };
  const guard = ({ link, guardedMac }: Attachment): Repair[] => {
    if (link === undefined || guardedMac === undefined) return [];
    const want = spoofTable([{ name: link.name, mac: guardedMac }]);
    return missingFrom(guards(), want).length === 0 ? [] : [() => restoreGuard(kernel, want)];
  };
  const repairs = (record: Attachment | undefined): Repair[] => {
    if (record === undefined || (record.host !== undefined && record.host !== kernel.host.id)) return [];
    return [...ports(record), ...reservationsOf(record), ...guard(record), ...wayOf(kernel, record)];
  };
  return async (key) => {
    if (repairs(files.read(key)).length === 0) return [];
    const unlock = await files.tryLock(key);
    if (unlock === undefined) return [];
    try {
      return repairs(files.read(key)).flatMap((repair) => repair());
    } finally {
      unlock();
    }
  };
}

function readOnce<T>(read: () => T): () => T {
  let known: { readonly value: T } | undefined;
  return () => {
    known ??= { value: read() };
    return known.value;
  };
}

/** Another pod would get the address. Without a device nothing shows that it is in use. */
function reservationsOf(record: Attachment): Repair[] {
  const { addressDir, network, addresses, link } = record;
  if (addressDir === undefined || link === undefined) return [];
  const store = { dataDir: addressDir, network };
  const missing = unreserved(store, record, addresses);
  if (missing.length === 0) return [];
  return [
    () => {
      reserveAgain(store, record, missing);
      return missing.map((ip) => `reservation of ${ip}`);
    },
  ];
}

function wayOf(kernel: Kernel, record: Attachment): Repair[] {
  const steps = missingWay(kernel, record);
  if (steps.length === 0) return [];
  return [
    () => {
      throwFirst(kernel.apply(kernel.host, steps));
      return steps.map(printStep);
    },
  ];
}

/** Neighbours and routes on the host's end; settings of the host are for people to change. */
function missingWay(kernel: Kernel, { link, ifname, routed, addresses }: Attachment): Step[] {
  if (link === undefined || routed === undefined) return [];
  const ends = { host: link.name, hostMac: link.mac, pod: ifname, podMac: routed.mac };
  const ips = addresses.map((address) => ({ address: hostPrefix(address), gateway: undefined }));
  const { neighbours, routes } = planHost(ends, ips);
  const want = { ...EMPTY_STATE, neighbours, routes };
  return diff(readRoutedHost(kernel, link.name, want), want);
}
