// Two forms of configuration have the type "flannel": the plain one has the reference bridge plugin's keys; flannel's
// own has `delegate` and takes subnet, MTU and masquerading from the agent's subnet file. This turns the second into the
// first, as flannel's plugin does before it executes bridge (flannel-io/cni-plugin, flannel_linux.go).

import {
  absolutePath,
  anything,
  isObject,
  list,
  object,
  optional,
  parse,
  string,
  unlessEmpty,
} from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import { tryPrefix } from '../model/ip.ts';
import type { Request } from './protocol.ts';
import { DEFAULT_SUBNET_FILE, type SubnetFile } from './subnet-file.ts';

type Config = Readonly<Record<string, unknown>>;

const anyCase = { anyCase: true };
/** The delegate that is ours. */
export const BRIDGE = 'bridge';
const FLANNEL_TYPE = 'flannel';
const PLAIN = object({ bridge: anything, isGateway: anything, mode: anything }, anyCase);
const FLANNEL = object(
  {
    cniVersion: anything,
    subnetFile: unlessEmpty(absolutePath),
    delegate: anything,
    ipam: anything,
    runtimeConfig: anything,
    args: anything,
  },
  anyCase,
);
const DELEGATE = object({ type: optional(string), name: anything, ipam: anything }, anyCase);
const ROUTES = object({ routes: list(anything) }, anyCase);

const subjectOf = ({ network }: Request): string => `network ${network}`;

/** Whether the configuration has the reference bridge plugin's keys instead of flannel's. */
export const isPlain = ({ config }: Request): boolean =>
  Object.values(parse(config, PLAIN, 'configuration', 'invalid-config')).some((value) => value !== undefined);

/** The file the configuration takes its subnet from; undefined for the plain form. @throws NetError invalid-config */
export function subnetFileOf(request: Request): string | undefined {
  if (isPlain(request)) return undefined;
  return parse(request.config, FLANNEL, subjectOf(request), 'invalid-config').subnetFile ?? DEFAULT_SUBNET_FILE;
}

/** flannel's form as the plain one. @throws NetError invalid-config, unsupported-field, naming the key */
export function plainForm(request: Request, subnet: SubnetFile): Config {
  const type = typeIn(request.config, 'delegate');
  if (type !== undefined && type !== BRIDGE) throw unsupported('delegate.type', type);
  const { args } = parse(request.config, FLANNEL, subjectOf(request), 'invalid-config');
  return { ...delegateConfig(request, subnet), args };
}

/** What flannel's plugin tells the plugin it executes, "bridge" or another. @throws NetError invalid-config naming the key */
export function delegateConfig(request: Request, subnet: SubnetFile): Config {
  const found = parse(request.config, FLANNEL, subjectOf(request), 'invalid-config');
  const delegate = checkedDelegate(found.delegate, request);
  const isBridge = foreignDelegate(request) === undefined;
  const defaults = { type: BRIDGE, ipMasq: !subnet.ipMasq, mtu: subnet.mtu };
  return {
    ...unlessGiven(delegate, isBridge ? { ...defaults, isGateway: true } : defaults),
    ...delegate,
    name: request.network,
    cniVersion: found.cniVersion,
    ipam: ipamSection(found.ipam, subnet, request),
    runtimeConfig: found.runtimeConfig,
  };
}

/** The plugin that flannel's form wants to have executed in place of "bridge". Others' configurations aren't in it. */
export function foreignDelegate(request: Request): string | undefined {
  const type = typeIn(request.config, 'delegate');
  if (type === undefined || type === BRIDGE) return undefined;
  const isOurs = (valueIn(request.config, 'type') ?? FLANNEL_TYPE) === FLANNEL_TYPE;
  return isOurs && !isPlain(request) ? type : undefined;
}

/** The `type` in a section of the configuration, whatever else is in it; undefined when it says none. */
export function typeIn(config: Config, section: string): string | undefined {
  const type = valueIn(valueIn(config, section), 'type');
  return typeof type === 'string' && type !== '' ? type : undefined;
}

/** The value under the key in any case, its own first: as `object` of model/check.ts has it. */
function valueIn(config: unknown, key: string): unknown {
  if (!isObject(config)) return undefined;
  if (Object.hasOwn(config, key)) return config[key];
  return Object.entries(config).findLast(([other]) => other.toLowerCase() === key)?.[1];
}

/** The defaults that the configuration does not have in any case. */
function unlessGiven(config: Config, defaults: Config): Config {
  const given = new Set(Object.keys(config).map((key) => key.toLowerCase()));
  return Object.fromEntries(Object.entries(defaults).filter(([key]) => !given.has(key.toLowerCase())));
}

/** `name` and `ipam` belong to flannel itself. */
function checkedDelegate(delegate: unknown, request: Request): Config {
  if (delegate === undefined || delegate === null) return {};
  const { name, ipam } = parse(delegate, DELEGATE, `${subjectOf(request)}: delegate`, 'invalid-config');
  const taken = name !== undefined ? 'name' : ipam !== undefined ? 'ipam' : undefined;
  if (taken !== undefined) {
    throw new NetError(
      'invalid-config',
      `'delegate' dictionary must not have '${taken}' field, it'll be set by flannel`,
    );
  }
  return delegate as Config;
}

/** The node's subnets as ranges, and a route to each of the cluster's networks. */
function ipamSection(ipam: unknown, { subnets, networks }: SubnetFile, request: Request): Config {
  const given = ipam === undefined || ipam === null ? {} : ipam;
  const { routes } = parse(given, ROUTES, `${subjectOf(request)}: ipam`, 'invalid-config');
  const rest = Object.entries(given).filter(([key]) => !['routes', 'ranges'].includes(key.toLowerCase()));
  const known = new Set(routes.map((route) => (isObject(route) ? tryPrefix(route.dst) : undefined)));
  return {
    type: 'host-local',
    ...Object.fromEntries(rest),
    ranges: subnets.map((subnet) => [{ subnet }]),
    routes: [...routes, ...networks.filter((dst) => !known.has(dst)).map((dst) => ({ dst }))],
  };
}

/** Spec 1.1.0, code 2: the message holds key and value. */
export const unsupported = (key: string, value: unknown): NetError =>
  new NetError('unsupported-field', `unsupported field ${key}: ${JSON.stringify(value).slice(0, 200)}`, {
    subject: key,
  });
