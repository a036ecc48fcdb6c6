// Steps in their order, over one socket: what can travel together does, a link's birth or death goes alone because the
// steps after it need the new index.

import { asNetError, NetError } from '../model/errors.ts';
import type { Link, Sysctl } from '../model/state.ts';
import type { Step } from '../model/steps.ts';
import { addAddress, deleteAddress } from './address.ts';
import type { Failure } from './kernel.ts';
import { addLink, changeLink, changePort, deleteLink, type IndexOf } from './link.ts';
import { addFdb, addNeighbour, deleteFdb, deleteNeighbour } from './neighbour.ts';
import type { NetlinkSocket, Request } from './netlink.ts';
import { addQdisc, addRedirect, deleteQdisc, deleteRedirect } from './qdisc.ts';
import { addRoute, deleteRoute } from './route.ts';

/** More messages don't wait: thousands of them would take memory all at once, and a datagram holds a few hundred. */
const MOST_PENDING = 500;

/** A message that waits for the next datagram, and which step it is for. */
interface Pending {
  readonly at: number;
  readonly request: Request;
}

/** What applying needs of a namespace. */
export interface Target {
  readonly socket: NetlinkSocket;
  readonly indexOf: IndexOf;
  /** A device's name stands for another index from now on, or for none. */
  forget(device: string): void;
  writeSysctl(sysctl: Sysctl): void;
  setTxChecksum(device: string, on: boolean): void;
}

/** Applies the steps and returns those that failed, in order. */
export function applySteps(steps: readonly Step[], target: Target): Failure[] {
  const errors: (NetError | undefined)[] = [];
  let pending: Pending[] = [];

  const fail = (at: number, error: unknown) => {
    errors[at] ??= asNetError(error);
  };
  const flush = () => {
    if (pending.length === 0) return;
    const answers = target.socket.batch(pending.map(({ request }) => request));
    for (const [index, { at }] of pending.entries()) if (answers[index] !== undefined) fail(at, answers[index]);
    pending = [];
  };

  for (const [at, step] of steps.entries()) {
    const alone = step.item.type === 'sysctl' || (step.item.type === 'link' && step.verb !== 'change');
    if (alone || pending.length >= MOST_PENDING) flush();
    try {
      if (step.item.type === 'sysctl') target.writeSysctl(step.item.value);
      else pending.push(...requestsOf(step, target.indexOf).map((request) => ({ at, request })));
    } catch (error) {
      fail(at, error);
    }
    if (alone && step.item.type !== 'sysctl') {
      flush();
      target.forget((step.item.value as Link).name);
      const error = errors[at] === undefined ? bornPort(step, target) : undefined;
      if (error !== undefined) fail(at, error);
    }
    const offload = step.item.type === 'link' && step.verb !== 'delete' ? step.item.value.txChecksum : undefined;
    if (offload === undefined) continue;
    flush();
    try {
      if (errors[at] === undefined) target.setTxChecksum((step.item.value as Link).name, offload);
    } catch (error) {
      fail(at, error);
    }
  }
  flush();
  return steps.flatMap((step, at) => (errors[at] === undefined ? [] : [{ step, error: errors[at] }]));
}

/** A new bridge port's options: a message after the one that made it a port. */
function bornPort(step: Step, target: Target): NetError | undefined {
  if (step.verb !== 'add' || step.item.type !== 'link' || step.item.value.port === undefined) return undefined;
  const { name, port } = step.item.value;
  return target.socket.batch([changePort(name, port)])[0];
}

function requestsOf({ verb, item }: Step, indexOf: IndexOf): Request[] {
  const replace = verb === 'replace';
  switch (item.type) {
    case 'link':
      return verb === 'change'
        ? linkChanges(item.value, indexOf)
        : [verb === 'add' ? addLink(named(item.value), indexOf) : deleteLink(item.value.name)];
    case 'address':
      return [verb === 'delete' ? deleteAddress(item.value, indexOf) : addAddress(item.value, replace, indexOf)];
    case 'route':
      return [verb === 'delete' ? deleteRoute(item.value, indexOf) : addRoute(item.value, replace, indexOf)];
    case 'neighbour':
      return [verb === 'delete' ? deleteNeighbour(item.value, indexOf) : addNeighbour(item.value, replace, indexOf)];
    case 'fdb':
      return [verb === 'delete' ? deleteFdb(item.value, indexOf) : addFdb(item.value, replace, indexOf)];
    case 'qdisc':
      return [verb === 'delete' ? deleteQdisc(item.value, indexOf) : addQdisc(item.value, replace, indexOf)];
    case 'redirect':
      return [verb === 'delete' ? deleteRedirect(item.value, indexOf) : addRedirect(item.value, replace, indexOf)];
    case 'sysctl':
      return [];
  }
}

function linkChanges(link: Link, indexOf: IndexOf): Request[] {
  const { port, txChecksum: _, ...rest } = link;
  const general = Object.keys(rest).some((key) => key !== 'name' && key !== 'kind');
  return [
    ...(general ? [changeLink(rest, indexOf)] : []),
    ...(port === undefined ? [] : [changePort(link.name, port)]),
  ];
}

/** The kernel would choose a name of its own for an empty one, and cut one at a NUL. */
function named(link: Link): Link {
  const bad = [link.name, link.peer?.name].find((name) => name === '' || name?.includes('\0'));
  if (bad === undefined) return link;
  throw new NetError('kernel', `add link ${JSON.stringify(bad)}: EINVAL`, { errno: 'EINVAL', subject: bad });
}
