// A change to a namespace as a value, and the `ip`, `bridge`, `tc` or `sysctl` line a person would type for it. Logs,
// tests, --dry-run and status use this one form.

import { familyOf } from './ip.ts';
import type { Address, FdbEntry, Item, Link, Neighbour, Qdisc, Redirect, Route, Sysctl } from './state.ts';

/**
 * add: create, EEXIST if there. replace: create or overwrite. change: alter an existing link. delete: ENOENT/ENODEV if
 * not there. Sysctls and links know no replace for their own reasons: a sysctl is always there, a link has a life.
 */
export type Step =
  | { readonly verb: 'add'; readonly item: Item }
  | { readonly verb: 'replace'; readonly item: Exclude<Item, { type: 'link' } | { type: 'sysctl' }> }
  | { readonly verb: 'change'; readonly item: Extract<Item, { type: 'link' } | { type: 'sysctl' }> }
  | { readonly verb: 'delete'; readonly item: Exclude<Item, { type: 'sysctl' }> };

/** The command line equivalent to a step. Text for people: never executed. */
export function printStep(step: Step): string {
  const { verb, item } = step;
  switch (item.type) {
    case 'link':
      return printLink(verb, item.value);
    case 'address':
      return printAddress(verb, item.value);
    case 'route':
      return printRoute(verb, item.value);
    case 'neighbour':
      return printNeighbour(verb, item.value);
    case 'fdb':
      return printFdb(verb, item.value);
    case 'sysctl':
      return printSysctl(item.value);
    case 'qdisc':
      return printQdisc(verb, item.value);
    case 'redirect':
      return printRedirect(verb, item.value);
  }
}

/** Several steps, a line each. */
export const printSteps = (steps: readonly Step[]): string => steps.map((step) => `${printStep(step)}\n`).join('');

const words = (...parts: readonly (string | number | false | null | undefined)[]): string =>
  parts.filter((part) => part !== false && part !== null && part !== undefined && part !== '').join(' ');

/** `name value` when there is a value. */
const option = (name: string, value: string | number | null | undefined): string =>
  value === undefined || value === null ? '' : `${name} ${value}`;

const onOff = (name: string, value: boolean | undefined): string =>
  value === undefined ? '' : `${name} ${value ? 'on' : 'off'}`;

function printLink(verb: Step['verb'], link: Link): string {
  if (verb === 'delete') return `ip link delete ${link.name}`;
  const general = words(option('mtu', link.mtu), option('address', link.mac));
  const attached = words(
    link.master === null ? 'nomaster' : option('master', link.master),
    onOff('promisc', link.promiscuous),
    link.up === undefined ? '' : link.up ? 'up' : 'down',
  );
  const port =
    link.port === undefined
      ? ''
      : words('type bridge_slave', onOff('hairpin', link.port.hairpin), onOff('isolated', link.port.isolated));
  const offload = link.txChecksum === undefined ? '' : `ethtool -K ${link.name} tx ${link.txChecksum ? 'on' : 'off'}`;
  const changes = words(general, attached, kindOptions(link, true), port);
  const line =
    verb === 'change'
      ? changes && `ip link set ${link.name} ${changes}`
      : words('ip link add', link.name, general, attached, 'type', link.kind, kindOptions(link, false), port);
  return [line, offload].filter(Boolean).join('; ');
}

function kindOptions(link: Link, withType: boolean): string {
  if (link.vxlan !== undefined) {
    const { vni, local, device, port, learning, gbp } = link.vxlan;
    return words(
      `id ${vni}`,
      option('local', local),
      option('dev', device),
      `dstport ${port}`,
      learning === false && 'nolearning',
      gbp && 'gbp',
    );
  }
  if (link.bridge !== undefined) {
    const { nfCallIptables, nfCallIp6tables } = link.bridge;
    const flag = (name: string, value: boolean | undefined) => (value === undefined ? '' : `${name} ${value ? 1 : 0}`);
    return words(
      withType && 'type bridge',
      flag('nf_call_iptables', nfCallIptables),
      flag('nf_call_ip6tables', nfCallIp6tables),
    );
  }
  if (link.peer !== undefined) {
    const { name, mac, mtu, namespace } = link.peer;
    return words('peer name', name, option('address', mac), option('mtu', mtu), option('netns', namespace?.path));
  }
  return '';
}

const ipCommand = (value: Parameters<typeof familyOf>[0]): string => (familyOf(value) === 6 ? 'ip -6' : 'ip');

function printAddress(verb: Step['verb'], { address, device, noDad }: Address): string {
  return words(ipCommand(address), 'address', verb, address, 'dev', device, verb !== 'delete' && noDad && 'nodad');
}

function printRoute(verb: Step['verb'], route: Route): string {
  return words(
    ipCommand(route.destination),
    'route',
    verb,
    route.type === 'blackhole' && 'blackhole',
    route.destination,
    option('via', route.via),
    option('dev', route.device),
    option('proto', route.protocol),
    option('src', route.source),
    option('metric', route.metric),
    option('table', route.table),
    option('scope', route.scope),
    option('mtu', route.mtu),
    option('advmss', route.advmss),
    route.onlink && 'onlink',
  );
}

function printNeighbour(verb: Step['verb'], { ip, mac, device }: Neighbour): string {
  return words(ipCommand(ip), 'neighbour', verb, ip, verb !== 'delete' && `lladdr ${mac} nud permanent`, 'dev', device);
}

function printFdb(verb: Step['verb'], { mac, destination, device }: FdbEntry): string {
  return words('bridge fdb', verb, mac, 'dev', device, 'dst', destination, 'self', verb !== 'delete' && 'permanent');
}

/** Of tc's units "bps" is bytes a second. */
function printQdisc(verb: Step['verb'], qdisc: Qdisc): string {
  const place = `tc qdisc ${verb} dev ${qdisc.device}`;
  if (qdisc.kind === 'ingress') return `${place} ingress`;
  if (verb === 'delete') return `${place} root`;
  const { rate, burst, limit } = qdisc;
  return `${place} root handle 1: tbf rate ${rate}bps burst ${burst} limit ${limit}`;
}

function printRedirect(verb: Step['verb'], { device, to }: Redirect): string {
  const place = `tc filter ${verb} dev ${device} ingress protocol all prio 1 handle 800::800 u32`;
  return verb === 'delete' ? place : `${place} match u32 0 0 action mirred egress redirect dev ${to}`;
}

const printSysctl = ({ key, value }: Sysctl): string =>
  `sysctl -w ${key.replaceAll('.', '\u0000').replaceAll('/', '.').replaceAll('\u0000', '/')}=${JSON.stringify(value).slice(1, -1)}`;
