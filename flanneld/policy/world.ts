// What a source knows, put in order for the compiler: by namespace, with the addresses that hold, and the pods of this node
// that traffic is judged for. What hasn't changed since the last time is the same object, by which the compiler knows what it
// need not do again. Pure.

import type { Ip } from '../../model/ip.ts';
import { isSamePod, type Labels, type Objects, type Pod, type Policy } from './objects.ts';
import { impliedNamespace } from './parse-pod.ts';

/** An attachment that the plugin has made, or is making, on this node for a pod. */
export interface Attached {
  readonly namespace: string;
  readonly name: string;
  /** Undefined: nobody has told. */
  readonly uid?: string | undefined;
  readonly addresses: readonly Ip[];
}

export interface NamespaceView {
  readonly name: string;
  readonly labels: Labels;
  /** Those that policies select and peers: neither on the host's network nor finished. */
  readonly pods: readonly Pod[];
  readonly policies: readonly Policy[];
}

/** A pod of this node whose traffic is judged, for as long as it is attached, should it have finished. */
export interface Endpoint {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly Ip[];
  /** Undefined: the source doesn't know it, or another one of that name, so nobody knows its labels. */
  readonly pod: Pod | undefined;
}

export interface World {
  readonly namespaces: ReadonlyMap<string, NamespaceView>;
  readonly endpoints: readonly Endpoint[];
  /** What it was made from, for the next one. */
  readonly placed?: Placed | undefined;
}

export const EMPTY_WORLD: World = { namespaces: new Map(), endpoints: [] };

/**
 * The world of a node. A pod of this node has the addresses of its attachments; one that another plugin has attached here
 * (`node` is its spec.nodeName) and one elsewhere have those of their status, less what an attachment here holds: a pod
 * that is gone may still be told with an address that is another's by now.
 */
export function worldOf(
  { namespaces, pods, policies }: Objects,
  attached: readonly Attached[],
  node: string | undefined,
  before: World,
): World {
  const placed = before.placed;
  const isSame =
    placed !== undefined &&
    placed.node === node &&
    sameItems(placed.told, pods) &&
    sameItems(placed.attached, attached);
  const now = isSame ? placed : place(pods, attached, node);
  return { namespaces: views(namespaces, now.pods, policies, before), endpoints: now.endpoints, placed: now };
}

/** Which pods count, at which addresses, and which of them are of this node. */
interface Placed {
  readonly told: readonly Pod[];
  readonly attached: readonly Attached[];
  readonly node: string | undefined;
  readonly pods: ReadonlyMap<string, readonly Pod[]>;
  readonly endpoints: readonly Endpoint[];
}

function place(told: readonly Pod[], attached: readonly Attached[], node: string | undefined): Placed {
  const here = byName(attached);
  const held = new Set(attached.flatMap(({ addresses }) => addresses));
  const foreign: Endpoint[] = [];
  const addressed: Pod[] = [];
  for (const pod of told) {
    const own =
      here
        .get(pod.namespace)
        ?.get(pod.name)
        ?.filter((each) => isSamePod(each, pod)) ?? NOT_HERE;
    const counts = !pod.hostNetwork && !pod.finished;
    const isHere = own.length > 0;
    if (!isHere && !counts) continue;
    const one = withAddresses(pod, isHere ? own.flatMap(({ addresses }) => addresses) : without(pod.addresses, held));
    if (counts) addressed.push(one);
    for (const each of own) each.pod = counts ? one : (each.pod ?? one);
    if (counts && !isHere && node !== undefined && pod.node === node) foreign.push(endpointOf(one));
  }
  const own = [...here.values()].flatMap((pods) => [...pods.values()].flat());
  const endpoints = [...own.filter((each) => each.pod?.hostNetwork !== true), ...foreign];
  return { told, attached, node, pods: Map.groupBy(addressed, ({ namespace }) => namespace), endpoints };
}

const NOT_HERE: readonly Here[] = [];

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

/** By namespace and name, so that no key is made for each pod of the cluster; several of one name are one after the other. */
function byName(attached: readonly Attached[]): ReadonlyMap<string, ReadonlyMap<string, readonly Here[]>> {
  const found = new Map<string, Map<string, Here[]>>();
  for (const each of attached) {
    const pods = found.get(each.namespace) ?? new Map<string, Here[]>();
    const named = pods.get(each.name) ?? [];
    const known = named.find(({ uid }) => uid === each.uid);
    if (known === undefined) named.push({ ...each, pod: undefined });
    else known.addresses = [...new Set([...known.addresses, ...each.addresses])];
    found.set(each.namespace, pods.set(each.name, named));
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

function views(
  namespaces: Objects['namespaces'],
  podsIn: ReadonlyMap<string, readonly Pod[]>,
  policies: readonly Policy[],
  before: World,
): ReadonlyMap<string, NamespaceView> {
  const objects = new Map(namespaces.map((namespace) => [namespace.name, namespace]));
  const policiesIn = Map.groupBy(policies, ({ namespace }) => namespace);
  const names = new Set([...objects.keys(), ...podsIn.keys(), ...policiesIn.keys()]);
  return new Map(
    [...names].map((name) => {
      const old = before.namespaces.get(name);
      const view = {
        name,
        labels: objects.get(name)?.labels ?? impliedLabels(name, old),
        pods: shared(old?.pods, podsIn.get(name) ?? []),
        policies: shared(old?.policies, policiesIn.get(name) ?? []),
      };
      const same = old?.labels === view.labels && old.pods === view.pods && old.policies === view.policies;
      return [name, same ? old : view];
    }),
  );
}

/** The labels of a namespace without an object of its own. */
function impliedLabels(name: string, old: NamespaceView | undefined): Labels {
  const { labels } = impliedNamespace(name);
  const isSame = old?.labels.size === labels.size && [...labels].every(([key, value]) => old.labels.get(key) === value);
  return isSame ? old.labels : labels;
}

/** The old list where the new one has the same items. */
const shared = <T>(old: readonly T[] | undefined, now: readonly T[]): readonly T[] =>
  old !== undefined && sameItems(old, now) ? old : now;

const sameItems = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a === b || (a.length === b.length && a.every((item, at) => item === b[at]));
