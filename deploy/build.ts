// Makes what is made from other files here: the one manifest for `kubectl apply -f`, and the role's copies for kustomize and
// Helm, which read nothing outside of their folders. `node deploy/build.ts` writes; test/deploy/manifests.test.ts compares.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PARTS = ['namespace.yml', 'rbac.yml', 'config.yml', 'daemonset.yml'] as const;
const NAMESPACE = 'kube-flannel';

const made = (from: string): string => `# Made from ${from} by deploy/build.ts.\n`;

/** Texts of the files that are made, by their paths inside `folder`, which is this one. */
export function generated(folder: string): Readonly<Record<string, string>> {
  const text = (path: string): string => readFileSync(join(folder, path), 'utf8');
  const role = text('rbac.yml');
  const parts = PARTS.map((part) => (part === 'rbac.yml' ? role : text(`kustomize/${part}`)));
  return {
    'kube-flannel-ts.yml': `${made('deploy/kustomize')}${parts.join('---\n')}`,
    'kustomize/rbac.yml': `${made('deploy/rbac.yml')}${role}`,
    'helm/flannel-ts/templates/rbac.yaml': `${made('deploy/rbac.yml')}${role.replaceAll(
      `namespace: ${NAMESPACE}`,
      'namespace: {{ .Release.Namespace }}',
    )}`,
  };
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(generated(import.meta.dirname))) {
    writeFileSync(join(import.meta.dirname, path), text);
  }
}
