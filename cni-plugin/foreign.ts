// Which part of a request is the business of another plugin, found in the runtime's CNI_PATH, and what that one is told.
// Flannel's form: what flannel's own plugin tells it. Pure.

import type { SubnetFile } from './subnet-file.ts';
import { delegateConfig, foreignDelegate, isPlain, typeIn } from './form.ts';
import type { Request } from './protocol.ts';

/** A plugin that is somebody else's. */
export interface ForeignPlugin {
  /** `ipam`: it manages the addresses of an interface of ours. `interface`: the interface is its own too. */
  readonly role: 'ipam' | 'interface';
  /** File name. */
  readonly plugin: string;
  /** Its standard input. */
  readonly input: string;
}

const OWN_IPAM: readonly string[] = ['host-local', 'flannel-ipam'];

/** The address management that is not ours; undefined also where there is none. */
export function foreignIpam(config: Readonly<Record<string, unknown>>): string | undefined {
  const type = typeIn(config, 'ipam');
  return type === undefined || OWN_IPAM.includes(type) ? undefined : type;
}

/** Whether addresses are reserved by others: of such a store nothing is read and nothing freed. */
export const hasForeignAddresses = (request: Request): boolean =>
  foreignDelegate(request) !== undefined || foreignIpam(request.config) !== undefined;

const NO_SUBNET: SubnetFile = { networks: [], subnets: [], mtu: 0, ipMasq: true, unmasqueraded: [] };

/**
 * The plugin that the request concerns besides us. Only ADD depends on the subnet file; without one, no ranges are named.
 * @throws NetError invalid-config naming the key
 */
export function foreignOf(request: Request, subnet: SubnetFile = NO_SUBNET): ForeignPlugin | undefined {
  const delegate = foreignDelegate(request);
  const plugin = delegate ?? foreignIpam(request.config);
  if (plugin === undefined) return undefined;
  const input = isPlain(request) ? request.input : delegatedInput(request, subnet);
  return { role: delegate === undefined ? 'ipam' : 'interface', plugin, input };
}

/** What a runtime adds to a configuration for single verbs. */
const HANDED = ['prevresult', 'cni.dev/valid-attachments', 'cni.dev/attachments'];

/** Flannel is the first of its list: what it executes has no previous result at ADD. */
function delegatedInput(request: Request, subnet: SubnetFile): string {
  const isHanded = ([key]: [string, unknown]) => request.command !== 'ADD' && HANDED.includes(key.toLowerCase());
  const handed = Object.fromEntries(Object.entries(request.config).filter(isHanded));
  return JSON.stringify({ ...delegateConfig(request, subnet), ...handed });
}

/**
 * What DEL tells a plugin: the request as it came where that is about this plugin; else what ADD told it, since a
 * configuration may have changed.
 */
export function inputForDel(request: Request, told: ForeignPlugin): string {
  const isSame = isPlain(request) && told.role === 'ipam' && foreignIpam(request.config) === told.plugin;
  return isSame ? request.input : told.input;
}
