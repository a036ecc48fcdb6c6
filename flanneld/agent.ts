// The agent: configuration, lease, and then one loop that holds the host to what the leases say. It never exits for what
// etcd does or doesn't do; it ends with an error only for a configuration that it can't work with, before it has changed
// anything. A stop leaves data path and lease as they are.

import { asNetError, describe } from '../model/errors.ts';
import type { Prefix } from '../model/ip.ts';
import { type Lease, leaseKey, type PerFamily } from '../model/lease.ts';
import { once } from '../model/slices.ts';
import type { AgentDeps } from './agent-deps.ts';
import { type AgentStatus, remarks, statusOf, unreadiness } from './agent-status.ts';
import { runPreStartup } from './backend/pre-startup.ts';
import { differencesInSlices, type Held, hold } from './hold.ts';
import { settingsNow } from './host-reading.ts';
import { GRACE_MS, noPeers } from './known-peers.ts';
import type { Log } from './log.ts';
import { type NetworkConfig, parseNetworkConfig } from './network-config.ts';
import { overlapNotes } from './overlap.ts';
import { type Prepared, prepare } from './prepare.ts';
import { newProgress, type Progress } from './progress.ts';
import { retry } from './retry.ts';
import { seldom } from './seldom.ts';
import { formerSubnets, removeGateways } from './stale-gateways.ts';
import { watchStart } from './start-watch.ts';
import { type PreviousSubnet, readPrevious } from './subnet-file.ts';
import type { Snapshot, SubnetManager } from './subnet/manager.ts';

export interface Agent {
  /**
   * Runs until the signal aborts.
   * @throws NetError no-interface, invalid-network-config, invalid-flag, foreign-object, file-unreadable: nothing has been
   * changed then
   */
  run(signal: AbortSignal): Promise<void>;
  /** Why pods can't be served; undefined when they can. */
  unreadiness(): string | undefined;
  /** What is to be known of a node that is ready, a line each. */
  remarks(): readonly string[];
  /** Reads the host for {@link status}, and lets other work have its turn meanwhile. */
  examine(): Promise<void>;
  /** With what differs on the host, as it was read not long ago or is read now. */
  status(): AgentStatus;
}

/** Does nothing before it is run. */
export function createAgent(deps: AgentDeps): Agent {
  const { clock, config } = deps;
  const progress = newProgress(clock.now());
  const settings = seldom(clock, () => once(() => settingsNow(deps, progress)));
  const differences = seldom(clock, () => differencesInSlices(deps, progress));
  return {
    async run(signal) {
      try {
        await start(deps, progress, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    },
    unreadiness: () => unreadiness(progress),
    remarks: () => remarks(progress),
    examine: differences.refresh,
    status: () => statusOf(progress, config, clock.now(), differences.value(), settings.value()),
  };
}

async function start(deps: AgentDeps, progress: Progress, signal: AbortSignal): Promise<void> {
  // A start that is refused leaves nothing behind, not even an identity: the first one is tried out with a throw-away one.
  if (!deps.identity.isKept()) {
    await withManager(deps, crypto.randomUUID(), async (manager) => {
      prepareFor(deps, 'trial', await networkConfig(deps, manager, progress, signal), undefined);
    });
  }
  progress.waitingFor = 'the identity of this node';
  const nodeId = await patiently(deps, progress, signal, 'find out which node this is', async () =>
    deps.identity.keep(signal),
  );
  await withManager(deps, nodeId, (manager) => serve(deps, manager, nodeId, progress, signal));
}

async function withManager<T>(
  deps: AgentDeps,
  nodeId: string,
  use: (manager: SubnetManager) => Promise<T>,
): Promise<T> {
  const manager = deps.openManager(nodeId);
  try {
    return await use(manager);
  } finally {
    await manager.close();
  }
}

async function serve(
  deps: AgentDeps,
  manager: SubnetManager,
  nodeId: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const watch = watchStart(deps.kernel, manager.reconnect);
  const begun = await begin(deps, manager, nodeId, progress, signal).finally(watch.stop);
  const held = { ...begun, doubtful: watch.changed() };
  await hold({ ...deps, manager, graceMs: deps.graceMs ?? GRACE_MS }, progress, held, signal);
}

/** Until there is a subnet. */
async function begin(
  deps: AgentDeps,
  manager: SubnetManager,
  nodeId: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<Omit<Held, 'doubtful'>> {
  const { log, clock, config, graceMs = GRACE_MS } = deps;
  const network = await networkConfig(deps, manager, progress, signal);
  progress.waitingFor = 'the leases of the other nodes';
  const snapshots = manager.watch(signal, troubleReporter(log, progress))[Symbol.asyncIterator]();
  const first = await next(snapshots, signal);
  const previous = readPrevious(config.subnetFile);
  const accepted = prepareFor(deps, nodeId, network, first);
  deps.onAccepted?.();
  for (const note of overlapNotes(accepted)) log.warn({}, note);
  const prepared = await withPublished(deps, accepted, progress, signal);
  progress.prepared = prepared;
  progress.waitingFor = 'a subnet';
  const lease = await acquire(deps, manager, prepared, previous, progress, signal);
  log.info({}, `lease ${leaseKey(lease.subnet)} of node ${nodeId}`);
  progress.lease = lease;
  leaveFormer(deps, formerSubnets(previous.subnet, lease.subnet));
  progress.waitingFor = undefined;
  // The pods' subnet is known here, but not to the store: then it may have lost the other nodes' leases too.
  const forgotten = Object.keys(previous.subnet).length > 0 && prepared.stored === undefined;
  const known = noPeers(forgotten ? clock.now() + graceMs : 0);
  return { prepared, lease, known, first, snapshots };
}

/** That it fails is no reason not to go on: the plugin says what is in its way. */
function leaveFormer({ kernel, log }: AgentDeps, former: PerFamily<Prefix>): void {
  try {
    removeGateways(kernel, log, former);
  } catch (error) {
    log.warn({}, `leave ${Object.values(former).join(' and ')}: ${describe(error)}`);
  }
}

async function next(snapshots: AsyncIterator<Snapshot>, signal: AbortSignal): Promise<Snapshot> {
  const { value, done } = await snapshots.next();
  if (done) throw signal.reason;
  return value;
}

/** Reads the network's configuration, for as long as it takes. @throws NetError invalid-network-config */
async function networkConfig(
  deps: AgentDeps,
  manager: SubnetManager,
  progress: Progress,
  signal: AbortSignal,
): Promise<NetworkConfig> {
  progress.waitingFor = 'the network configuration';
  return parseNetworkConfig(
    await patiently(deps, progress, signal, 'read the network configuration', () => manager.networkConfig(signal)),
  );
}

/** With what PreStartupCommand prints, where the backend has one: run for as long as it takes to succeed. */
async function withPublished(
  deps: AgentDeps,
  prepared: Prepared,
  progress: Progress,
  signal: AbortSignal,
): Promise<Prepared> {
  const { execute } = deps;
  if (execute === undefined || prepared.backend.commands?.preStartup === undefined) return prepared;
  progress.waitingFor = 'PreStartupCommand';
  const backendData = await patiently(deps, progress, signal, 'run PreStartupCommand', () =>
    runPreStartup(execute, prepared, signal),
  );
  return { ...prepared, attributes: { ...prepared.attributes, backendData } };
}

/** Everything that is decided before anything is changed. */
export const prepareFor = (
  { kernel, config }: AgentDeps,
  nodeId: string,
  network: NetworkConfig,
  store: Snapshot | undefined,
): Prepared => prepare({ kernel, config, network, nodeId, previous: readPrevious(config.subnetFile), store });

const acquire = (
  deps: AgentDeps,
  manager: SubnetManager,
  { network, attributes, podsInPrevious }: Prepared,
  previous: PreviousSubnet,
  progress: Progress,
  signal: AbortSignal,
): Promise<Lease> =>
  patiently(deps, progress, signal, 'take a subnet', () =>
    manager.acquire({ network, attributes, previous: previous.subnet, inUse: podsInPrevious }, signal),
  );

/** For as long as it takes, with the trouble in the status meanwhile. */
const patiently = <T>(
  { clock, log }: AgentDeps,
  progress: Progress,
  signal: AbortSignal,
  what: string,
  attempt: () => Promise<T>,
): Promise<T> =>
  retry(attempt, {
    clock,
    log,
    signal,
    what,
    onTrouble: (error) => {
      progress.storeTrouble = error && describe(error);
    },
  });

/** A trouble of the lease store is logged when it is new. */
function troubleReporter(log: Log, progress: Progress): (trouble: unknown) => void {
  return (trouble) => {
    const text = describe(asNetError(trouble));
    if (text !== progress.storeTrouble && text !== progress.renewalTrouble) log.warn({}, text);
    progress.storeTrouble = text;
  };
}
