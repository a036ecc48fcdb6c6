// Kubernetes objects of manifests, in a form in which two of them can be compared.

import { parseAllDocuments } from 'yaml';

export interface KubeObject {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [key: string]: unknown;
}

/** By "Kind namespace/name". */
export type Objects = Readonly<Record<string, KubeObject>>;

/** @throws Error for what is no YAML or no object, and for two of one name */
export function objectsOf(text: string): Objects {
  const objects: Record<string, KubeObject> = {};
  for (const document of parseAllDocuments(text)) {
    if (document.errors[0]) throw document.errors[0];
    const object: KubeObject | null = document.toJS();
    if (object === null) continue;
    const { kind, metadata } = object;
    const key = `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
    if (key in objects) throw new Error(`${key} is there twice`);
    objects[key] = kind === 'ConfigMap' ? { ...object, data: parsed(object.data) } : object;
  }
  return objects;
}

/** JSON in a ConfigMap is compared by what it says. */
const parsed = (data: unknown): Record<string, unknown> =>
  Object.fromEntries(Object.entries(data as Record<string, string>).map(([key, text]) => [key, JSON.parse(text)]));
