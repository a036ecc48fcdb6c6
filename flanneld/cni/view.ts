// The CNI service as part of the agent's health, or as all of it.

import packageJson from '../../package.json' with { type: 'json' };
import type { Agent } from '../agent.ts';
import type { AgentConfig } from '../config.ts';
import type { PolicyStatus } from '../policy/enforce.ts';
import type { CniService, CniStatus } from './service.ts';

/** An agent that serves CNI clients too. */
export const withCni = (agent: Agent, cni: CniService): Agent => ({
  run: agent.run,
  unreadiness: () => agent.unreadiness() ?? cni.unreadiness(),
  remarks: agent.remarks,
  examine: agent.examine,
  status() {
    const status = agent.status();
    const reason = status.reason ?? cni.unreadiness();
    return { ...status, ready: reason === undefined, reason, cni: cni.status() };
  },
});

/** An agent that does nothing else. `startedAt`: milliseconds since the epoch. `onAccepted`: as createAgent's. */
export const cniOnly = (
  cni: CniService,
  { subnetFile }: AgentConfig,
  startedAt: number,
  onAccepted: () => void,
): Agent => ({
  run(signal) {
    onAccepted();
    return new Promise((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve());
    });
  },
  unreadiness: cni.unreadiness,
  remarks: () => [],
  examine: async () => undefined,
  status() {
    const reason = cni.unreadiness();
    return {
      version: packageJson.version,
      pid: process.pid,
      startedAt: new Date(startedAt).toISOString(),
      ready: reason === undefined,
      reason,
      families: [],
      subnetFile,
      peers: [],
      differences: [],
      cni: cni.status(),
      cniOnly: true,
    };
  },
});

/** For people. */
export function cniLines(status: CniStatus): string[] {
  const { socket, reason, requests, running, waiting, reclaimed, lastReclaimed, problems, spool } = status;
  const { refused, ...verbs } = requests;
  const counts = Object.entries(verbs).map(([verb, { succeeded, failed, undone }]) =>
    [
      `${verb} ${succeeded}`,
      ...(failed > 0 ? [`(${failed} failed)`] : []),
      ...(undone > 0 ? [`(${undone} undone)`] : []),
    ].join(' '),
  );
  const invalid = refused === undefined ? [] : [`${refused.failed} invalid`];
  return [
    `CNI clients: ${reason === undefined ? `served on ${socket}` : `not served on ${socket}: ${reason}`}`,
    `  ${[...counts, ...invalid, `${running} running`, `${waiting} waiting`].join(', ')}`,
    ...(spool.done + spool.waiting + spool.aside === 0
      ? []
      : [`  kept deletions: ${spool.done} done, ${spool.waiting} waiting, ${spool.aside} put aside`]),
    ...(reclaimed === 0 ? [] : [`  ${reclaimed} attachments had ended without a deletion, the last:`]),
    ...lastReclaimed.slice(-3).map((line) => `    ${line}`),
    ...problems.map((problem) => `  failed: ${problem}`),
    ...(status.policy === undefined ? [] : policyLines(status.policy)),
  ];
}

/** Pods that are written out for people. */
const SHOWN_PODS = 10;

function deniedLines({ pods, totals }: PolicyStatus['denied']): string[] {
  if (totals.ingress + totals.egress === 0) return [];
  const shown = pods.slice(0, SHOWN_PODS).map(({ pod, ingress, egress }) => {
    const parts = [...(ingress > 0 ? [`${ingress} to it`] : []), ...(egress > 0 ? [`${egress} by it`] : [])];
    return `    ${pod}: ${parts.join(', ')}`;
  });
  const rest = pods.length > SHOWN_PODS ? [`    ... and ${pods.length - SHOWN_PODS} more pods`] : [];
  return [`  packets dropped: ${totals.ingress} by ingress, ${totals.egress} by egress`, ...shown, ...rest];
}

function policyLines(policy: PolicyStatus): string[] {
  const { source, synced, current, policies, isolatedAddresses, profiles, invalid, trouble, sourceTrouble } = policy;
  const state = !synced ? 'not read yet' : current ? 'in force' : 'not in force yet';
  return [
    `network policy: ${policies} policies of ${source}, ${state}; ${isolatedAddresses} addresses isolated by ${profiles} profiles`,
    ...[trouble, sourceTrouble].filter((text) => text !== undefined).map((text) => `  ${text}`),
    ...invalid.map((text) => `  invalid: ${text}`),
    ...deniedLines(policy.denied),
  ];
}
