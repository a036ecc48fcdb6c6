// How each peer stands after a run, for people and for readiness.

import type { Failure } from '../kernel/kernel.ts';
import { describe } from '../model/errors.ts';
import type { Ip } from '../model/ip.ts';
import { familiesOf, type Lease, leaseKey } from '../model/lease.ts';
import { eachOf, mapped, type Sliced } from '../model/slices.ts';
import { identity } from '../model/state.ts';
import type { PeerPlan } from './peer-plan.ts';
import type { ProbeStatus } from './probe/prober.ts';

/** From best to worst: a peer of two families has the worse of their states. */
const STATES = ['programmed', 'refused', 'failed'] as const;

export interface PeerStatus {
  /** Subnets, as in the lease's key: "10.5.34.0-24". */
  readonly key: string;
  readonly publicIp: readonly Ip[];
  readonly nodeId?: string | undefined;
  /** programmed: everything is in place. refused: its lease makes no sense to us. failed: the kernel said no; tried again. */
  readonly state: (typeof STATES)[number];
  /** Why it is not programmed. */
  readonly reason?: string | undefined;
  /** What echoes to it say, for each family; absent where they are off. */
  readonly probes?: readonly ProbeStatus[] | undefined;
}

/** Failures by the {@link identity} of what they hit. */
export type FailureTexts = ReadonlyMap<string, string>;

/** Of several failures of one thing the first counts: a device that could not be made can't be set up either. */
export function failureTexts(failures: readonly Failure[]): FailureTexts {
  const texts = new Map<string, string>();
  for (const failure of failures) {
    const item = identity(failure.step.item);
    if (!wasGone(failure) && !texts.has(item)) texts.set(item, describe(failure.error));
  }
  return texts;
}

/** What was to be deleted went away by itself. */
const wasGone = ({ step, error }: Failure): boolean =>
  step.verb === 'delete' && ['ENOENT', 'ENODEV', 'ESRCH', 'EADDRNOTAVAIL'].includes(error.errno ?? '');

/** A status for each lease, in their order. */
export function* peerStatuses(plans: readonly PeerPlan[], failures: FailureTexts): Sliced<PeerStatus[]> {
  const byLease = new Map<Lease, PeerPlan[]>();
  yield* eachOf(plans, (plan) => {
    const own = byLease.get(plan.lease);
    if (own === undefined) byLease.set(plan.lease, [plan]);
    else own.push(plan);
  });
  return yield* mapped(byLease, ([lease, own]) => peerStatus(lease, own, failures));
}

function peerStatus(lease: Lease, plans: readonly PeerPlan[], failures: FailureTexts): PeerStatus {
  const outcomes = plans.map((plan) => outcome(plan, failures));
  const state = STATES[Math.max(...outcomes.map((each) => STATES.indexOf(each.state)))] ?? 'programmed';
  const reasons = new Set(outcomes.flatMap(({ reason }) => (reason === undefined ? [] : [reason])));
  return {
    key: leaseKey(lease.subnet),
    publicIp: familiesOf(lease.publicIp).map((family) => lease.publicIp[family] as Ip),
    nodeId: lease.nodeId,
    state,
    ...(reasons.size > 0 && { reason: [...reasons].join('; ') }),
  };
}

function outcome({ items, refused }: PeerPlan, failures: FailureTexts): Pick<PeerStatus, 'state' | 'reason'> {
  if (refused !== undefined) return { state: 'refused', reason: refused };
  const failed = items.flatMap((item) => failures.get(item) ?? [])[0];
  return failed === undefined ? { state: 'programmed' } : { state: 'failed', reason: failed };
}

/** Failures that concern no peer: the node's own device, its addresses, sysctls. */
export function nodeFailures(plans: readonly PeerPlan[], failures: FailureTexts): string[] {
  if (failures.size === 0) return [];
  const ofPeers = new Set(plans.flatMap(({ items }) => items));
  return [...failures].flatMap(([item, text]) => (ofPeers.has(item) ? [] : [text]));
}
