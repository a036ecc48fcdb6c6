// The directory of manifests: what is told, when, and what a bad file does.

import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../../flanneld/clock.ts';
import { directorySource } from '../../../flanneld/policy/directory.ts';
import type { Objects } from '../../../flanneld/policy/objects.ts';
import { describe } from '../../../model/errors.ts';

const NAMESPACE = (name: string) => `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n`;
const POD = (name: string, label: string) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'x', labels: { pod: label } },
    spec: {},
    status: {},
  });
const POLICY = (name: string, selector = '{}') =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: ${name}, namespace: x }\nspec: { podSelector: ${selector} }\n`;

interface Heard {
  readonly states: Objects[];
  readonly troubles: unknown[];
}

const WAIT_MS = 20_000;

async function until(t: Test, what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while (!condition() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  t.ok(condition(), what);
}

interface Directory {
  readonly path: string;
  readonly heard: Heard;
  write(name: string, text: string): void;
  start(): void;
  last(): Objects | undefined;
  trouble(): string | undefined;
}

function directory(t: Test): Directory {
  const path = mkdtempSync(join(tmpdir(), 'policy-'));
  const stop = new AbortController();
  const heard: Heard = { states: [], troubles: [] };
  let ended = Promise.resolve();
  t.teardown(async () => {
    stop.abort();
    await ended;
    rmSync(path, { recursive: true, force: true });
  });
  return {
    path,
    heard,
    write(name, text) {
      writeFileSync(join(path, `.${name}`), text);
      renameSync(join(path, `.${name}`), join(path, name));
    },
    start() {
      const listener = {
        onObjects: (objects: Objects) => void heard.states.push(objects),
        onTrouble: (trouble: unknown) => void heard.troubles.push(trouble),
      };
      ended = directorySource(path, systemClock).watch(listener, stop.signal);
    },
    last: () => heard.states.at(-1),
    trouble: () => (heard.troubles.at(-1) === undefined ? undefined : describe(heard.troubles.at(-1))),
  };
}

t.test('files of every form', async (t) => {
  const d = directory(t);
  d.write('a.yaml', `${NAMESPACE('x')}---\n${NAMESPACE('y')}---\n`);
  d.write('b.json', `{"apiVersion":"v1","kind":"List","items":[${POD('p', 'a')},${POD('q', 'b')}]}`);
  d.write(
    'c.yml',
    `kind: NetworkPolicyList\napiVersion: networking.k8s.io/v1\nitems:\n- metadata: { name: n, namespace: x }\n  spec: { podSelector: {} }\n`,
  );
  d.write('d.yaml', `kind: ConfigMap\napiVersion: v1\nmetadata: { name: other }\n`);
  d.write('e.txt', 'not a manifest');
  d.write('f.yaml', '');
  mkdirSync(join(d.path, 'sub.yaml'));
  d.start();
  await until(t, 'told', () => d.heard.states.length > 0);
  t.same(
    d.last()?.namespaces.map(({ name }) => name),
    ['x', 'y'],
  );
  t.same(
    d.last()?.pods.map(({ name }) => name),
    ['p', 'q'],
  );
  t.same(
    d.last()?.policies.map(({ name }) => name),
    ['n'],
  );
  t.equal(d.trouble(), undefined);
});

t.test('changes, and what stays the same object', async (t) => {
  const d = directory(t);
  d.write('pods.json', `{"kind":"List","items":[${POD('p', 'a')},${POD('q', 'b')}]}`);
  d.start();
  await until(t, 'told', () => d.last()?.pods.length === 2);
  const [p, q] = d.last()?.pods ?? [];
  d.write('pods.json', `{"kind":"List","items":[${POD('p', 'a')},${POD('q', 'c')}]}`);
  await until(t, 'changed', () => d.last()?.pods[1]?.labels.get('pod') === 'c');
  t.equal(d.last()?.pods[0], p);
  t.not(d.last()?.pods[1], q);
  d.write('policy.yaml', POLICY('n'));
  await until(t, 'another file', () => d.last()?.policies.length === 1);
  t.equal(d.last()?.pods[0], p);
  rmSync(join(d.path, 'policy.yaml'));
  await until(t, 'one file less', () => d.last()?.policies.length === 0);
  d.write('policy.yaml', POLICY('n'));
  d.write('pods.json', POD('r', 'a'));
  await until(t, 'two at a time', () => d.last()?.policies.length === 1 && d.last()?.pods.length === 1);
  t.equal(d.last()?.namespaces.length, 0);
});

t.test('a bad file keeps what it said', async (t) => {
  const d = directory(t);
  d.write('a.yaml', POLICY('n'));
  d.write('b.yaml', NAMESPACE('x'));
  d.start();
  await until(t, 'told', () => d.last()?.policies.length === 1);
  d.write('a.yaml', 'kind: NetworkPolicy\n  metadata: {');
  await until(t, 'trouble', () => d.trouble() !== undefined);
  t.match(d.trouble(), /a\.yaml: document 1: not YAML: .*[^:]$/);
  d.write('b.yaml', NAMESPACE('y'));
  await until(t, 'the others go on', () => d.last()?.namespaces[0]?.name === 'y');
  t.equal(d.last()?.policies.length, 1, 'still in force');
  d.write('a.yaml', 'kind: NetworkPolicy\nmetadata: { namespace: x }\nspec: {}\n');
  await until(t, 'a policy without a name', () => /NetworkPolicy x: metadata\.name/.test(d.trouble() ?? ''));
  t.equal(d.last()?.policies.length, 1);
  d.write('a.yaml', POLICY('m'));
  await until(t, 'corrected', () => d.trouble() === undefined && d.last()?.policies[0]?.name === 'm');
});

t.test('nothing is told before everything was understood once', async (t) => {
  const d = directory(t);
  d.write('a.yaml', POLICY('n'));
  d.write('b.yaml', 'kind: Pod\nmetadata: { name: p, labels: { a: 1 } }\nspec: {}\n');
  d.start();
  await until(t, 'trouble', () => d.trouble() !== undefined);
  t.match(d.trouble(), /b\.yaml: Pod p: metadata\.labels\.a: expected a string, got 1/);
  t.same(d.heard.states, []);
  d.write('b.yaml', POD('p', 'a'));
  await until(t, 'told', () => d.heard.states.length > 0);
});

t.test('one object in two files', async (t) => {
  const d = directory(t);
  d.write('a.yaml', POLICY('n'));
  d.start();
  await until(t, 'told', () => d.heard.states.length > 0);
  d.write('b.yaml', POLICY('n', '{ matchLabels: { pod: a } }'));
  await until(t, 'trouble', () => /NetworkPolicy x\/n is in .*a\.yaml and in .*b\.yaml/.test(d.trouble() ?? ''));
  t.equal(d.heard.states.length, 1);
  rmSync(join(d.path, 'a.yaml'));
  await until(t, 'settled', () => d.last()?.policies[0]?.pods.labels.length === 1);
  t.equal(d.trouble(), undefined);
});

t.test('a directory that is not there yet, and one of links', async (t) => {
  const d = directory(t);
  rmSync(d.path, { recursive: true });
  d.start();
  await until(t, 'trouble', () => /there is no such directory/.test(d.trouble() ?? ''));
  mkdirSync(d.path);
  mkdirSync(join(d.path, '..one'));
  mkdirSync(join(d.path, '..two'));
  writeFileSync(join(d.path, '..one', 'a.yaml'), NAMESPACE('one'));
  writeFileSync(join(d.path, '..two', 'a.yaml'), NAMESPACE('two'));
  symlinkSync('..one', join(d.path, '..data'));
  symlinkSync('..data/a.yaml', join(d.path, 'a.yaml'));
  await until(t, 'told', () => d.last()?.namespaces[0]?.name === 'one');
  symlinkSync('..two', join(d.path, '..next'));
  renameSync(join(d.path, '..next'), join(d.path, '..data'));
  await until(t, 'as a ConfigMap changes', () => d.last()?.namespaces[0]?.name === 'two');
});
