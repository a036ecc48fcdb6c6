// Permanent neighbours and VXLAN forwarding entries of the fake kernel (net/core/neighbour.c, drivers/net/vxlan).

import { type Family, familyOf, type Mac } from '../model/ip.ts';
import type { FdbEntry, Neighbour } from '../model/state.ts';
import { type Device, deviceNamed, type HeldFdbEntry, ipv6Disabled, lacksIpv6, type Net, refuse } from './fake-net.ts';

/** Equivalent to: ip neighbour add|replace IP lladdr MAC nud permanent dev DEVICE */
export function addNeighbour(net: Net, { device: name, ip, mac }: Neighbour, replace: boolean): void {
  const device = deviceNamed(net, name);
  if (familyOf(ip) === 6 && (lacksIpv6(device) || ipv6Disabled(device))) refuse('EINVAL');
  const there = net.neighbours.find((held) => held.device === device && held.ip === ip);
  if (there !== undefined && !replace) refuse('EEXIST');
  net.neighbours = [...net.neighbours.filter((held) => held !== there), { device, ip, mac }];
}

/** Equivalent to: ip neighbour delete IP dev DEVICE; its MAC doesn't matter */
export function deleteNeighbour(net: Net, { device: name, ip }: Neighbour): void {
  const device = deviceNamed(net, name);
  const there = net.neighbours.find((held) => held.device === device && held.ip === ip) ?? refuse('ENOENT');
  net.neighbours = net.neighbours.filter((held) => held !== there);
}

/** Equivalent to: bridge fdb add|replace MAC dev DEVICE dst VTEP self permanent */
export function addFdb(net: Net, { device: name, mac, destination }: FdbEntry, replace: boolean): void {
  const device = vxlanNamed(net, name);
  if (familyOf(destination) !== underlayFamily(device)) refuse('EAFNOSUPPORT');
  const there = entryOf(net, device, mac);
  if (there !== undefined && !replace) refuse('EEXIST');
  if (replace && !isUnicast(mac)) refuse('ENOTSUP');
  net.fdb = [...net.fdb.filter((held) => held !== there), { device, mac, destination }];
}

/**
 * Equivalent to: bridge fdb delete MAC dev DEVICE dst VTEP self. As in the kernel, a destination that the entry doesn't
 * have succeeds and changes nothing (vxlan_fdb_delete).
 */
export function deleteFdb(net: Net, { device: name, mac, destination }: FdbEntry): void {
  const there = entryOf(net, vxlanNamed(net, name), mac) ?? refuse('ENOENT');
  if (there.destination === destination) net.fdb = net.fdb.filter((held) => held !== there);
}

const entryOf = (net: Net, device: Device, mac: Mac): HeldFdbEntry | undefined =>
  net.fdb.find((held) => held.device === device && held.mac === mac);

/** Other Ethernet devices take entries too, of another sort: nothing here makes any, so that is refused. */
function vxlanNamed(net: Net, name: string): Device {
  const device = deviceNamed(net, name);
  if (name === 'lo') refuse('EINVAL');
  return device.vxlan === undefined ? refuse('ENOTSUP') : device;
}

const underlayFamily = ({ vxlan }: Device): Family => (vxlan?.local === undefined ? 4 : familyOf(vxlan.local));

const isUnicast = (mac: Mac): boolean =>
  mac !== '00:00:00:00:00:00' && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
