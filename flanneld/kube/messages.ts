// What is read of the messages of Kubernetes' API. The numbers are those of generated.proto in k8s.io/api (core/v1) and
// k8s.io/apimachinery (pkg/apis/meta/v1, pkg/runtime); a number never gets another meaning. Pure.

import { decode, type Field, type Message } from './protobuf.ts';

/** ObjectMeta. */
const [NAME, NAMESPACE_NAME, UID, VERSION, LABELS, ANNOTATIONS]: readonly Message[] = [
  { 1: ['name', 'string'] },
  { 3: ['namespace', 'string'] },
  { 5: ['uid', 'string'] },
  { 6: ['resourceVersion', 'string'] },
  { 11: ['labels', 'map'] },
  { 12: ['annotations', 'map'] },
];

const metadata = (...fields: readonly (Message | undefined)[]): Field => [
  'metadata',
  Object.assign({}, NAME, VERSION, ...fields) as Message,
];

export const NODE: Message = {
  1: metadata(UID, ANNOTATIONS),
  2: ['spec', { 1: ['podCIDR', 'string'], 7: ['podCIDRs', 'strings'] }],
};

const CONTAINER: Message = {
  6: ['ports', [{ 1: ['name', 'string'], 3: ['containerPort', 'number'], 4: ['protocol', 'string'] }]],
};

export const POD: Message = {
  1: metadata(NAMESPACE_NAME, UID, LABELS),
  2: [
    'spec',
    {
      2: ['containers', [CONTAINER]],
      10: ['nodeName', 'string'],
      11: ['hostNetwork', 'boolean'],
      20: ['initContainers', [CONTAINER]],
    },
  ],
  3: ['status', { 1: ['phase', 'string'], 6: ['podIP', 'string'], 12: ['podIPs', [{ 1: ['ip', 'string'] }]] }],
};

export const NAMESPACE: Message = { 1: metadata(LABELS) };

/** What a refused request is answered with, and a watch that ends for a reason. */
export const STATUS: Message = { 3: ['message', 'string'], 6: ['code', 'number'] };

/** The metadata of a list. */
export const LIST_META: Message = { 2: ['resourceVersion', 'string'], 3: ['continue', 'string'] };

const EVENT: Message = { 1: ['type', 'string'], 2: ['object', { 1: ['raw', 'bytes'] }] };
const ENVELOPE: Message = { 2: ['raw', 'bytes'] };

/** What each whole object begins with; after it comes an envelope, runtime.Unknown. */
export const MAGIC = Buffer.from('k8s\0');

/** An object in its envelope. @throws RangeError */
export function decodeObject(bytes: Buffer, message: Message): Record<string, unknown> {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError('no object of Kubernetes');
  const { raw } = decode(bytes.subarray(MAGIC.length), ENVELOPE) as { raw?: Buffer };
  return decode(raw ?? Buffer.alloc(0), message);
}

/** An event of a watch, as its JSON would be. @throws RangeError */
export function decodeEvent(bytes: Buffer, message: Message): { readonly type: string; readonly object: unknown } {
  const { type = '', object } = decode(bytes, EVENT) as { type?: string; object?: { raw?: Buffer } };
  return { type, object: decodeObject(object?.raw ?? Buffer.alloc(0), type === 'ERROR' ? STATUS : message) };
}
