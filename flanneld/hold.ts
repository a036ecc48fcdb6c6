// Holds the host to the leases: each snapshot says what should be, reconcile.ts makes it so, and the subnet file, which
// tells the CNI plugin that the node is ready, comes last.

import { describe } from '../model/errors.ts';
import { familyOf } from '../model/ip.ts';
import { familiesOf, type Lease, leaseKey } from '../model/lease.ts';
import type { Sliced } from '../model/slices.ts';
import type { AgentDeps } from './agent-deps.ts';
import { standingOf, unreadiness } from './agent-status.ts';
import { startBeside } from './beside.ts';
import type { AgentConfig } from './config.ts';
import { examineInSlices, printDifference, type Target } from './difference.ts';
import { type KnownPeers, learn, mayRemove, peerChanges, settle } from './known-peers.ts';
import type { Log } from './log.ts';
import { ownLeaseKeeper } from './own-lease.ts';
import { PLANNING_SYSCTLS, type PlanInput, planInSlices, wantedSysctls } from './plan.ts';
import type { Prepared } from './prepare.ts';
import { followAssignment } from './follow-assignment.ts';
import { followConfig } from './follow-config.ts';
import type { FirewallWish } from './firewall/hold.ts';
import { keepFirewall } from './firewall/keeper.ts';
import { sitesOf } from './firewall/site.ts';
import { followUnderlay } from './follow-underlay.ts';
import { addRun, type Progress } from './progress.ts';
import { type Reconciler, type Run, startReconciler } from './reconcile.ts';
import { ownsChains, type RuleSettings, rulesTable } from './rules/table.ts';
import { fits } from './subnet/choose.ts';
import type { Snapshot, SubnetManager } from './subnet/manager.ts';
import { ensureSubnetFile } from './subnet-file.ts';

type HoldDeps = Pick<
  AgentDeps,
  'kernel' | 'config' | 'log' | 'clock' | 'proxy' | 'execute' | 'openEchoes' | 'programs' | 'onSettled'
> & {
  readonly manager: SubnetManager;
  readonly graceMs: number;
};

/** More leases than this that come or go at once are left to the run that follows. */
const MOST_HURRIED = 100;

export interface Held {
  readonly prepared: Prepared;
  /** Our own lease, as it was acquired. */
  readonly lease: Lease;
  readonly known: KnownPeers;
  /** The snapshot from before the lease was acquired; the later ones follow in `snapshots`. */
  readonly first: Snapshot;
  readonly snapshots: AsyncIterator<Snapshot>;
  /** Whether the interface to other nodes may be another since it was chosen. */
  readonly doubtful: boolean;
}

/** Resolves when the signal aborts. */
export async function hold(deps: HoldDeps, progress: Progress, held: Held, signal: AbortSignal): Promise<void> {
  const { kernel, manager, clock, log, config } = deps;
  const { prepared, lease, first, snapshots, doubtful } = held;
  const checkOwn = ownLeaseKeeper({
    manager,
    lease: () => progress.lease ?? lease,
    clock,
    log,
    signal,
    onTrouble: (trouble) => {
      progress.leaseTrouble = trouble ?? misfit(prepared, lease, progress);
    },
  });
  const subnet = followAssignment(deps, progress, () => checkOwn(own));
  const beside = startBeside(deps, progress, prepared.backend);
  const firewall = keepFirewall({
    ...deps,
    programs: deps.programs,
    resyncMs: config.resyncSeconds * 1000,
    wish: () => firewallWish(deps, progress),
  });
  progress.firewall = firewall;
  let own: Lease | undefined;
  const noteRun = settling(deps.onSettled);
  const underlay = followUnderlay(deps, progress, {
    onAddress: manager.reconnect,
    onLease: () => checkOwn(own),
    doubtful,
  });
  const reconciler = startReconciler({
    kernel,
    clock,
    log,
    resyncMs: config.resyncSeconds * 1000,
    target: () => {
      underlay.check();
      subnet.check();
      return currentTarget(deps, progress);
    },
    onRun(run) {
      const before = unreadiness(progress);
      beside.hold(run);
      afterRun(deps, progress, run, before);
      noteRun(run);
      manager.observe?.(standingOf(progress));
    },
  });
  const peers = followPeers(deps, progress, held.known, reconciler);
  const take = (snapshot: Snapshot) => {
    progress.storeTrouble = undefined;
    progress.assignment = snapshot.assignment;
    peers.take(snapshot);
    own = snapshot.own;
    checkOwn(own);
  };
  const ignore = kernel.watch((change) => {
    firewall.hear(change);
    const reason = underlay.hear(change);
    if (reason !== undefined) reconciler.trigger(reason);
  });
  try {
    take(sinceAcquired(first, lease));
    const listener = { onMoved: () => checkOwn(own), onChanged: () => reconciler.trigger('configuration changed') };
    firewall.look();
    await Promise.all([
      manager.keepAlive(signal, renewalReporter(log, progress)),
      follow(snapshots, take),
      followConfig(deps, progress, listener, signal),
    ]);
  } finally {
    ignore();
    beside.stop();
    firewall.stop();
    peers.stop();
    reconciler.stop();
  }
}

/** Takes note of each run; calls back once, when two in a row have changed nothing. */
function settling(onSettled: (() => void) | undefined): (run: Run) => void {
  let idle = 0;
  let settled = false;
  return ({ changes }) => {
    // The kernel is done with link-local addresses of new devices a while after everything else.
    idle = changes === 0 ? idle + 1 : 0;
    if (settled || idle < 2) return;
    settled = true;
    onSettled?.();
  };
}

/** Learns from snapshots who the peers are, and has the loop act on it, be it when the grace period ends. */
function followPeers(
  { clock, graceMs }: Pick<HoldDeps, 'clock' | 'graceMs'>,
  progress: Progress,
  known: KnownPeers,
  reconciler: Reconciler,
): { take(snapshot: Snapshot): void; stop(): void } {
  let cancelGrace = () => {};
  return {
    take(snapshot) {
      const before = progress.known ?? known;
      const now = learn(before, snapshot, clock.now(), graceMs);
      progress.known = now;
      const { fresh, departed } = peerChanges(before.peers, now.peers);
      const gone = mayRemove(now, clock.now()) ? departed : [];
      if (fresh.length + gone.length <= MOST_HURRIED) reconciler.hurry(fresh, gone);
      reconciler.trigger('leases');
      cancelGrace();
      if (mayRemove(now, clock.now())) return;
      cancelGrace = clock.after(now.graceUntil - clock.now(), () => reconciler.trigger('end of the grace period'));
    },
    stop: () => cancelGrace(),
  };
}

/** What the watch has told already is the same trouble. It passes by a renewal: no snapshot may come for days. */
function renewalReporter(log: Log, progress: Progress): (trouble: unknown) => void {
  return (trouble) => {
    const text = trouble === undefined ? undefined : describe(trouble);
    const known = [undefined, progress.renewalTrouble, progress.storeTrouble].includes(text);
    if (!known) log.warn({}, text as string);
    progress.renewalTrouble = text;
  };
}

/** The snapshot from before our lease was acquired, with the lease in it. */
const sinceAcquired = ({ peers, assignment }: Snapshot, lease: Lease): Snapshot => ({
  own: lease,
  assignment: assignment && { ...assignment, subnet: lease.subnet },
  peers: peers.filter(({ subnet }) => leaseKey(subnet) !== leaseKey(lease.subnet)),
});

async function follow(snapshots: AsyncIterator<Snapshot>, take: (snapshot: Snapshot) => void): Promise<void> {
  for (;;) {
    const { value, done } = await snapshots.next();
    if (done) return;
    take(value);
  }
}

/** A subnet is never changed under running pods; when it doesn't fit the configuration any more, that is said. */
const misfit = ({ network }: Prepared, { subnet }: Lease, { assignment }: Progress): string | undefined =>
  assignment !== undefined || fits(network, subnet)
    ? undefined
    : `pods use ${Object.values(subnet).join(' and ')}, which doesn't fit the network configuration: delete the pods of this node, then restart the agent`;

function currentTarget({ config, clock }: Pick<HoldDeps, 'config' | 'clock'>, progress: Progress): Target | undefined {
  const { prepared, lease } = progress;
  if (prepared === undefined || lease === undefined || progress.known === undefined) return undefined;
  progress.known = settle(progress.known, clock.now());
  return targetOf(prepared, config, lease, progress.known.peers, mayRemove(progress.known, clock.now()));
}

function firewallWish({ kernel, config }: HoldDeps, progress: Progress): FirewallWish | undefined {
  const { prepared, lease, known } = progress;
  if (prepared === undefined || lease === undefined) return undefined;
  const { networks } = prepared;
  return { sites: sitesOf(kernel, prepared, lease, known?.peers ?? []), networks, forwardRules: config.forwardRules };
}

type TargetSettings = RuleSettings & Pick<AgentConfig, 'blackholeRoute'>;

/** What the host is held to, given the leases. */
export function targetOf(
  prepared: Prepared,
  config: TargetSettings,
  lease: Lease,
  peers: readonly Lease[],
  removals: boolean,
): Target {
  const { site, backend, networks, devices, advertised } = prepared;
  const input: PlanInput = {
    site,
    backend,
    self: lease,
    peers,
    networks,
    removals,
    blackhole: config.blackholeRoute,
    advertised,
  };
  return {
    query: {
      links: devices,
      addresses: devices,
      neighbours: devices,
      fdb: devices,
      routes: { families: [...new Set(networks.map(familyOf))] },
      sysctls: [...PLANNING_SYSCTLS, ...wantedSysctls(input).map(({ key }) => key)],
    },
    plan: (have) => planInSlices(input, have),
    basis: [prepared, lease, peers, removals],
    table: rulesTable(site.networks, lease.subnet, config),
    ownsChain: ownsChains(networks),
  };
}

function afterRun({ config, log, clock }: HoldDeps, progress: Progress, run: Run, before: string | undefined): void {
  const { prepared, lease } = progress;
  progress.run = run;
  progress.totals = addRun(progress.totals, run);
  if (run.problems.length > 0 || prepared === undefined || lease === undefined) return;
  try {
    ensureSubnetFile(config.subnetFile, {
      network: prepared.site.networks,
      subnet: lease.subnet,
      mtu: prepared.backend.mtu,
      masquerade: config.masquerade,
      unmasqueraded: config.unmasqueraded,
    });
    progress.fileTrouble = undefined;
  } catch (error) {
    const trouble = describe(error);
    if (trouble !== progress.fileTrouble) log.warn({}, `${trouble}; trying again`);
    progress.fileTrouble = trouble;
  }
  if (before === undefined || unreadiness(progress) !== undefined) return;
  const subnets = familiesOf(lease.subnet).map((family) => lease.subnet[family]);
  log.info(
    { peers: run.peers.length, ms: Math.round(clock.now() - progress.startedAt) },
    `ready: ${subnets.join(', ')}`,
  );
}

/** What would be changed right now, as lines; a comment line when the host can't be read. */
export function* differencesInSlices(
  deps: Pick<HoldDeps, 'kernel' | 'config' | 'clock'>,
  progress: Progress,
): Sliced<string[]> {
  const target = currentTarget(deps, progress);
  if (target === undefined) return [];
  try {
    return printDifference(yield* examineInSlices(deps.kernel, target, undefined));
  } catch (error) {
    return [`# ${describe(error)}`];
  }
}
