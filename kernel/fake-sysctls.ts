// Sysctls of the fake kernel: the integers under net/ that a pod network reads and writes, with a new namespace's values.
// A key that isn't listed doesn't exist here, though the kernel may have it.

import { NetError } from '../model/errors.ts';
import type { Sysctl } from '../model/state.ts';
import { stopIpv6 } from './fake-addresses.ts';
import { findDevice, ipv6Disabled, lacksIpv6, type Net, refuse } from './fake-net.ts';

const PLAIN: Readonly<Record<string, number>> = {
  'net/bridge/bridge-nf-call-arptables': 1,
  'net/bridge/bridge-nf-call-ip6tables': 1,
  'net/bridge/bridge-nf-call-iptables': 1,
};

/** net/<family>/conf/<device, all or default>/<name> */
const PER_DEVICE: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  ipv4: {
    accept_local: 0,
    accept_redirects: 1,
    arp_accept: 0,
    arp_announce: 0,
    arp_ignore: 0,
    arp_notify: 0,
    forwarding: 0,
    promote_secondaries: 0,
    proxy_arp: 0,
    route_localnet: 0,
    rp_filter: 0,
    send_redirects: 1,
    src_valid_mark: 0,
  },
  ipv6: {
    accept_dad: 1,
    accept_ra: 1,
    accept_redirects: 1,
    addr_gen_mode: 0,
    autoconf: 1,
    dad_transmits: 1,
    disable_ipv6: 0,
    forwarding: 0,
    keep_addr_on_down: 0,
    proxy_ndp: 0,
  },
};

/** Written for all, these count for every device and for new ones. */
const SPREADING = ['net/ipv4/conf/all/forwarding', 'net/ipv6/conf/all/forwarding', 'net/ipv6/conf/all/disable_ipv6'];

/** Two names of one setting. */
const canonical = (key: string): string => (key === 'net/ipv4/ip_forward' ? 'net/ipv4/conf/all/forwarding' : key);

/** Undefined when there is no such key. @throws NetError invalid-config outside net/. Equivalent to: sysctl -n KEY */
export function readSysctl(net: Net, key: string): Sysctl | undefined {
  const fallback = defaultOf(net, key);
  return fallback === undefined ? undefined : { key, value: net.sysctls.get(canonical(key)) ?? String(fallback) };
}

/** Equivalent to: sysctl -w KEY=VALUE */
export function writeSysctl(net: Net, { key, value }: Sysctl): void {
  if (defaultOf(net, key) === undefined) refuse('ENOENT');
  if (value.trim() === '') return;
  const number = integer(value);
  const name = canonical(key);
  if (name.endsWith('/addr_gen_mode') && (number < 0 || number > 3)) refuse('EINVAL');
  for (const each of SPREADING.includes(name) ? [name, ...spread(net, name)] : [name])
    net.sysctls.set(each, String(number));
  for (const device of net.devices) if (ipv6Disabled(device)) stopIpv6(device);
}

const spread = (net: Net, key: string): string[] =>
  ['default', ...net.devices.map(({ name }) => name)].map((name) => key.replace('/all/', () => `/${name}/`));

/** The first word, as strtol reads it. */
function integer(value: string): number {
  const word = value.trim().split(/\s+/)[0] as string;
  const number = /^-?(0x[0-9a-f]+|\d+)$/i.test(word)
    ? Number(word.replace(/^-/, '')) * (word.startsWith('-') ? -1 : 1)
    : Number.NaN;
  return Number.isNaN(number) || Math.abs(number) > 0x7fffffff ? refuse('EINVAL') : number;
}

function defaultOf(net: Net, key: string): number | undefined {
  const parts = key.split('/');
  if (parts[0] !== 'net' || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new NetError('invalid-config', `sysctl ${JSON.stringify(key)} is not under net/`, { subject: key });
  }
  const [, family = '', conf, which = '', setting = ''] = parts;
  const ofDevices = Object.hasOwn(PER_DEVICE, family) ? PER_DEVICE[family] : undefined;
  if (ofDevices !== undefined && conf === 'conf' && parts.length === 5) {
    return hasSettings(net, family, which) && Object.hasOwn(ofDevices, setting) ? ofDevices[setting] : undefined;
  }
  return canonical(key) === key ? PLAIN[key] : 0;
}

function hasSettings(net: Net, family: string, which: string): boolean {
  if (which === 'all' || which === 'default') return true;
  const device = findDevice(net, which);
  return device !== undefined && !(family === 'ipv6' && lacksIpv6(device));
}
