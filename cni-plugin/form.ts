// Two forms of configuration have the type "flannel": the plain one has the reference bridge plugin's keys; flannel's
// own has `delegate` and takes subnet, MTU and masquerading from the agent's subnet file. This turns the second into the
// first, as flannel's plugin does before it executes bridge (flannel-io/cni-plugin, flannel_linux.go).

import { anything, isObject, list, object, optional, parse, string } from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import { tryPrefix } from '../model/ip.ts';
import type { Request } from './protocol.ts';
import { DEFAULT_SUBNET_FILE, type SubnetFile } from './subnet-file.ts';

type Config = Readonly<Record<string, unknown>>;

const anyCase = { anyCase: true };
const PLAIN = object({ bridge: anything, isGateway: anything, mode: anything }, anyCase);
const FLANNEL = object(
  { subnetFile: optional(string), delegate: anything, ipam: anything, runtimeConfig: anything, args: anything },
  anyCase,
);
const DELEGATE = object({ type: optional(string), name: anything, ipam: anything }, anyCase);
const ROUTES = object({ routes: list(anything) }, anyCase);

const subjectOf = ({ network }: Request): string => `network ${network}`;

/** Whether the configuration has the reference bridge plugin's keys instead of flannel's. */
const isPlain = ({ config }: Request): boolean =>
  Object.values(parse(config, PLAIN, 'configuration', 'invalid-config')).some((value) => value !== undefined);

/** The file the configuration takes its subnet from; undefined for the plain form. @throws NetError invalid-config */
export function subnetFileOf(request: Request): string | undefined {
  if (isPlain(request)) return undefined;
  return parse(request.config, FLANNEL, subjectOf(request), 'invalid-config').subnetFile || DEFAULT_SUBNET_FILE;
}

/** flannel's form as the plain one. @throws NetError invalid-config, unsupported-field, naming the key */
export function plainForm(request: Request, subnet: SubnetFile): Config {
  const found = parse(request.config, FLANNEL, subjectOf(request), 'invalid-config');
  const delegate = checkedDelegate(found.delegate, request);
  return {
    ...unlessGiven(delegate, { isGateway: true, ipMasq: !subnet.ipMasq, mtu: subnet.mtu }),
    ...delegate,
    ipam: ipamSection(found.ipam, subnet, request),
    runtimeConfig: found.runtimeConfig,
    args: found.args,
  };
}

/** The defaults that the configuration does not have in any case. */
function unlessGiven(config: Config, defaults: Config): Config {
  const given = new Set(Object.keys(config).map((key) => key.toLowerCase()));
  return Object.fromEntries(Object.entries(defaults).filter(([key]) => !given.has(key.toLowerCase())));
}

/** `name` and `ipam` belong to flannel itself. */
function checkedDelegate(delegate: unknown, request: Request): Config {
  if (delegate === undefined || delegate === null) return {};
  const { type, name, ipam } = parse(delegate, DELEGATE, `${subjectOf(request)}: delegate`, 'invalid-config');
  const taken = name !== undefined ? 'name' : ipam !== undefined ? 'ipam' : undefined;
  if (taken !== undefined) {
    throw new NetError(
      'invalid-config',
      `'delegate' dictionary must not have '${taken}' field, it'll be set by flannel`,
    );
  }
  if (type !== undefined && type !== 'bridge') throw unsupported('delegate.type', type);
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
