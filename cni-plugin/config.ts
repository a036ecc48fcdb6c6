// The network configuration as one checked value, in the keys of the reference bridge plugin. Keys match in any case, as
// Go's decoder has it.

import { DEFAULT_DATA_DIR as DEFAULT_STORE, type IpamConfig, parseIpam } from '../ipam/config.ts';
import {
  absolutePath,
  anything,
  boolean,
  type Check,
  ethernet,
  integer,
  isObject,
  list,
  object,
  oneOf,
  optional,
  parse,
  string,
  unlessEmpty,
} from '../model/check.ts';
import type { Dns } from '../model/cni.ts';
import { NetError } from '../model/errors.ts';
import { type Mac, macBytes, type Prefix, tryMac } from '../model/ip.ts';
import { type ForeignPlugin, foreignIpam, foreignOf, hasForeignAddresses } from './foreign.ts';
import { plainForm, unsupported } from './form.ts';
import { MODES, type Mode, refuseBridgeKeys } from './mode.ts';
import { ifnameProblem, parseArgs, type Request } from './protocol.ts';
import type { SubnetFile } from './subnet-file.ts';
import { refuseVlans, VLAN_KEYS } from './vlan.ts';

/** Directory of the attachment records, as flannel's `dataDir`. */
export const DEFAULT_RECORDS = '/var/lib/cni/flannel';
const DEFAULT_BRIDGE = 'cni0';
/** In a directory of records: no network's name begins with a dot. */
const NESTED = '.nested';

/** How a pod is attached: to a bridge, or by a link of its own. */
export interface BridgeConfig {
  readonly network: string;
  readonly mode: Mode;
  /** Of mode "bridge". */
  readonly bridge: string;
  /** The bridge has the gateway's address, and the host forwards. */
  readonly isGateway: boolean;
  readonly isDefaultGateway: boolean;
  /** Replace another address on the bridge instead of refusing. */
  readonly forceAddress: boolean;
  readonly ipMasq: boolean;
  /** Bytes; undefined: the kernel's default. */
  readonly mtu: number | undefined;
  readonly hairpin: boolean;
  readonly promiscuous: boolean;
  readonly isolated: boolean;
  /** Only frames with the pod's MAC are let in by its port. */
  readonly macspoofchk: boolean;
  /** Duplicate address detection in the pod. */
  readonly dad: boolean;
  /** Whether the pod's interface is brought up. */
  readonly up: boolean;
  /** Overrides the address management's when it says anything. */
  readonly dns: Dns;
  /** The pod's MAC, when the runtime or the configuration wants a certain one. */
  readonly mac: Mac | undefined;
  /** Our address management. With neither this nor another's the pod gets no address. */
  readonly ipam: IpamConfig | undefined;
  /** Another plugin's. */
  readonly foreignIpam: ForeignPlugin | undefined;
  /** Networks that are reached without masquerading: the cluster's, and those that the agent was told of. */
  readonly directNetworks: readonly Prefix[];
}

/** A name the kernel takes. */
const bridgeName: Check<string> = (value, path, problems) => {
  const name = string(value, path, problems);
  if (name === undefined) return undefined;
  const problem = ifnameProblem(name);
  if (problem !== undefined) problems.push(`${path}: ${JSON.stringify(name.slice(0, 64))}: ${problem[0]}`);
  return name;
};

/** An address a device can have. */
const unicastMac: Check<Mac> = (value, path, problems) => {
  const mac = ethernet(value, path, problems);
  if (mac !== undefined && !isUnicast(mac)) problems.push(`${path}: ${mac} is not a unicast address`);
  return mac;
};

const isUnicast = (mac: Mac): boolean => mac !== '00:00:00:00:00:00' && ((macBytes(mac)[0] as number) & 1) === 0;

const anyCase = { anyCase: true };
const flag = optional(boolean);
const DNS = object(
  { nameservers: list(string), domain: optional(string), search: list(string), options: list(string) },
  anyCase,
);
const MAC = object({ mac: unlessEmpty(unicastMac) }, anyCase);

/** The keys of the plain form, and of flannel's `delegate`. docs/cni.md lists them. */
export const KEYS = {
  bridge: unlessEmpty(bridgeName),
  isGateway: flag,
  isDefaultGateway: flag,
  forceAddress: flag,
  ipMasq: flag,
  mtu: optional(integer(0, 65535)),
  hairpinMode: flag,
  promiscMode: flag,
  portIsolation: flag,
  enabledad: flag,
  disableContainerInterface: flag,
  macspoofchk: flag,
  ...VLAN_KEYS,
  mode: unlessEmpty(oneOf(...MODES)),
  dns: optional(DNS),
  ipam: anything,
  runtimeConfig: optional(MAC),
  args: optional(object({ cni: optional(MAC) }, anyCase)),
};
const BRIDGE = object(KEYS, anyCase);
type Keys = ReturnType<typeof keysOf>;

const subjectOf = ({ network }: Request): string => `network ${network}`;

const keysOf = (source: unknown, request: Request) => parse(source, BRIDGE, subjectOf(request), 'invalid-config');

/**
 * The configuration, with what the subnet file says where its form asks for it.
 * @throws NetError invalid-config, unsupported-field, naming the keys; invalid-environment for CNI_ARGS
 */
export function parseConfig(request: Request, subnet: SubnetFile | undefined): BridgeConfig {
  const keys = keysOf(subnet === undefined ? request.config : plainForm(request, subnet), request);
  refuseVlans(keys);
  if (keys.mode === 'routed') refuseBridgeKeys(keys, request);
  const isDefaultGateway = keys.isDefaultGateway ?? false;
  const others = foreignIpam(request.config) !== undefined;
  const config: BridgeConfig = {
    network: request.network,
    mode: keys.mode ?? 'bridge',
    bridge: keys.bridge ?? DEFAULT_BRIDGE,
    isGateway: isDefaultGateway || (keys.isGateway ?? false),
    isDefaultGateway,
    forceAddress: keys.forceAddress ?? false,
    ipMasq: keys.ipMasq ?? false,
    mtu: keys.mtu || undefined,
    hairpin: keys.hairpinMode ?? false,
    promiscuous: keys.promiscMode ?? false,
    isolated: keys.portIsolation ?? false,
    macspoofchk: keys.macspoofchk ?? false,
    dad: keys.enabledad ?? false,
    up: !(keys.disableContainerInterface ?? false),
    dns: dnsOf(keys.dns),
    mac: keys.runtimeConfig?.mac ?? keys.args?.cni?.mac ?? macOfArgs(request.args),
    ipam: others || isNothing(keys.ipam) ? undefined : parseOwnIpam(request, keys.ipam),
    foreignIpam: others ? foreignOf(request, subnet) : undefined,
    directNetworks: subnet === undefined ? [] : [...subnet.networks, ...subnet.unmasqueraded],
  };
  refuseContradictions(config);
  return config;
}

/** An absent or empty section means that the pod gets no address. */
const isNothing = (ipam: unknown): boolean =>
  ipam === undefined || ipam === null || (isObject(ipam) && Object.keys(ipam).length === 0);

function dnsOf(dns: Keys['dns']): Dns {
  const said = Object.entries(dns ?? {}).filter(([, value]) => value !== undefined && value.length > 0);
  return Object.fromEntries(said);
}

function macOfArgs(args: string): Mac | undefined {
  const text = parseArgs(args).get('MAC') ?? '';
  const mac = tryMac(text);
  if (text === '' || (mac !== undefined && isUnicast(mac))) return mac;
  throw new NetError('invalid-environment', `CNI_ARGS: MAC=${text.slice(0, 64)} is not a unicast Ethernet address`);
}

function refuseContradictions({ mode, hairpin, promiscuous, up, ...config }: BridgeConfig): void {
  const refuse = (message: string) => new NetError('invalid-config', message);
  if (hairpin && promiscuous) throw refuse('cannot set hairpin mode and promiscuous mode at the same time');
  const hasIpam = (config.ipam ?? config.foreignIpam) !== undefined;
  if (mode === 'routed' && !hasIpam) throw refuse('mode "routed" leads nowhere without addresses: ipam is missing');
  if (!up && hasIpam) throw refuse('cannot use IPAM when DisableContainerInterface flag is set');
}

const SECTIONS = object({ ipam: anything, runtimeConfig: anything, args: anything }, anyCase);
const IPAM_TYPE = object({ type: unlessEmpty(string) }, anyCase);

/**
 * The `ipam` section as ours; by default the configuration's own.
 * @throws NetError unsupported-field for another plugin's; invalid-config, invalid-environment
 */
export function parseOwnIpam(request: Request, section?: unknown): IpamConfig {
  const { ipam, runtimeConfig, args } = parse(request.config, SECTIONS, subjectOf(request), 'invalid-config');
  const own = section ?? ipam ?? {};
  const { type } = parse(own, IPAM_TYPE, `${subjectOf(request)}: ipam`, 'invalid-config');
  if (type !== undefined && type !== 'host-local' && type !== 'flannel-ipam') throw unsupported('ipam.type', type);
  const { network, cniVersion } = request;
  return parseIpam({ network, cniVersion, ipam: own, runtimeConfig, args, cniArgs: parseArgs(request.args) });
}

const TRACES = object(
  {
    dataDir: unlessEmpty(absolutePath),
    ipam: optional(object({ dataDir: unlessEmpty(absolutePath) }, anyCase)),
    bridge: anything,
    delegate: anything,
  },
  anyCase,
);
const BRIDGE_NAME = object({ bridge: unlessEmpty(bridgeName) }, anyCase);

/**
 * Where an attachment leaves traces. Both directories hold a directory for each network. Whoever is executed by another
 * plugin of ours has records of its own, for what may be the same attachment.
 */
export interface Places {
  /** Attachment records. */
  readonly records: string;
  /** Reservations of addresses; undefined where another plugin has them. */
  readonly addresses: string | undefined;
  readonly bridge: string;
}

/** All that DEL needs of a configuration that may no longer be valid otherwise. @throws NetError invalid-config */
export function placesOf(request: Request): Places {
  const subject = subjectOf(request);
  const { dataDir, ipam, bridge, delegate } = parse(request.config, TRACES, subject, 'invalid-config');
  const keys = isObject(delegate) ? delegate : { bridge };
  return {
    records: [dataDir ?? DEFAULT_RECORDS, ...Array(request.depth).fill(NESTED)].join('/'),
    addresses: hasForeignAddresses(request) ? undefined : (ipam?.dataDir ?? DEFAULT_STORE),
    bridge: parse(keys, BRIDGE_NAME, subject, 'invalid-config').bridge ?? DEFAULT_BRIDGE,
  };
}
