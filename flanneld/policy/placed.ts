// Where the pods of a cluster are: which of them count, at which addresses, and which are of this node. Pods are kept by
// namespace, and a namespace that a change isn't about is taken as it was: among tens of thousands of pods one changes many times
// a second. Pure.

import type { Ip } from '../../model/ip.ts';
import { isSamePod, type Pod } from './objects.ts';

/** An attachment that the plugin has made, or is making, on this node for a pod. */
export interface Attached {
  readonly namespace: string;
  readonly name: string;
  /** Undefined: nobody has told. */
  readonly uid?: string | undefined;
  readonly addresses: readonly Ip[];
}

/** A pod of this node whose traffic is judged, for as long as it is attached, should it have finished. */
export interface Endpoint {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly Ip[];
  /** Undefined: the source doesn't know it, or another one of that name, so nobody knows its labels. */
  readonly pod: Pod | undefined;
}

export interface Placed {
  readonly places: ReadonlyMap<string, Place>;
  readonly endpoints: readonly Endpoint[];
  /** What it was made from, for the next one. */
  readonly told: readonly Pod[];
  readonly attached: readonly Attached[];
  readonly node: string | undefined;
}

/** One namespace. */
export interface Place {
  /** Those that count. */
  readonly pods: readonly Pod[];
  /** Of this node: attached by our plugin, and by another one. */
  readonly own: readonly Endpoint[];
  readonly foreign: readonly Endpoint[];
  readonly told: readonly Pod[];
  readonly attached: readonly Attached[];
}

/**
 * The pods at their places. A pod of this node has the addresses of its attachments; one that another plugin has attached here
 * (`node` is its spec.nodeName) and one elsewhere have those of their status, less what an attachment here holds: a pod
 * that is gone may still be told with an address that is another's by now.
 */
export function place(
  told: readonly Pod[],
  attached: readonly Attached[],
  node: string | undefined,
  last: Placed | undefined,
): Placed {
  const before = last?.node === node ? last : undefined;
  if (before !== undefined && sameItems(before.told, told) && sameItems(before.attached, attached)) return before;
  const held = addressesOf(attached);
  const moved = held.symmetricDifference(addressesOf(before?.attached ?? []));
  const toldIn = byNamespace(told, before);
  const attachedIn = Map.groupBy(attached, ({ namespace }) => namespace);
  const places = new Map(
    [...new Set([...toldIn.keys(), ...attachedIn.keys()])].map((name) => {
      const inputs = { told: toldIn.get(name) ?? [], attached: attachedIn.get(name) ?? [] };
      const known = before?.places.get(name);
      const holds = known !== undefined && isSame(known, inputs) && !speaksOf(inputs.told, moved);
      return [name, holds ? known : placeOf(inputs, held, node)];
    }),
  );
  const all = [...places.values()];
  const endpoints = [...all.flatMap(({ own }) => own), ...all.flatMap(({ foreign }) => foreign)];
  return { places, endpoints, told, attached, node };
}

type Inputs = Pick<Place, 'told' | 'attached'>;

const isSame = (known: Inputs, { told, attached }: Inputs): boolean =>
  sameItems(known.told, told) && sameItems(known.attached, attached);

const addressesOf = (attached: readonly Attached[]): Set<Ip> => new Set(attached.flatMap(({ addresses }) => addresses));

function speaksOf(pods: readonly Pod[], addresses: ReadonlySet<Ip>): boolean {
  if (addresses.size === 0) return false;
  for (const pod of pods) for (const address of pod.addresses) if (addresses.has(address)) return true;
  return false;
}

/** The pods by namespace; a list of which nothing has changed is the same one. */
function byNamespace(told: readonly Pod[], before: Placed | undefined): ReadonlyMap<string, readonly Pod[]> {
  if (before === undefined) return Map.groupBy(told, ({ namespace }) => namespace);
  const { gone, come } = changes(before.told, told);
  const comeIn = Map.groupBy(come, ({ namespace }) => namespace);
  const lists = new Map([...before.places].map(([name, place]) => [name, place.told]));
  for (const name of new Set([...comeIn.keys(), ...[...gone].map(({ namespace }) => namespace)])) {
    const staying = (lists.get(name) ?? []).filter((pod) => !gone.has(pod));
    const list = [...staying, ...(comeIn.get(name) ?? [])];
    if (list.length > 0) lists.set(name, list);
    else lists.delete(name);
  }
  return lists;
}

/** What leads from one list to another. Sources keep the order: a pod that changes keeps its place, one that comes is the last. */
function changes(before: readonly Pod[], now: readonly Pod[]): { gone: ReadonlySet<Pod>; come: readonly Pod[] } {
  const gone = new Set<Pod>();
  const come: Pod[] = [];
  let at = 0;
  for (const pod of before) {
    const next = now[at];
    if (next === pod) {
      at++;
      continue;
    }
    gone.add(pod);
    if (next?.name !== pod.name || next.namespace !== pod.namespace) continue;
    come.push(next);
    at++;
  }
  return { gone, come: come.concat(now.slice(at)) };
}

function placeOf({ told, attached }: Inputs, held: ReadonlySet<Ip>, node: string | undefined): Place {
  const here = byName(attached);
  const pods: Pod[] = [];
  const foreign: Endpoint[] = [];
  for (const pod of told) {
    const own = here.get(pod.name)?.filter((each) => isSamePod(each, pod)) ?? NOT_HERE;
    const counts = !pod.hostNetwork && !pod.finished;
    const isHere = own.length > 0;
    if (!isHere && !counts) continue;
    const one = withAddresses(pod, isHere ? own.flatMap(({ addresses }) => addresses) : without(pod.addresses, held));
    if (counts) pods.push(one);
    for (const each of own) each.pod = counts ? one : (each.pod ?? one);
    if (counts && !isHere && node !== undefined && pod.node === node) foreign.push(endpointOf(one));
  }
  const own = [...here.values()].flat().filter((each) => each.pod?.hostNetwork !== true);
  return { pods, own, foreign, told, attached };
}

const endpointOf = (pod: Pod): Endpoint => ({
  namespace: pod.namespace,
  name: pod.name,
  addresses: pod.addresses,
  pod,
});

/** An attached pod, with the addresses of all its attachments, and what the source says of it. */
interface Here extends Attached {
  addresses: readonly Ip[];
  pod: Pod | undefined;
}

const NOT_HERE: readonly Here[] = [];

/** Of one namespace; several pods of one name are one after the other. */
function byName(attached: readonly Attached[]): ReadonlyMap<string, readonly Here[]> {
  const found = new Map<string, Here[]>();
  for (const each of attached) {
    const named = found.get(each.name) ?? [];
    const known = named.find(({ uid }) => uid === each.uid);
    if (known === undefined) named.push({ ...each, pod: undefined });
    else known.addresses = [...new Set([...known.addresses, ...each.addresses])];
    found.set(each.name, named);
  }
  return found;
}

/** The same list where there are none of the others, as for all but a few pods of a cluster. */
const without = (addresses: readonly Ip[], others: ReadonlySet<Ip>): readonly Ip[] =>
  addresses.some((address) => others.has(address)) ? addresses.filter((address) => !others.has(address)) : addresses;

/** One object for a pod with other addresses, for as long as both stay as they are. */
const readdressed = new WeakMap<Pod, Pod>();

function withAddresses(pod: Pod, addresses: readonly Ip[]): Pod {
  if (sameItems(pod.addresses, addresses)) return pod;
  const last = readdressed.get(pod);
  if (last !== undefined && sameItems(last.addresses, addresses)) return last;
  const changed = { ...pod, addresses };
  readdressed.set(pod, changed);
  return changed;
}

export const sameItems = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a === b || (a.length === b.length && a.every((item, at) => item === b[at]));
