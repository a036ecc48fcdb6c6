// Whether a network carries packets as large as it says.

import type { Pod } from '../../examples/cluster/pod.ts';

const IP_AND_ICMP = { 4: 28, 6: 48 };

/** Echoes as large as the MTU, unfragmented, from each pod to every address of the others. */
export async function reachAtFullSize(pods: readonly Pod[], mtu: number): Promise<boolean> {
  const probes = pods.flatMap((from) =>
    pods
      .filter((to) => to !== from)
      .flatMap((to) =>
        to.ips.map((ip) => from.probe({ kind: 'ping', to: ip, size: mtu - IP_AND_ICMP[ip.includes(':') ? 6 : 4] })),
      ),
  );
  return (await Promise.all(probes)).every(({ ok }) => ok);
}
