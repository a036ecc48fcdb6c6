// The network configuration, followed while the agent runs. What changed is taken over as a whole where every part of it
// can be; otherwise nothing is, and the keys that need a restart are told. A configuration that makes no sense is told and
// passed over. Pods that are there keep what they have: a new MTU is for those that come.

import { describe, hasCode, NetError } from '../model/errors.ts';
import type { AgentDeps } from './agent-deps.ts';
import { configChanges, printChanges } from './config-change.ts';
import { parseNetworkConfig } from './network-config.ts';
import { adopt, prepareAgain } from './prepare-again.ts';
import type { Progress } from './progress.ts';
import type { SubnetManager } from './subnet/manager.ts';

/** A change that the host can't take at this moment (its interface is gone, say) is tried again after so long (ms). */
const RETRY_MS = 5000;

type Deps = Pick<AgentDeps, 'kernel' | 'config' | 'log' | 'clock'> & {
  readonly manager: Pick<SubnetManager, 'watchConfig'>;
};

export interface ConfigListener {
  /** The lease has to say something else. */
  readonly onMoved: () => void;
  /** The host has to be looked at again. */
  readonly onChanged: () => void;
}

/** Resolves when the signal aborts. */
export async function followConfig(
  deps: Deps,
  progress: Progress,
  listener: ConfigListener,
  signal: AbortSignal,
): Promise<void> {
  const { log, manager, clock } = deps;
  let cancel = () => {};
  const tell = (trouble: string | undefined) => {
    if (trouble !== undefined && trouble !== progress.configTrouble) log.warn({}, trouble);
    if (trouble === undefined && progress.configTrouble !== undefined) {
      log.info({}, 'the network configuration is the one in force again');
    }
    progress.configTrouble = trouble;
  };
  const consider = (text: string | undefined) => {
    cancel();
    try {
      tell(takeOver(deps, progress, text, listener));
    } catch (error) {
      tell(`the new network configuration can't be used, the old one holds: ${describe(error)}`);
      if (!hasCode(error, 'invalid-network-config')) cancel = clock.after(RETRY_MS, () => consider(text));
    }
  };
  // The leases' watch has told the same of the store already.
  const onTrouble = (trouble: unknown) => {
    progress.configWatchTrouble = `the network configuration can't be followed: ${describe(trouble)}`;
  };
  try {
    for await (const text of manager.watchConfig(signal, onTrouble)) {
      progress.configWatchTrouble = undefined;
      consider(text);
    }
  } finally {
    cancel();
  }
}

/** @returns why it was not taken over @throws NetError as the agent's start does for a configuration it can't use */
function takeOver(
  deps: Deps,
  progress: Progress,
  text: string | undefined,
  { onMoved, onChanged }: ConfigListener,
): string | undefined {
  const { prepared, lease } = progress;
  if (prepared === undefined || lease === undefined) return undefined;
  if (text === undefined) throw new NetError('invalid-network-config', 'there is none any more');
  const network = parseNetworkConfig(text);
  if (JSON.stringify(network) === JSON.stringify(prepared.network)) return undefined;
  const fresh = prepareAgain(deps, prepared, lease, network);
  const changes = configChanges(prepared, fresh, lease.subnet);
  const fixed = changes.filter(({ live }) => !live);
  if (fixed.length > 0) return `restart needed: ${printChanges(fixed)}`;
  if (changes.length === 0) return undefined;
  adopt(progress, fresh, lease, onMoved);
  deps.log.info({ mtu: fresh.backend.mtu }, `the network configuration has changed: ${printChanges(changes)}`);
  onChanged();
  return undefined;
}
