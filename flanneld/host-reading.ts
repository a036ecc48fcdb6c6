// The host's settings as they are at this moment, read for /status.

import type { Kernel } from '../kernel/kernel.ts';
import { familiesOf, type Lease, type PerFamily } from '../model/lease.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { AgentConfig } from './config.ts';
import { deviceTo, deviceToPods } from './device-to.ts';
import { type HostFacts, type HostSetting, hostKeys, hostSettings } from './host-settings.ts';
import { wantedSysctls } from './plan.ts';
import type { Prepared } from './prepare.ts';
import type { Progress } from './progress.ts';

/** Peers whose routes are looked at. */
const MOST_PEERS = 100;

/** Reads and judges them. @throws NetError kernel */
function readHostSettings(
  kernel: Kernel,
  config: Pick<AgentConfig, 'blackholeRoute' | 'policy'>,
  { site, backend, networks, advertised }: Prepared,
  self: Lease,
  peers: readonly Lease[],
): HostSetting[] {
  const families = familiesOf(site.networks);
  const underlay = [...new Set(familiesOf(site.underlay).flatMap((family) => site.underlay[family]?.device ?? []))];
  const pods: PerFamily<string> = Object.fromEntries(
    families.flatMap((family) => {
      const subnet = self.subnet[family];
      const device = subnet && deviceToPods(kernel, subnet);
      return device === undefined ? [] : [[family, device]];
    }),
  );
  const held = wantedSysctls(
    { site, backend, self, peers: [], networks, removals: false, blackhole: config.blackholeRoute, advertised },
    () => true,
  );
  const facts: Omit<HostFacts, 'have'> = {
    families,
    held,
    devices: backend.devices,
    txChecksum: site.txChecksum,
    underlay,
    symmetric: peers.slice(0, MOST_PEERS).every((peer) => isRoutedBy(kernel, peer, underlay)),
    pods,
    policed: config.policy !== undefined,
  };
  const have = kernel.read(kernel.host, {
    links: [...new Set([...backend.devices, ...familiesOf(pods).map((family) => pods[family] as string)])],
    sysctls: hostKeys(facts),
  });
  return hostSettings({ ...facts, have });
}

const isRoutedBy = (kernel: Kernel, { publicIp }: Lease, underlay: readonly string[]): boolean => {
  const device = publicIp[4] === undefined ? undefined : deviceTo(kernel, publicIp[4]);
  return device === undefined || underlay.includes(device);
};

/** The same of an agent that runs; undefined while there is nothing to tell. */
export function settingsNow(
  { kernel, config }: Pick<AgentDeps, 'kernel' | 'config'>,
  { prepared, lease, known }: Progress,
): HostSetting[] | undefined {
  if (prepared === undefined || lease === undefined) return undefined;
  try {
    return readHostSettings(kernel, config, prepared, lease, known?.peers ?? []);
  } catch {
    return undefined;
  }
}
