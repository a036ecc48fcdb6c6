// Namespace and Pod objects of the Kubernetes API as values. Pure.

import {
  anything,
  boolean,
  type Check,
  integer,
  isObject,
  list,
  object,
  oneOf,
  optional,
  parse,
  string,
} from '../../model/check.ts';
import { tryIp } from '../../model/ip.ts';
import { type Labels, type NamedPort, type Namespace, PROTOCOLS, type Pod, type Protocol } from './objects.ts';

export const PROTOCOL_NAMES = Object.keys(PROTOCOLS) as Protocol[];

/** The label that the API server gives every namespace. */
const NAME_LABEL = 'kubernetes.io/metadata.name';

/** A map of strings; absent and null are empty. */
export const labelMap: Check<Labels> = (value, path, problems) => {
  if (value === undefined || value === null) return new Map();
  if (!isObject(value)) {
    problems.push(`${path}: expected a map of labels, got ${JSON.stringify(value)}`);
    return undefined;
  }
  for (const [key, each] of Object.entries(value)) {
    if (typeof each !== 'string') problems.push(`${path}.${key}: expected a string, got ${JSON.stringify(each)}`);
  }
  return new Map(Object.entries(value) as [string, string][]);
};

const NAMESPACE = object({ metadata: object({ name: string, labels: labelMap }) });

/** A namespace has a label with its name, as the API server sees to. @throws NetError decoding naming the field */
export function parseNamespace(value: unknown, subject: string): Namespace {
  const { name, labels } = parse(value, NAMESPACE, subject, 'decoding').metadata;
  return { name, labels: labels.has(NAME_LABEL) ? labels : new Map([...labels, [NAME_LABEL, name]]) };
}

/** A namespace that has pods or policies and no object of its own. */
export const impliedNamespace = (name: string): Namespace => ({ name, labels: new Map([[NAME_LABEL, name]]) });

const PORT = object({
  name: optional(string),
  protocol: optional(oneOf(...PROTOCOL_NAMES)),
  containerPort: integer(1, 65_535),
});
const CONTAINER = object({ ports: list(PORT) });

const POD = object({
  metadata: object({ name: string, namespace: optional(string), uid: optional(string), labels: labelMap }),
  spec: object({
    nodeName: optional(string),
    hostNetwork: optional(boolean),
    containers: list(CONTAINER),
    initContainers: list(CONTAINER),
  }),
  status: optional(
    object({ phase: optional(string), podIP: optional(string), podIPs: list(object({ ip: optional(string) })) }),
  ),
});

/** @throws NetError decoding naming the field */
export function parsePod(value: unknown, subject: string): Pod {
  const { metadata, spec, status } = parse(value, POD, subject, 'decoding');
  const given = [...(status?.podIPs.map(({ ip }) => ip) ?? []), status?.podIP];
  const addresses = new Set(given.map(tryIp).filter((ip) => ip !== undefined));
  const containers = [...spec.containers, ...spec.initContainers];
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    uid: metadata.uid,
    labels: metadata.labels,
    node: spec.nodeName,
    hostNetwork: spec.hostNetwork ?? false,
    finished: status?.phase === 'Succeeded' || status?.phase === 'Failed',
    addresses: [...addresses],
    ports: containers.flatMap(({ ports }) => ports).flatMap(namedPort),
  };
}

const namedPort = ({ name, protocol = 'TCP', containerPort }: PortFields): NamedPort[] =>
  name === undefined || name === '' ? [] : [{ name, protocol, port: containerPort }];

type PortFields = { name: string | undefined; protocol: Protocol | undefined; containerPort: number };

/** Kind, namespace and name of an object, as far as it tells. */
export const IDENTITY = object({
  apiVersion: optional(string),
  kind: optional(string),
  metadata: optional(object({ namespace: optional(string), name: optional(string) })),
  items: anything,
});
