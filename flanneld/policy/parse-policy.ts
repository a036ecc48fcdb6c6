// NetworkPolicy objects (networking.k8s.io/v1) as values. A policy that can't be understood fails closed: what of it can be
// understood stays, what can't allows nothing, and it isolates whatever it may have meant to isolate. Pure.

import { isObject, object, optional, parse, string } from '../../model/check.ts';
import { contains, networkOf, type Prefix, tryPrefix } from '../../model/ip.ts';
import {
  DIRECTIONS,
  type Direction,
  type Peer,
  type Policy,
  type PolicyRule,
  type PortMatch,
  type Requirement,
  type Selector,
} from './objects.ts';
import { labelMap, PROTOCOL_NAMES } from './parse-pod.ts';
import { EVERYTHING } from './select.ts';

const META = object({ metadata: object({ name: string, namespace: optional(string), uid: optional(string) }) });

/**
 * The policy. What is wrong with it is in `invalid`, every problem with its path.
 * @throws NetError decoding when it has no name: nobody can tell then what it would select
 */
export function parsePolicy(value: unknown, subject: string): Policy {
  const { metadata } = parse(value, META, subject, 'decoding');
  const problems: string[] = [];
  const spec = fieldsOf((value as Record<string, unknown>).spec, 'spec', SPEC_FIELDS, problems);
  const directions = directionsOf(spec, problems);
  const rulesOf = (direction: Direction) =>
    directions.includes(direction) ? ruleList(spec[direction], direction, problems) : undefined;
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    uid: metadata.uid,
    // Only the API server's validation keeps a policy from having none, which Go reads as the empty one.
    pods: selector(spec.podSelector ?? {}, 'spec.podSelector', problems) ?? EVERYTHING,
    ingress: rulesOf('ingress'),
    egress: rulesOf('egress'),
    ...(problems.length > 0 && { invalid: problems.join('; ') }),
  };
}

const SPEC_FIELDS = ['podSelector', 'policyTypes', 'ingress', 'egress'];
const TYPES: Readonly<Record<string, Direction>> = { Ingress: 'ingress', Egress: 'egress' };

/** Without policyTypes: ingress, and egress where there is an egress rule. Types that nobody knows stand for both. */
function directionsOf(spec: Fields, problems: string[]): readonly Direction[] {
  const types = spec.policyTypes;
  const some = Array.isArray(spec.egress) && spec.egress.length > 0;
  if (types === undefined || types === null || (Array.isArray(types) && types.length === 0)) {
    return some || (spec.egress !== undefined && spec.egress !== null && !Array.isArray(spec.egress))
      ? DIRECTIONS
      : ['ingress'];
  }
  const known = Array.isArray(types) ? types.map((type) => TYPES[String(type)]) : [undefined];
  if (!known.includes(undefined)) return DIRECTIONS.filter((direction) => known.includes(direction));
  problems.push(`spec.policyTypes: expected a list of Ingress and Egress, got ${shown(types)}`);
  return DIRECTIONS;
}

type Fields = Readonly<Record<string, unknown>>;

/** An object's fields; one that isn't known here could narrow what is allowed, so it is a problem. */
function fieldsOf(value: unknown, path: string, known: readonly string[], problems: string[]): Fields {
  if (!isObject(value)) {
    problems.push(`${path}: expected an object, got ${shown(value)}`);
    return {};
  }
  for (const key of Object.keys(value)) if (!known.includes(key)) problems.push(`${path}.${key}: not known here`);
  return value;
}

const shown = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 80);

/** The rules that are understood whole: of half a rule nobody knows whether it allows too much. */
function ruleList(value: unknown, direction: Direction, problems: string[]): PolicyRule[] {
  const path = `spec.${direction}`;
  return items(value, path, problems).flatMap((each, at) => {
    const own: string[] = [];
    const rule = ruleOf(each, direction, `${path}[${at}]`, own);
    problems.push(...own);
    return own.length === 0 ? [rule] : [];
  });
}

/** Absent and null are empty, as in Go. */
function items(value: unknown, path: string, problems: string[]): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  problems.push(`${path}: expected a list, got ${shown(value)}`);
  return [];
}

/** Neither peers nor ports, nor empty lists of them, mean any. */
function ruleOf(value: unknown, direction: Direction, path: string, problems: string[]): PolicyRule {
  const side = direction === 'ingress' ? 'from' : 'to';
  const fields = fieldsOf(value ?? {}, path, [side, 'ports'], problems);
  const part = <T>(key: string, read: (value: unknown, path: string, problems: string[]) => T) => {
    const given = items(fields[key], `${path}.${key}`, problems);
    return given.length === 0 ? undefined : given.map((each, at) => read(each, `${path}.${key}[${at}]`, problems));
  };
  return { peers: part(side, peer), ports: part('ports', portMatch) };
}

/** One that names no kind of peer may be of a kind that only newer versions know. */
function peer(value: unknown, path: string, problems: string[]): Peer {
  const { podSelector, namespaceSelector, ipBlock } = fieldsOf(
    value,
    path,
    ['podSelector', 'namespaceSelector', 'ipBlock'],
    problems,
  );
  const pods = selector(podSelector, `${path}.podSelector`, problems);
  const namespaces = selector(namespaceSelector, `${path}.namespaceSelector`, problems);
  const selecting = pods !== undefined || namespaces !== undefined;
  const hasBlock = ipBlock !== undefined && ipBlock !== null;
  if (selecting === hasBlock) {
    problems.push(`${path}: expected podSelector, namespaceSelector or both, or ipBlock alone`);
  }
  return hasBlock ? blockPeer(ipBlock, `${path}.ipBlock`, problems) : { pods, namespaces };
}

function blockPeer(value: unknown, path: string, problems: string[]): Peer {
  const fields = fieldsOf(value, path, ['cidr', 'except'], problems);
  const block = network(fields.cidr, `${path}.cidr`, problems);
  const except = items(fields.except, `${path}.except`, problems).map((each, at) => {
    const inner = network(each, `${path}.except[${at}]`, problems);
    if (!contains(block, inner)) problems.push(`${path}.except[${at}]: ${inner} is not inside ${block}`);
    return inner;
  });
  return { block, except };
}

const NOWHERE = '0.0.0.0/32' as Prefix;

function network(value: unknown, path: string, problems: string[]): Prefix {
  const given = tryPrefix(value);
  if (given !== undefined) return networkOf(given);
  problems.push(`${path}: expected an address with prefix length, got ${shown(value)}`);
  return NOWHERE;
}

function portMatch(value: unknown, path: string, problems: string[]): PortMatch {
  const fields = fieldsOf(value, path, ['protocol', 'port', 'endPort'], problems);
  const named = fields.protocol ?? 'TCP';
  const protocol = PROTOCOL_NAMES.find((name) => name === named);
  if (protocol === undefined) {
    problems.push(`${path}.protocol: expected one of ${PROTOCOL_NAMES.join(', ')}, got ${shown(named)}`);
  }
  const port = fields.port ?? undefined;
  const endPort = fields.endPort ?? undefined;
  if (port !== undefined && !isPort(port) && (typeof port !== 'string' || port === '')) {
    problems.push(`${path}.port: expected a port number or name, got ${shown(port)}`);
  }
  if (endPort !== undefined && !(isPort(endPort) && isPort(port) && endPort >= port)) {
    problems.push(
      `${path}.endPort: expected a port number with a number for port that isn't above it, got ${shown(endPort)}`,
    );
  }
  return {
    protocol: protocol ?? 'TCP',
    port: port as number | string | undefined,
    endPort: endPort as number | undefined,
  };
}

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535;

/** Undefined for an absent selector, which is not an empty one. One with a problem selects everything. */
function selector(value: unknown, path: string, problems: string[]): Selector | undefined {
  if (value === undefined || value === null) return undefined;
  const own: string[] = [];
  const fields = fieldsOf(value, path, ['matchLabels', 'matchExpressions'], own);
  const labels = labelMap(fields.matchLabels, `${path}.matchLabels`, own) ?? new Map<string, string>();
  const expressions = items(fields.matchExpressions, `${path}.matchExpressions`, own).map((each, at) =>
    requirement(each, `${path}.matchExpressions[${at}]`, own),
  );
  problems.push(...own);
  if (own.length > 0) return EVERYTHING;
  const parts = { labels: [...labels].sort(), expressions };
  return parts.labels.length + expressions.length === 0 ? EVERYTHING : { key: JSON.stringify(parts), ...parts };
}

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;

function requirement(value: unknown, path: string, problems: string[]): Requirement {
  const fields = fieldsOf(value, path, ['key', 'operator', 'values'], problems);
  const operator = OPERATORS.find((each) => each === fields.operator);
  const values = items(fields.values, `${path}.values`, problems);
  if (typeof fields.key !== 'string') problems.push(`${path}.key: expected a label's key, got ${shown(fields.key)}`);
  if (operator === undefined) {
    problems.push(`${path}.operator: expected one of ${OPERATORS.join(', ')}, got ${shown(fields.operator)}`);
  }
  const wantsValues = operator === 'In' || operator === 'NotIn';
  if (values.length > 0 !== wantsValues || values.some((each) => typeof each !== 'string')) {
    problems.push(`${path}.values: expected ${wantsValues ? 'a list of values' : 'none'}, got ${shown(fields.values)}`);
  }
  return { key: String(fields.key), operator: operator ?? 'In', values: values.map(String) };
}
