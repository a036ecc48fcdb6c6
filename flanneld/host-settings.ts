// Settings of this host that decide whether pods' packets pass it: which there are, whether each is right, and who sees to
// it. What belongs to our own devices the agent holds; what belongs to others it only names. Pure.

import type { Family } from '../model/ip.ts';
import type { PerFamily } from '../model/lease.ts';
import type { State, Sysctl } from '../model/state.ts';

/** What is there to be judged. */
export interface HostFacts {
  readonly have: State;
  readonly families: readonly Family[];
  /** What the agent holds to a value. */
  readonly held: readonly Sysctl[];
  /** VXLAN devices of ours, and what their checksum offload is held to. */
  readonly devices: readonly string[];
  readonly txChecksum: boolean | undefined;
  /** Devices towards other nodes. */
  readonly underlay: readonly string[];
  /** Whether every peer that was looked at is routed by them: then strict filtering there drops nothing of ours. */
  readonly symmetric: boolean;
  /** The device that our pods are behind, if it is known. */
  readonly pods: PerFamily<string>;
  /** Whether network policy is enforced, which holds that bridge's flags. */
  readonly policed: boolean;
}

export interface HostSetting {
  /** "net/ipv4/ip_forward", "flannel.1 tx-checksum", "cni0 nf_call_iptables". */
  readonly name: string;
  readonly value: string;
  readonly right: boolean;
  /** held: put right whenever it changes. reported: whoever set it is to decide. */
  readonly done: 'held' | 'reported';
  /** What to know of it, or to do. */
  readonly note?: string | undefined;
}

/** The keys that {@link hostSettings} wants to see. */
export const hostKeys = ({ held, underlay }: Pick<HostFacts, 'held' | 'underlay'>): string[] => [
  ...new Set([
    ...held.map(({ key }) => key),
    RP_FILTER('all'),
    ...underlay.map(RP_FILTER),
    ...Object.values(BRIDGE_KEYS).map(({ key }) => key),
  ]),
];

const RP_FILTER = (device: string): string => `net/ipv4/conf/${device}/rp_filter`;
const BRIDGE_KEYS = {
  4: { key: 'net/bridge/bridge-nf-call-iptables', flag: 'nf_call_iptables', field: 'nfCallIptables' },
  6: { key: 'net/bridge/bridge-nf-call-ip6tables', flag: 'nf_call_ip6tables', field: 'nfCallIp6tables' },
} as const;

/** Every setting with its value. One that the kernel doesn't have is left out. */
export const hostSettings = (facts: HostFacts): HostSetting[] => [
  ...facts.held.flatMap((sysctl) => heldSetting(sysctl, facts)),
  ...filterSettings(facts),
  ...facts.families.flatMap((family) => bridgeSettings(family, facts)),
  ...facts.devices.flatMap((device) => offloadSetting(device, facts)),
];

const presentValue = ({ have }: HostFacts, key: string): string | undefined =>
  have.sysctls.find((sysctl) => sysctl.key === key)?.value;

function heldSetting({ key, value: wanted }: Sysctl, facts: HostFacts): HostSetting[] {
  const value = presentValue(facts, key);
  if (value === undefined) return [];
  const right = value === wanted;
  return [{ name: key, value, right, done: 'held', ...(!right && { note: `should be ${wanted}` }) }];
}

/** The kernel takes the larger of a device's value and that of all: 1 drops what would be answered by another device. */
function filterSettings(facts: HostFacts): HostSetting[] {
  if (!facts.families.includes(4)) return [];
  const all = presentValue(facts, RP_FILTER('all'));
  return facts.underlay.flatMap((device) => {
    const own = presentValue(facts, RP_FILTER(device));
    if (all === undefined || own === undefined) return [];
    const strict = Math.max(Number(all), Number(own)) === 1;
    const right = !strict || facts.symmetric;
    const note = right
      ? strict && 'strict, and other nodes are routed by this device alone'
      : `strict, and other nodes are routed by other devices too: their packets are dropped here: sysctl -w net.ipv4.conf.${device.replaceAll('.', '/')}.rp_filter=2`;
    return [{ name: RP_FILTER(device), value: own, right, done: 'reported' as const, ...(note && { note }) }];
  });
}

/** Whether the bridge of our pods hands what it forwards by itself to the packet filter. */
function bridgeSettings(family: Family, facts: HostFacts): HostSetting[] {
  const { key, flag, field } = BRIDGE_KEYS[family];
  const whole = presentValue(facts, key);
  return facts.have.links.flatMap(({ name, bridge }): HostSetting[] => {
    if (bridge === undefined || name !== facts.pods[family]) return [];
    const own = bridge[field] === true;
    const setting = { name: `${name} ${flag}`, value: own ? '1' : '0' };
    if (!facts.policed)
      return [{ ...setting, right: true, done: 'reported', note: noteWithoutPolicy(key, whole, own) }];
    const right = own && whole !== undefined;
    return [{ ...setting, right, done: 'held', ...(!right && { note: noteWithPolicy(whole) }) }];
  });
}

function noteWithoutPolicy(key: string, whole: string | undefined, own: boolean): string {
  if (whole === undefined)
    return 'the kernel module br_netfilter is not there: a service that leads to a pod of the same node is answered by the pod itself, and not understood (modprobe br_netfilter)';
  if (own || whole === '1') return `${key} is ${whole}`;
  return `${key} is ${whole}: a service that leads to a pod of the same node is answered by the pod itself, and not understood (sysctl -w ${key.replaceAll('/', '.')}=1)`;
}

const noteWithPolicy = (whole: string | undefined): string =>
  whole === undefined
    ? 'the kernel module br_netfilter is not there: pods of this node reach each other past network policy (modprobe br_netfilter)'
    : 'should be 1: pods of this node reach each other past network policy';

function offloadSetting(device: string, { have, txChecksum }: HostFacts): HostSetting[] {
  const value = have.links.find(({ name }) => name === device)?.txChecksum;
  if (value === undefined) return [];
  return [
    {
      name: `${device} tx-checksum`,
      value: value ? 'on' : 'off',
      right: txChecksum === undefined || value === txChecksum,
      done: txChecksum === undefined ? 'reported' : 'held',
      ...(!value && { note: 'off: right with any kernel and network card, and slower (--vxlan-tx-checksum)' }),
    },
  ];
}

/** For people: what isn't right, and how many are. */
export function hostLines(settings: readonly HostSetting[]): string[] {
  if (settings.length === 0) return [];
  const wrong = settings.filter(({ right }) => !right);
  return [
    `host: ${settings.length - wrong.length} settings are right${wrong.length === 0 ? '' : `, ${wrong.length} not:`}`,
    ...wrong.map(({ name, value, note }) => `  ${name} is ${value}${note === undefined ? '' : `: ${note}`}`),
  ];
}
