// A Node of Kubernetes as flannel reads and writes it (pkg/subnet/kube): the subnet is the node's pod CIDR, everything else
// stands in annotations. Pure. What others wrote is never an error: what can't be understood is left out.

import { isObject } from '../../model/check.ts';
import { FAMILIES, type Family, familyOf, type Ip, networkOf, type Prefix, tryIp, tryPrefix } from '../../model/ip.ts';
import { eachFamily, familiesOf, type Lease, type LeaseAttributes, type PerFamily } from '../../model/lease.ts';
import type { KubeObject } from '../kube/list-watch.ts';

/** What is kept of a Node: a few hundred bytes of its 5 to 30 kB. */
export interface KubeNode {
  readonly name: string;
  readonly uid: string;
  /** The pod CIDRs that the cluster gave it. */
  readonly podCidrs: PerFamily<Prefix>;
  /** The lease that its agent published; undefined where none has, or there is no pod CIDR. */
  readonly lease: Lease | undefined;
  /** Addresses that a person wants to be published in place of the interface's. */
  readonly overwrites: PerFamily<Ip>;
  /** Addresses that a person says the node has, for the choice of the interface too (--public-ip). */
  readonly nodeIps: PerFamily<Ip>;
  /** Of the annotations that an agent writes: those that are there, by their names without prefix. */
  readonly written: readonly string[];
}

/** Annotations of one family, without their prefix. */
const NAMES: Readonly<Record<Family, Readonly<Record<'ip' | 'data' | 'overwrite' | 'nodeIp', string>>>> = {
  4: { ip: 'public-ip', data: 'backend-data', overwrite: 'public-ip-overwrite', nodeIp: 'node-public-ip' },
  6: { ip: 'public-ipv6', data: 'backend-v6-data', overwrite: 'public-ipv6-overwrite', nodeIp: 'node-public-ipv6' },
};
const MANAGED = 'kube-subnet-manager';
const TYPE = 'backend-type';

/** A function that keeps of a Node what counts. `prefix`: of annotations, with its "/" or "-". */
export const nodeReader =
  (prefix: string) =>
  ({ metadata, spec }: KubeObject): KubeNode => {
    const annotations = metadata.annotations ?? {};
    const text = (name: string): string | undefined => annotations[`${prefix}${name}`];
    const address = (kind: 'ip' | 'overwrite' | 'nodeIp') =>
      eachFamily((family) => {
        const ip = tryIp(text(NAMES[family][kind]) ?? '');
        return ip !== undefined && familyOf(ip) === family ? ip : undefined;
      });
    const podCidrs = podCidrsOf(spec);
    return {
      name: metadata.name,
      uid: metadata.uid ?? '',
      podCidrs,
      lease: text(MANAGED) === 'true' ? leaseOf(metadata.name, podCidrs, address('ip'), text) : undefined,
      overwrites: address('overwrite'),
      nodeIps: address('nodeIp'),
      written: FAMILIES.flatMap((family) => [NAMES[family].ip, NAMES[family].data]).filter(
        (name) => text(name) !== undefined,
      ),
    };
  };

/** The first of each family; podCIDR counts where there is no podCIDRs, as for a cluster of one family before 1.16. */
function podCidrsOf(spec: unknown): PerFamily<Prefix> {
  const fields = isObject(spec) ? spec : {};
  const texts = Array.isArray(fields.podCIDRs) && fields.podCIDRs.length > 0 ? fields.podCIDRs : [fields.podCIDR];
  const prefixes = texts.flatMap((text) => {
    const prefix = typeof text === 'string' ? tryPrefix(text) : undefined;
    return prefix === undefined ? [] : [networkOf(prefix)];
  });
  return eachFamily((family) => prefixes.find((prefix) => familyOf(prefix) === family));
}

/** Each family by itself: one whose address is missing doesn't take the other with it. */
function leaseOf(
  nodeId: string,
  podCidrs: PerFamily<Prefix>,
  publicIp: PerFamily<Ip>,
  text: (name: string) => string | undefined,
): Lease | undefined {
  const subnet = eachFamily((family) => (publicIp[family] === undefined ? undefined : podCidrs[family]));
  if (familiesOf(subnet).length === 0) return undefined;
  return {
    publicIp,
    backendType: text(TYPE) ?? '',
    backendData: eachFamily((family) => decoded(text(NAMES[family].data))),
    nodeId,
    subnet,
  };
}

/** "null" stands for nothing, as Go encodes it. */
function decoded(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}

/** The annotations that say this, and null for those that say too much: a strategic merge patch's. */
export function annotationsFor(
  { publicIp, backendType, backendData }: LeaseAttributes,
  { overwrites, written }: KubeNode,
  prefix: string,
): Readonly<Record<string, string | null>> {
  const families = familiesOf(publicIp);
  const said = [
    [MANAGED, 'true'],
    [TYPE, backendType],
    ...families.flatMap((family) => [
      [NAMES[family].ip, overwrites[family] ?? (publicIp[family] as Ip)],
      [NAMES[family].data, JSON.stringify(backendData[family] ?? null)],
    ]),
  ] as [string, string][];
  const names = new Set(said.map(([name]) => name));
  const stale = written.filter((name) => !names.has(name)).map((name) => [name, null] as const);
  return Object.fromEntries([...said, ...stale].map(([name, value]) => [`${prefix}${name}`, value]));
}

/**
 * The lease as its node meant it: where a person's overwrite was published, with the address that it stands for; where one
 * is yet to be published, without address, so that it differs.
 * @param meant what the node last asked to publish
 */
export function unoverwritten(stored: Lease, { overwrites }: KubeNode, meant: PerFamily<Ip>): Lease {
  const publicIp = eachFamily((family) => {
    const [ip, overwrite] = [stored.publicIp[family], overwrites[family]];
    if (overwrite === undefined || meant[family] === undefined) return ip;
    return ip === overwrite ? meant[family] : undefined;
  });
  return { ...stored, publicIp };
}
