// What the runtime asks for in `portMappings`, and the ports of the host that this makes for a pod. Keys match in any
// case: containerd writes HostPort, podman hostPort.

import {
  anything,
  boolean,
  type Check,
  integer,
  ipAddress,
  list,
  object,
  oneOf,
  optional,
  parse,
  string,
} from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import { FAMILIES, type Family, familyOf, type Ip } from '../model/ip.ts';
import { unsupported } from './form.ts';
import type { Request } from './protocol.ts';

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;
const port = integer(1, 65535);
export type PortProtocol = (typeof PROTOCOLS)[number];

/** A mapping as the runtime asks for it. */
interface Mapping {
  readonly protocol: PortProtocol;
  readonly hostPort: number;
  readonly containerPort: number;
  /** The host's address the port is to be reached at; undefined: any. */
  readonly hostIP?: Ip | undefined;
}

/** A port of the host that leads to a pod. */
export interface HostPort {
  readonly protocol: PortProtocol;
  readonly hostPort: number;
  /** Undefined: at any address of the host. */
  readonly hostIP?: Ip | undefined;
  /** The pod's. */
  readonly address: Ip;
  readonly containerPort: number;
}

/** A port as a record keeps it. */
export const HOST_PORT = object({
  protocol: oneOf(...PROTOCOLS),
  hostPort: port,
  hostIP: optional(ipAddress),
  address: ipAddress,
  containerPort: port,
});

export interface PortmapConfig {
  readonly mappings: readonly Mapping[];
  /** Whether pods that reach each other, or themselves, by a port of the host are masqueraded. */
  readonly snat: boolean;
}

/** In any case; absent and empty mean TCP, as everywhere in Kubernetes. */
const protocol: Check<PortProtocol> = (value, path, problems) => {
  const name = string(value ?? '', path, problems)?.toLowerCase();
  const found = name === '' ? 'tcp' : PROTOCOLS.find((each) => each === name);
  if (name !== undefined && found === undefined) {
    problems.push(`${path}: expected one of ${PROTOCOLS.join(', ')}, got ${JSON.stringify(name.slice(0, 64))}`);
  }
  return found;
};

const hostAddress: Check<Ip | undefined> = (value, path, problems) =>
  value === '' ? undefined : optional(ipAddress)(value, path, problems);

const anyCase = { anyCase: true };
const MAPPING = object({ hostPort: port, containerPort: port, protocol, hostIP: hostAddress }, anyCase);
const RUNTIME = object({ portMappings: list(MAPPING) }, anyCase);
const PORTMAP = object(
  {
    runtimeConfig: optional(RUNTIME),
    snat: optional(boolean),
    masqAll: optional(boolean),
    conditionsV4: list(anything),
    conditionsV6: list(anything),
  },
  anyCase,
);

/** @throws NetError invalid-config naming every bad key, unsupported-field for what would let in more than asked */
export function parsePortmap({ network, config }: Request): PortmapConfig {
  const keys = parse(config, PORTMAP, `network ${network}`, 'invalid-config');
  const mappings = keys.runtimeConfig?.portMappings ?? [];
  if (mappings.length > 0) refuseUnsupported(keys);
  return { mappings, snat: keys.snat ?? true };
}

function refuseUnsupported({ masqAll, conditionsV4, conditionsV6 }: ReturnType<typeof PORTMAP> & object): void {
  if (masqAll) throw unsupported('masqAll', masqAll);
  if (conditionsV4.length > 0) throw unsupported('conditionsV4', conditionsV4);
  if (conditionsV6.length > 0) throw unsupported('conditionsV6', conditionsV6);
}

const UNSPECIFIED: readonly string[] = ['0.0.0.0', '::'];

/**
 * The ports that lead to a pod with these addresses: to the first of each family. A mapping for an address of the host
 * is for that address's family only. @throws NetError invalid-config for a port that is asked for twice, or has nowhere
 * to lead
 */
export function hostPorts({ mappings }: PortmapConfig, addresses: readonly Ip[]): HostPort[] {
  if (mappings.length > 0 && addresses.length === 0) {
    throw new NetError('invalid-config', 'host ports need an address in the pod');
  }
  const found = FAMILIES.flatMap((family) => {
    const address = addresses.find((each) => familyOf(each) === family);
    return address === undefined ? [] : mappings.filter(isFor(family)).map((mapping) => hostPort(mapping, address));
  });
  const ports = new Map<string, HostPort>();
  for (const each of found) {
    const other = ports.get(keyOf(each));
    if (other !== undefined && other.containerPort !== each.containerPort) throw askedTwice(each);
    ports.set(keyOf(each), each);
  }
  return [...ports.values()];
}

const keyOf = ({ protocol, hostPort, hostIP, address }: HostPort): string =>
  `${familyOf(address)} ${hostIP ?? ''} ${protocol} ${hostPort}`;

const askedTwice = ({ protocol, hostPort }: HostPort): NetError =>
  new NetError('invalid-config', `portMappings: host port ${hostPort}/${protocol} leads to two ports of the pod`, {
    subject: `${hostPort}/${protocol}`,
  });

const isFor =
  (family: Family) =>
  ({ hostIP }: Mapping): boolean =>
    hostIP === undefined || familyOf(hostIP) === family;

function hostPort({ protocol, hostPort, containerPort, hostIP }: Mapping, address: Ip): HostPort {
  const any = hostIP === undefined || UNSPECIFIED.includes(hostIP);
  return { protocol, hostPort, ...(!any && { hostIP }), address, containerPort };
}
