// What of Kubernetes' Namespace, Pod and NetworkPolicy objects decides over packets, as plain values. Whatever is not named
// here is left out on arrival, so that memory holds no object whole.

import type { PodName } from '../../cni-plugin/names.ts';
import type { Ip, Prefix } from '../../model/ip.ts';

export type Labels = ReadonlyMap<string, string>;

/** IP protocol number of each protocol that a policy can name. */
export const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;
export type Protocol = keyof typeof PROTOCOLS;

export interface Namespace {
  readonly name: string;
  readonly labels: Labels;
}

export interface NamedPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface Pod {
  readonly namespace: string;
  readonly name: string;
  /** Of the object in the API server; none in a manifest written by hand. */
  readonly uid?: string | undefined;
  readonly labels: Labels;
  /** spec.nodeName. */
  readonly node?: string | undefined;
  /** It has its node's addresses: never selected, never a peer but by ipBlock. */
  readonly hostNetwork: boolean;
  /** Succeeded or Failed: its address may be another pod's by now. */
  readonly finished: boolean;
  /** status.podIPs; none yet is the normal state of a pod that is being attached. */
  readonly addresses: readonly Ip[];
  /** Of all containers, those with a name. */
  readonly ports: readonly NamedPort[];
}

/** A requirement of matchExpressions. */
export interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

export interface Selector {
  /** Equal for selectors that are written alike. */
  readonly key: string;
  readonly labels: readonly (readonly [string, string])[];
  readonly expressions: readonly Requirement[];
}

/** `pods` undefined: all of the namespaces. `namespaces` undefined: the policy's own. Never both. */
export interface PodPeer {
  readonly pods?: Selector | undefined;
  readonly namespaces?: Selector | undefined;
}

export interface BlockPeer {
  readonly block: Prefix;
  /** Inside of it. */
  readonly except: readonly Prefix[];
}

export type Peer = PodPeer | BlockPeer;

/** Whether the peer is addresses rather than pods. */
export const isBlock = (peer: Peer): peer is BlockPeer => 'block' in peer;

/** `port` undefined: every port. A name is looked up in the pod that is the destination. */
export interface PortMatch {
  readonly protocol: Protocol;
  readonly port?: number | string | undefined;
  /** Last port of a range; the port itself when undefined. */
  readonly endPort?: number | undefined;
}

/** Who may, and to which ports. Undefined: anybody, any port of any protocol. */
export interface PolicyRule {
  readonly peers?: readonly Peer[] | undefined;
  readonly ports?: readonly PortMatch[] | undefined;
}

export const DIRECTIONS = ['ingress', 'egress'] as const;
export type Direction = (typeof DIRECTIONS)[number];

export interface Policy {
  readonly namespace: string;
  readonly name: string;
  /** Of the object in the API server; none in a manifest. */
  readonly uid?: string | undefined;
  readonly pods: Selector;
  /** Undefined: the policy says nothing about that direction. No rule: nothing is allowed by it. */
  readonly ingress?: readonly PolicyRule[] | undefined;
  readonly egress?: readonly PolicyRule[] | undefined;
  /** Why parts of it could not be understood. What can't be understood allows nothing, and isolates. */
  readonly invalid?: string | undefined;
}

/** Everything that a source knows, at one moment. */
export interface Objects {
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
  readonly policies: readonly Policy[];
}

/** Whether both are the same pod, as far as one can tell: a name is given again, a uid never is. */
export const isSamePod = (a: PodName, b: PodName): boolean =>
  a.name === b.name && a.namespace === b.namespace && mayBeUid(a.uid, b.uid);

const mayBeUid = (a: string | undefined, b: string | undefined): boolean =>
  a === undefined || b === undefined || a === b;

/** "namespace/name". */
export const keyOf = ({ namespace, name }: { readonly namespace: string; readonly name: string }): string =>
  `${namespace}/${name}`;
