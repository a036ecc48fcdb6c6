// The kernel in memory: what decides can be tested without root, in microseconds, and made to fail. It is honest because
// it passes the same suite as the real one (test/compliance/kernel.ts). Where it differs:
// - No packet ever moves, so no flow is tracked.
// - Of what a change brings about (a deleted device's addresses) only the change itself is told to who watches.
// - There is no time: carrier and link-local addresses are there at once, duplicate address detection never runs.
// - Of sysctls only those of fake-sysctls.ts exist. Names with % are refused, not expanded.
// - Forwarding entries exist on VXLAN devices only. An IPv4 subnet of the loopback device is its one address.
// - Names and rules of nft are not parsed; rules are just searched for what they refer to.

import { asNetError, NetError } from '../model/errors.ts';
import { FAMILIES, familyOf, type Ip, type Mac } from '../model/ip.ts';
import type { Transaction } from '../model/ruleset.ts';
import { printTable, printTransaction } from '../model/ruleset.ts';
import { type Item, itemsOf, type Link, MAIN_TABLE, type Namespace, type State } from '../model/state.ts';
import { printStep, printSteps, type Step } from '../model/steps.ts';
import { addAddress, deleteAddress, settleIpv6 } from './fake-addresses.ts';
import { changeLink } from './fake-link-changes.ts';
import { addLink, deleteLink, type NetOf, plug, readLink } from './fake-links.ts';
import { namespaces } from './fake-namespaces.ts';
import { addFdb, addNeighbour, deleteFdb, deleteNeighbour } from './fake-neighbours.ts';
import { type Net, refuse } from './fake-net.ts';
import { commit, listChains, readChain, readTable, type Tables } from './fake-nftables.ts';
import { addQdisc, addRedirect, deleteQdisc, deleteRedirect, readQdiscs } from './fake-qdiscs.ts';
import { fakeRevisions } from './fake-revisions.ts';
import { addRoute, deleteRoute, readRoute, routeTo } from './fake-routes.ts';
import { readSysctl, writeSysctl } from './fake-sysctls.ts';
import { changesOf, ruleChangesOf, type Told, tellLater } from './fake-notify.ts';
import type { Change, Failure, FlowFilter, Kernel, Query } from './kernel.ts';

/** The fake with what a test does behind its back. */
export interface FakeKernel extends Kernel {
  /** Makes a namespace that can be opened by the path. Equivalent to: ip netns add */
  addNamespace(path: string): void;
  /** Takes the path away; the namespace dies with its last opening. Equivalent to: ip netns delete */
  removeNamespace(path: string): void;
  /** Gives the namespace a physical device, down, as a machine has them. */
  addDevice(namespace: Namespace, device: Pick<Link, 'name' | 'mac' | 'mtu'>): void;
  /** Makes the next step, or transaction, whose printed text matches fail. */
  failNext(text: RegExp, errno: string): void;
  /** What flows were to be forgotten: the fake has none. */
  readonly forgotten: readonly FlowFilter[];
  /** What was told to neighbours: the fake has none. */
  readonly announced: readonly Announcement[];
  /** What bits were to be taken off the marks of flows. */
  readonly unmarked: readonly number[];
  /** Everything in the namespace, and for the host's its tables, in the words of `ip` and `nft`. */
  dump(namespace: Namespace): string;
}

export interface Announcement {
  readonly device: string;
  readonly mac: Mac;
  readonly addresses: readonly Ip[];
}

interface Trap {
  readonly text: RegExp;
  readonly errno: string;
}

/** A machine with nothing but loopback devices. */
export function createFakeKernel(): FakeKernel {
  const spaces = namespaces();
  const tables: Tables = new Map();
  const traps: Trap[] = [];
  const forgotten: FlowFilter[] = [];
  const announced: Announcement[] = [];
  const unmarked: number[] = [];
  const listeners: Told = new Set();
  const revisions = fakeRevisions();
  let committed = 0;

  const spring = (text: string) => {
    const at = traps.findIndex((trap) => trap.text.test(text));
    if (at >= 0) refuse((traps.splice(at, 1)[0] as Trap).errno);
  };
  const applyStep = (net: Net, step: Step): Failure[] => {
    try {
      spring(printStep(step));
      change(net, step, spaces.netOf);
      return [];
    } catch (error) {
      return [{ step, error: explained(asNetError(error), step) }];
    } finally {
      for (const each of spaces.nets()) settleIpv6(each);
    }
  };

  const commitRules = (transaction: Transaction) => {
    try {
      spring(printTransaction(transaction));
      commit(tables, transaction);
      tellLater(listeners, ruleChangesOf(transaction, ++committed));
    } catch (error) {
      throw refused(asNetError(error), `change table ${transaction.family} ${transaction.table}`, transaction.table);
    }
  };

  return {
    host: spaces.host,
    openNamespace: spaces.open,
    read: (namespace, query) => readNet(spaces.netOf(namespace), query),
    *readInSlices(query, former) {
      const state = readNet(spaces.netOf(spaces.host), query);
      yield;
      const fingerprint = JSON.stringify(state);
      return { fingerprint, state: fingerprint === former ? undefined : state };
    },
    apply: (namespace, steps) => {
      const net = spaces.netOf(namespace);
      const failures = steps.flatMap((step) => applyStep(net, step));
      const done = steps.filter((step) => !failures.some((failure) => failure.step === step));
      if (namespace.id === spaces.host.id) {
        revisions.note(done);
        tellLater(listeners, done.flatMap(changesOf));
      }
      return failures;
    },
    settleCarrier: () => undefined,
    linkRevision: (index) =>
      revisions.of(spaces.netOf(spaces.host).devices.find((device) => device.index === index)?.name),
    rulesGeneration: () => committed,
    routeTo: (namespace, address) => routeTo(spaces.netOf(namespace), address),
    readTable: (family, name) => readTable(tables, family, name),
    listChains: () => listChains(tables),
    readChain: (chain) => readChain(tables, chain),
    commit: commitRules,
    commitAside: async (transaction) => commitRules(transaction),
    unmarkFlows: async (mask) => void unmarked.push(mask),
    unmarked,
    forgetFlows: (filter) => void forgotten.push(filter),
    forgetEnds: async (ends) => void forgotten.push(...ends.map((end) => ({ family: familyOf(end), end }))),
    forgotten,
    announce: ({ name }, mac, addresses) => void announced.push({ device: name, mac, addresses }),
    announced,
    watch(onChange) {
      const listener = (change: Change) => onChange(change);
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close: () => undefined,
    addNamespace: (path) => void spaces.add(path),
    removeNamespace: spaces.remove,
    addDevice: (namespace, device) => void plug(spaces.netOf(namespace), { ...device, kind: 'device' }),
    failNext: (text, errno) => void traps.push({ text, errno }),
    dump: (namespace) => {
      const text = dumpNet(spaces.netOf(namespace));
      return namespace.id === spaces.host.id ? [text, ...[...tables.values()].map(printTable)].join('') : text;
    },
  };
}

function change(net: Net, { verb, item }: Step, netOf: NetOf): void {
  const replace = verb === 'replace';
  const gone = verb === 'delete';
  switch (item.type) {
    case 'link':
      if (verb === 'change') changeLink(net, item.value);
      else if (gone) deleteLink(net, item.value.name);
      else addLink(net, item.value, netOf);
      break;
    case 'address':
      if (gone) deleteAddress(net, item.value);
      else addAddress(net, item.value, replace);
      break;
    case 'route':
      if (gone) deleteRoute(net, item.value);
      else addRoute(net, item.value, replace);
      break;
    case 'neighbour':
      if (gone) deleteNeighbour(net, item.value);
      else addNeighbour(net, item.value, replace);
      break;
    case 'fdb':
      if (gone) deleteFdb(net, item.value);
      else addFdb(net, item.value, replace);
      break;
    case 'sysctl':
      writeSysctl(net, item.value);
      break;
    case 'qdisc':
      if (gone) deleteQdisc(net, item.value);
      else addQdisc(net, item.value, replace);
      break;
    case 'redirect':
      if (gone) deleteRedirect(net, item.value);
      else addRedirect(net, item.value, replace);
      break;
  }
}

const explained = (error: NetError, step: Step): NetError => refused(error, printStep(step), subjectOf(step.item));

function refused(error: NetError, attempt: string, subject: string): NetError {
  if (error.code !== 'kernel') return error;
  return new NetError('kernel', `${attempt}: ${error.errno}`, {
    errno: error.errno,
    subject: error.subject ?? subject,
    cause: error.cause,
  });
}

function subjectOf(item: Item): string {
  switch (item.type) {
    case 'link':
      return item.value.name;
    case 'address':
      return item.value.address;
    case 'route':
      return item.value.destination;
    case 'neighbour':
      return item.value.ip;
    case 'fdb':
      return item.value.mac;
    case 'sysctl':
      return item.value.key;
    default:
      return item.value.device;
  }
}

const asked = (names: readonly string[] | 'all' | undefined, name: string): boolean =>
  names === 'all' || (names?.includes(name) ?? false);

function readNet(net: Net, query: Query): State {
  const { routes } = query;
  return {
    ...readQdiscs(net, query.qdiscs ?? []),
    links: net.devices.filter(({ name }) => asked(query.links, name)).map(readLink),
    addresses: FAMILIES.flatMap((family) => net.addresses.filter(({ address }) => familyOf(address) === family))
      .filter(({ device }) => asked(query.addresses, device.name))
      .map(({ device, address, scope }) => ({ device: device.name, address, scope, flags: [] })),
    routes: net.routes
      .filter(({ table, destination }) => table === MAIN_TABLE && routes?.families.includes(familyOf(destination)))
      .filter(({ device }) => routes?.device === undefined || device?.name === routes.device)
      .filter(({ protocol, via }) => via === undefined || protocol !== routes?.withoutGatewaysOf)
      .map(readRoute),
    neighbours: net.neighbours
      .filter(({ device }) => asked(query.neighbours, device.name))
      .map(({ device, ip, mac }) => ({ device: device.name, ip, mac })),
    fdb: net.fdb
      .filter(({ device }) => asked(query.fdb, device.name))
      .map(({ device, mac, destination }) => ({ device: device.name, mac, destination })),
    sysctls: (query.sysctls ?? []).flatMap((key) => readSysctl(net, key) ?? []),
  };
}

function dumpNet(net: Net): string {
  const names = net.devices.map(({ name }) => name);
  const everything: Query = {
    links: 'all',
    addresses: 'all',
    routes: { families: [4, 6] },
    neighbours: names,
    fdb: names,
    qdiscs: names,
    sysctls: [...net.sysctls.keys()],
  };
  return printSteps(
    itemsOf(readNet(net, everything)).map(
      (item): Step => (item.type === 'sysctl' ? { verb: 'change', item } : { verb: 'add', item }),
    ),
  );
}
