// Whether VXLAN devices leave the checksums of pods' packets to what the outer packets go out by. Kernels before 5.7 spoil
// the outer UDP checksum when such a packet is masqueraded with random ports (as kube-proxy does): the other node drops it,
// and connections stall for a minute (fixed by commit ea64d8d6c675, "netfilter: nat: never update the UDP checksum when
// it's 0"). Some virtual network cards spoil the inner one. Switched off, all is right and big packets cost more time. Pure.

/** --vxlan-tx-checksum */
export type ChecksumChoice = 'auto' | 'on' | 'off';

const FIXED = [5, 7] as const;

/**
 * What the devices are held to; undefined: whatever they are set to. `release`: as uname(2) tells it, "5.4.0-42-generic".
 */
export function txChecksumFor(choice: ChecksumChoice, release: string): boolean | undefined {
  if (choice !== 'auto') return choice === 'on';
  const [major = 0, minor = 0] = (/^(\d+)\.(\d+)/.exec(release) ?? []).slice(1).map(Number);
  const known = major > 0;
  const isOld = known && (major < FIXED[0] || (major === FIXED[0] && minor < FIXED[1]));
  return isOld ? false : undefined;
}
