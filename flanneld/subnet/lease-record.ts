// A lease as flannel stores it in etcd: the text of its key and of its value, byte for byte, plus one field of ours
// that flannel ignores. Neither throws on what others wrote: what can't be understood is undefined.

import { isObject } from '../../model/check.ts';
import { FAMILIES, type Family, familyOf, type Ip, networkOf, type Prefix, tryIp, tryPrefix } from '../../model/ip.ts';
import { eachFamily, type LeaseAttributes, type PerFamily, perFamily } from '../../model/lease.ts';

/**
 * The subnets of a key's last part (`leaseKey` of model/lease.ts is the way back): "10.5.34.0-24", or dual stack
 * "10.5.34.0-24&fc00:0:0:1::-64". IPv6 alone is "fc00:0:0:1::-64": flannel, which knows no such network, takes it for
 * no subnet and passes over it.
 */
export function parseLeaseKey(text: string): PerFamily<Prefix> | undefined {
  const parts = text.split('&').map(subnetOf);
  const [first, second] = parts;
  if (first === undefined || parts.length > 2) return undefined;
  if (parts.length === 1) return familyOf(first) === 4 ? { 4: first } : { 6: first };
  return second !== undefined && familyOf(first) === 4 && familyOf(second) === 6 ? { 4: first, 6: second } : undefined;
}

function subnetOf(text: string): Prefix | undefined {
  const match = /^([\d.]+|[a-f\d:]+)-(\d+)$/.exec(text);
  const prefix = match === null ? undefined : tryPrefix(`${match[1]}/${match[2]}`);
  return prefix === undefined ? undefined : networkOf(prefix);
}

const NAMES: Readonly<Record<Family, { readonly ip: string; readonly data: string }>> = {
  4: { ip: 'PublicIP', data: 'BackendData' },
  6: { ip: 'PublicIPv6', data: 'BackendV6Data' },
};

/** Go's encoding of LeaseAttrs: this order, null for an address that isn't there, no empty backend fields. */
export function formatLeaseValue(attributes: LeaseAttributes): string {
  return JSON.stringify({
    PublicIP: attributes.publicIp[4] ?? null,
    PublicIPv6: attributes.publicIp[6] ?? null,
    BackendType: attributes.backendType || undefined,
    BackendData: attributes.backendData[4],
    BackendV6Data: attributes.backendData[6],
    NodeID: attributes.nodeId,
  });
}

/** The attributes of a value; undefined when it is no JSON object, or a field has the wrong type. */
export function parseLeaseValue(text: string): LeaseAttributes | undefined {
  const fields = decoded(text);
  if (fields === undefined) return undefined;
  const { BackendType: backendType = '', NodeID: nodeId } = fields;
  const publicIp = addresses(fields);
  if (publicIp === undefined || typeof backendType !== 'string') return undefined;
  const backendData = eachFamily((family) => fields[NAMES[family].data] ?? undefined);
  return { publicIp, backendType, backendData, ...(typeof nodeId === 'string' && nodeId !== '' ? { nodeId } : {}) };
}

function decoded(text: string): Record<string, unknown> | undefined {
  // Of keys that are listed without their values there are thousands, and an error for each takes long.
  if (text === '') return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function addresses(fields: Record<string, unknown>): PerFamily<Ip> | undefined {
  const [v4, v6] = FAMILIES.map((family) => address(fields[NAMES[family].ip] ?? '', family));
  return v4 === null || v6 === null ? undefined : perFamily(v4, v6);
}

/** Undefined where there is none ("0.0.0.0" and "::" are how Go prints an address that isn't set); null: it is none. */
function address(text: unknown, family: Family): Ip | undefined | null {
  if (text === '' || text === '0.0.0.0' || text === '::') return undefined;
  const ip = tryIp(text);
  return ip !== undefined && familyOf(ip) === family ? ip : null;
}
