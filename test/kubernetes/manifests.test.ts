// Every object of the manifest, of the kustomize base and of the chart is one that a real API server takes, without an unknown
// field.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { helm, lacksHelm } from '../deploy/helm.ts';
import { type KubeObject, objectsOf } from '../deploy/objects.ts';
import { lacking, openStage, SINGLE } from './stage.ts';

function collectionOf({ apiVersion, kind, metadata: { namespace } }: KubeObject): string {
  const group = `${String(apiVersion).includes('/') ? '/apis' : '/api'}/${apiVersion}`;
  return `${group}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${kind.toLowerCase()}s`;
}

/** The ConfigMap's data, text again. */
function dataOf({ data }: KubeObject): object {
  if (typeof data !== 'object' || data === null) return {};
  return { data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, JSON.stringify(value)])) };
}

t.test('accepted', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const { plane } = await openStage(t, 1, SINGLE);
  const chart = () => helm('template', 'flannel', 'deploy/helm/flannel-ts', '--namespace', 'kube-flannel');
  const texts = {
    manifest: readFileSync('deploy/kube-flannel-ts.yml', 'utf8'),
    ...(lacksHelm() ? {} : { chart: chart() }),
  };
  for (const [name, text] of Object.entries(texts)) {
    for (const [key, object] of Object.entries(objectsOf(text))) {
      // Some are there, since the stage has applied the role: another name does for a trial.
      const metadata = { ...object.metadata, name: `${object.metadata.name}-x` };
      const other = { ...object, ...dataOf(object), metadata };
      const path = `${collectionOf(object)}?dryRun=All&fieldValidation=Strict`;
      await t.resolves(plane.call('POST', path, other), `${name}: ${key}`);
    }
  }
});
