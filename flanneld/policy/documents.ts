// Manifests as `kubectl get -o yaml` (or json) prints them: one object, a List of them, or several documents. Pure.

import { parseAllDocuments } from 'yaml';
import { isObject, parse } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';
import { keyOf, type Namespace, type Objects, type Pod, type Policy } from './objects.ts';
import { IDENTITY, parseNamespace, parsePod } from './parse-pod.ts';
import { parsePolicy } from './parse-policy.ts';

/** What one file says. */
export interface Manifests extends Objects {
  /** Path, for messages. */
  readonly file: string;
}

/** Documents of aliases that grow without bound are refused. */
const MOST_ALIASES = 100;

/**
 * The objects of a file; kinds other than Namespace, Pod and NetworkPolicy are passed over.
 * @throws NetError decoding naming file and object
 */
export function readManifests(text: string, file: string): Manifests {
  const namespaces: Namespace[] = [];
  const pods: Pod[] = [];
  const policies: Policy[] = [];
  for (const value of documentsOf(text, file).flatMap((document) => objectsIn(document, file))) {
    const { kind, subject } = identify(value, file);
    if (kind === 'Namespace') namespaces.push(parseNamespace(value, subject));
    else if (kind === 'Pod') pods.push(parsePod(value, subject));
    else if (kind === 'NetworkPolicy') policies.push(parsePolicy(value, subject));
  }
  return { file, namespaces, pods, policies };
}

/** JSON is read as such: that is ten times faster. */
function documentsOf(text: string, file: string): unknown[] {
  if (/^\s*[{[]/.test(text)) {
    try {
      return [JSON.parse(text)];
    } catch {
      // YAML may begin like that too.
    }
  }
  const documents = parseAllDocuments(text, { logLevel: 'silent', uniqueKeys: true });
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document, at) => {
    const [error] = document.errors;
    if (error !== undefined) {
      // What follows the colon is the line itself, with a mark below it.
      const what = error.message.replace(/:?\n.*$/s, '');
      throw new NetError('decoding', `${file}: document ${at + 1}: not YAML: ${what}`, { subject: file });
    }
    const value = document.toJS({ maxAliasCount: MOST_ALIASES }) as unknown;
    return value === null || value === undefined ? [] : [value];
  });
}

function objectsIn(value: unknown, file: string): unknown[] {
  const { kind, items } = parse(value, IDENTITY, file, 'decoding');
  if (!kind?.endsWith('List')) return [value];
  if (!Array.isArray(items)) throw new NetError('decoding', `${file}: ${kind} without items`, { subject: file });
  // Items of a typed list have no kind of their own.
  const own = kind === 'List' ? undefined : kind.slice(0, -'List'.length);
  return items.map((item: unknown) => (isObject(item) && own !== undefined ? { kind: own, ...item } : item));
}

function identify(value: unknown, file: string): { readonly kind: string | undefined; readonly subject: string } {
  const { kind, metadata } = parse(value, IDENTITY, file, 'decoding');
  const name = [metadata?.namespace, metadata?.name].filter((part) => part !== undefined).join('/');
  return { kind, subject: `${file}: ${kind ?? 'object without kind'} ${name || 'without name'}` };
}

/**
 * The files' objects together.
 * @throws NetError decoding when two of them define the same object: nobody can tell which one is meant
 */
export function mergeManifests(files: readonly Manifests[]): Objects {
  const merge = <T>(kind: string, itemsOf: (file: Manifests) => readonly T[], nameOf: (item: T) => string): T[] => {
    const seen = new Map<string, string>();
    return files.flatMap((manifests) => {
      const items = itemsOf(manifests);
      for (const item of items) {
        const name = nameOf(item);
        const other = seen.get(name);
        if (other !== undefined) throw twice(`${kind} ${name}`, other, manifests.file);
        seen.set(name, manifests.file);
      }
      return items;
    });
  };
  return {
    namespaces: merge(
      'Namespace',
      ({ namespaces }) => namespaces,
      ({ name }) => name,
    ),
    pods: merge('Pod', ({ pods }) => pods, keyOf),
    policies: merge('NetworkPolicy', ({ policies }) => policies, keyOf),
  };
}

const twice = (object: string, first: string, second: string): NetError =>
  new NetError('decoding', `${object} is in ${first === second ? `${first} twice` : `${first} and in ${second}`}`, {
    subject: second,
  });
