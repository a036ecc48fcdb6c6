// Host ports, the kernel's side: opens the ports of an attachment, compares them with their plan, closes them. The hot
// path does not look first: it adds elements, and looks closer where the kernel says ENOENT or EEXIST.

import { type Kernel, throwFirst } from '../kernel/kernel.ts';
import { diff } from '../model/diff.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import { familyOf } from '../model/ip.ts';
import type { NftCommand, NftSet, Table } from '../model/ruleset.ts';
import { EMPTY_STATE } from '../model/state.ts';
import { printStep } from '../model/steps.ts';
import { commitElements } from './in-place.ts';
import { localhostSettings, type PortPlan, portTable, takeOut, takeOver } from './portmap.ts';
import type { HostPort } from './portmap-config.ts';
import {
  addElements,
  brokenChains,
  declaration,
  elements,
  missingElements,
  missingFrom,
  TABLE,
  transaction,
} from './table.ts';

/** Two attachments that fight for a port at once find each other's element within one more try. */
const TRIES = 5;

/** Opens the ports, whoever had them before: the newest attachment wins. @throws NetError kernel, busy */
export function openPorts(kernel: Kernel, plan: PortPlan): void {
  if (plan.ports.length === 0) return;
  const settings = localhostSettings(plan);
  throwFirst(
    kernel.apply(
      kernel.host,
      settings.map((value) => ({ verb: 'change', item: { type: 'sysctl', value } })),
    ),
  );
  claim(kernel, portTable(plan));
  forgetSenders(kernel, plan.ports, false);
}

function claim(kernel: Kernel, want: Table): void {
  try {
    commitElements(kernel, addElements(want));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'EEXIST')) throw error;
    // The first port since the table was there last, or one that another attachment has.
    kernel.commit(transaction(declaration(want)));
    for (const set of want.sets) for (const one of set.elements) claimOne(kernel, set, one);
  }
}

function claimOne(kernel: Kernel, set: NftSet, one: string): void {
  for (let tries = 0; tries < TRIES; tries++) {
    if (commits(kernel, elements('add', set, [one]), 'EEXIST')) return;
    if (commits(kernel, takeOver(set, one), 'ENOENT')) return;
  }
  throw new NetError('busy', `host port ${one} keeps changing hands`, { subject: one });
}

/** Commits, and tells whether it came to that or to one of the errnos. */
function commits(kernel: Kernel, commands: readonly NftCommand[], ...expected: readonly string[]): boolean {
  try {
    commitElements(kernel, transaction(commands));
    return true;
  } catch (error) {
    if (expected.some((errno) => hasErrno(error, errno))) return false;
    throw error;
  }
}

/** Closes those of the ports that the attachment still has. @throws NetError kernel */
export function closePorts(kernel: Kernel, { ports }: Pick<PortPlan, 'ports'>): void {
  if (ports.length === 0) return;
  // A bridge may lead to other pods with ports.
  const { sets } = portTable({ ports, isBridge: false, snat: true });
  const all = sets.flatMap((set) => takeOut(set, set.elements));
  if (!commits(kernel, all, 'EEXIST', 'ENOENT')) {
    for (const set of sets) {
      for (const one of set.elements) commits(kernel, takeOut(set, [one]), 'EEXIST', 'ENOENT');
    }
  }
  forgetSenders(kernel, ports, true);
}

/**
 * Forgets who has been sending datagrams to the ports: their flows would lead where they led before for as long as they
 * send. A kernel that can't is no reason to fail: all others are served.
 */
function forgetSenders(kernel: Kernel, ports: readonly HostPort[], isOwn: boolean): void {
  for (const { protocol, hostPort, hostIP, address } of ports.filter((port) => port.protocol === 'udp')) {
    const filter = { family: familyOf(address), protocol, destinationPort: hostPort, destination: hostIP };
    try {
      kernel.forgetFlows(isOwn ? { ...filter, end: address } : filter);
    } catch {}
  }
}

/** What is missing of the ports, in words for CHECK. @throws NetError kernel */
export function portDifferences(kernel: Kernel, plan: PortPlan): string[] {
  if (plan.ports.length === 0) return [];
  const sysctls = localhostSettings(plan);
  const have = kernel.read(kernel.host, { sysctls: sysctls.map(({ key }) => key) });
  return [
    ...diff(have, { ...EMPTY_STATE, sysctls }).map(printStep),
    ...missingFrom(kernel.readTable(TABLE.family, TABLE.name), portTable(plan)),
  ].map((what) => `missing: ${what}`);
}

/**
 * Puts back what someone has removed of the ports, given the table as it is, and gives it in words. A port that another
 * attachment has stays with it. @throws NetError kernel
 */
export function restorePorts(kernel: Kernel, plan: PortPlan, have: Table | undefined): string[] {
  const want = portTable(plan);
  const broken = brokenChains(have, want);
  if (broken.length > 0) kernel.commit(transaction(declaration(want)));
  const back = missingElements(have, want).flatMap((set) =>
    set.elements.filter((one) => commits(kernel, elements('add', set, [one]), 'EEXIST')),
  );
  return [...broken.map(({ name }) => `chain ${name}`), ...back];
}
