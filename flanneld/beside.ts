// What runs beside the loop and is told after each of its runs which peers there are: the program of the udp backend, the
// commands of the extension backend, the probes.

import { type Family, familyOf, type Ip, type Prefix } from '../model/ip.ts';
import { familiesOf, type Lease, leaseKey } from '../model/lease.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { Backend } from './backend/backend.ts';
import { keepExtension } from './backend/extension-keeper.ts';
import { keepProxy } from './backend/proxy-keeper.ts';
import type { PeerStatus } from './peer-status.ts';
import type { Prepared } from './prepare.ts';
import { startProber, type Target } from './probe/prober.ts';
import type { Progress } from './progress.ts';
import type { Run } from './reconcile.ts';

export interface Beside {
  hold(run: Run): void;
  stop(): void;
}

type Deps = Pick<AgentDeps, 'config' | 'clock' | 'log' | 'proxy' | 'execute' | 'openEchoes'>;

/** Starts what the backend and the configuration ask for. */
export function startBeside(
  { config, clock, log, proxy, execute, openEchoes }: Deps,
  progress: Progress,
  backend: Backend,
): Beside {
  const intervalMs = config.probeSeconds * 1000;
  if (backend.proxy !== undefined && proxy !== undefined) progress.proxy = keepProxy(proxy, clock, log);
  if (backend.commands !== undefined && execute !== undefined) {
    progress.extension = keepExtension({ commands: backend.commands, run: execute, clock, log });
  }
  if (intervalMs > 0 && openEchoes !== undefined) {
    progress.prober = startProber({ open: openEchoes, intervalMs, clock, log });
  }
  let told: Told | undefined;
  return {
    hold(run) {
      const { prepared, lease, known } = progress;
      if (prepared === undefined || lease === undefined) return;
      const now: Told = { prepared, lease, leases: known?.peers, judged: run.peers };
      // With thousands of peers that is most of the time.
      if (told !== undefined && isSame(told, now)) return;
      told = now;
      const peers = sensible(progress, run);
      if (prepared.backend.proxy !== undefined) progress.proxy?.hold(prepared.backend.proxy(lease, peers));
      progress.extension?.hold({ networks: prepared.site.networks, own: lease, peers });
      progress.prober?.hold(peers.flatMap((peer) => targetsOf(prepared, peer)));
    },
    stop() {
      progress.proxy?.stop();
      progress.extension?.stop();
      progress.prober?.stop();
    },
  };
}

/** What all that is told follows from. */
interface Told extends Record<'prepared' | 'lease' | 'leases', unknown> {
  readonly judged: readonly PeerStatus[];
}

/** A subnet manager gives leases that are as they were as the same objects again; a run judges each anew. */
const isSame = (a: Told, b: Told): boolean =>
  a.prepared === b.prepared &&
  a.lease === b.lease &&
  a.leases === b.leases &&
  a.judged.length === b.judged.length &&
  a.judged.every((peer, at) => peer.key === b.judged[at]?.key && isSensible(peer) === isSensible(b.judged[at]));

const isSensible = ({ state }: PeerStatus): boolean => state !== 'refused';

/** The peers whose leases make sense. */
function sensible({ known }: Progress, { peers }: Run): Lease[] {
  const good = new Set(peers.filter(isSensible).map(({ key }) => key));
  return (known?.peers ?? []).filter(({ subnet }) => good.has(leaseKey(subnet)));
}

/** Whom to probe for a peer: one address for each family that we have too. */
const targetsOf = ({ site, backend }: Pick<Prepared, 'site' | 'backend'>, { subnet, publicIp }: Lease): Target[] =>
  familiesOf(subnet)
    .filter((family) => site.networks[family] !== undefined)
    .flatMap((family) => {
      const address = echoesAt(backend, family, subnet[family] as Prefix, publicIp[family]);
      if (address === undefined) return [];
      return [{ key: leaseKey(subnet), family: familyOf(address), address, bytes: backend.mtu }];
    });

const echoesAt = (backend: Backend, family: Family, subnet: Prefix, publicIp: Ip | undefined): Ip | undefined =>
  publicIp === undefined ? undefined : backend.echoes({ family, subnet, publicIp });
