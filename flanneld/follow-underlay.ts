// The interface to other nodes, followed while the agent runs: when its name, address or MTU changes, backend and lease are
// made anew for what is there now, and the loop brings the host to it. The subnet stays. When there is no such interface
// for a while, everything stays as it is and the node says that it isn't ready.

import type { Change } from '../kernel/kernel.ts';
import { describe } from '../model/errors.ts';
import { familiesOf, type Lease } from '../model/lease.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { Underlay } from './backend/backend.ts';
import type { Prepared } from './prepare.ts';
import { adopt, prepareAgain } from './prepare-again.ts';
import type { Progress } from './progress.ts';
import { concernOf } from './relevance.ts';

/** Notifications say when to look; this often it is looked without one (ms). */
const LOOK_MS = 30_000;

export interface UnderlayOptions {
  /** The node speaks from another address. */
  onAddress(): void;
  /** The lease has to say something else. */
  onLease(): void;
  /** Whether there is a reason to look already. */
  readonly doubtful: boolean;
}

export interface UnderlayFollower {
  /** The reason to reconcile that a change is, if it is one. */
  hear(change: Change): string | undefined;
  /** Looks, if there is a reason to. */
  check(): void;
}

export function followUnderlay(
  deps: Pick<AgentDeps, 'kernel' | 'config' | 'clock' | 'log'>,
  progress: Progress,
  { onAddress, onLease, doubtful: doubtfulAtFirst }: UnderlayOptions,
): UnderlayFollower {
  const { clock, log } = deps;
  let doubtful = doubtfulAtFirst;
  let nextLook = clock.now() + LOOK_MS;

  const look = (prepared: Prepared, lease: Lease) => {
    const fresh = prepareAgain(deps, prepared, lease);
    progress.underlayTrouble = undefined;
    if (text(fresh) === text(prepared)) return;
    if (addresses(fresh) !== addresses(prepared)) onAddress();
    adopt(progress, fresh, lease, onLease);
    // Or only devices of an earlier backend have gone, or routers are listened to on another device.
    if (underlayText(fresh) === underlayText(prepared)) return;
    log.warn({ mtu: fresh.backend.mtu }, `the interface to other nodes has changed: ${underlayText(fresh)}`);
  };

  return {
    hear(change) {
      const { prepared } = progress;
      if (prepared === undefined) return undefined;
      const concern = concernOf(change, prepared);
      doubtful ||= concern === 'underlay';
      // Any device that comes up may be the one that is missing.
      const hope = progress.underlayTrouble !== undefined && ['link', 'address', 'route'].includes(change.type);
      if (concern === undefined && !hope) return undefined;
      return change.type === 'overrun' ? 'notifications lost' : `${change.type} changed`;
    },
    check() {
      const { prepared, lease, underlayTrouble } = progress;
      if (prepared === undefined || lease === undefined) return;
      if (!doubtful && underlayTrouble === undefined && clock.now() < nextLook) return;
      doubtful = false;
      nextLook = clock.now() + LOOK_MS;
      try {
        look(prepared, lease);
      } catch (error) {
        const trouble = describe(error);
        if (trouble !== underlayTrouble) log.warn({}, `${trouble}: what is there stays as it is`);
        progress.underlayTrouble = trouble;
      }
    },
  };
}

/** What makes a difference. */
const text = ({ site, backend, advertised, devices, attributes }: Prepared): string =>
  JSON.stringify([site.underlay, backend.mtu, advertised, [...devices].sort(), attributes]);

const addresses = ({ site: { underlay } }: Prepared): string =>
  familiesOf(underlay)
    .map((family) => underlay[family]?.address)
    .join();

const underlayText = ({ site: { underlay } }: Prepared): string =>
  familiesOf(underlay)
    .map((family) => underlay[family] as Underlay)
    .map(
      ({ device, address, publicIp, mtu }) =>
        `${device} with ${address}${publicIp === address ? '' : ` (${publicIp})`}, MTU ${mtu}`,
    )
    .join('; ');
