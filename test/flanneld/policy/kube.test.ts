// The policy source of a cluster, on a client that answers what the test says. The real one: test/kubernetes/policy.test.ts.

import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { KubeClient } from '../../../flanneld/kube/client.ts';
import { kubePolicySource } from '../../../flanneld/policy/kube.ts';
import type { Objects } from '../../../flanneld/policy/objects.ts';
import { NetError } from '../../../model/errors.ts';

const PATHS = {
  pods: '/api/v1/pods',
  namespaces: '/api/v1/namespaces',
  policies: '/apis/networking.k8s.io/v1/networkpolicies',
};
const pod = (name: string, role: string) => ({
  metadata: { name, namespace: 'a', labels: { role }, resourceVersion: '2' },
  spec: { nodeName: 'n1', containers: [] },
  status: { podIPs: [{ ip: '10.244.1.2' }] },
});
const policy = (name: string, spec: unknown) => ({ metadata: { name, namespace: 'a' }, spec });

/** The answer to a GET of one pod. */
function one(path: string): unknown {
  if (path === '/api/v1/namespaces/a/pods/one') return pod('one', 'x');
  throw new NetError('not-in-kube', `GET ${path}: not found`);
}

function rig(t: Test) {
  const items: Record<string, unknown[]> = { [PATHS.pods]: [], [PATHS.namespaces]: [], [PATHS.policies]: [] };
  const sinks = new Map<string, (events: unknown[]) => void>();
  const failing = new Set<string>();
  const created: { path: string; body: unknown }[] = [];
  const client: KubeClient = {
    async get(path) {
      await turn();
      if (failing.has(path)) throw new NetError('kube-refused', `GET ${path}: forbidden`);
      return one(path);
    },
    async list({ path }, _, __, onItem) {
      // The test says first what there is.
      await turn();
      if (failing.has(path)) throw new NetError('kube-refused', `GET ${path}: forbidden`);
      for (const item of items[path] ?? []) onItem(item);
      return { metadata: { resourceVersion: '1' } };
    },
    async *watch({ path }, _, signal) {
      yield [];
      const waiting: unknown[][] = [];
      let wake = () => {};
      sinks.set(path, (events) => {
        waiting.push(events);
        wake();
      });
      const aborted = once(signal, 'abort');
      while (!signal.aborted) {
        const events = waiting.shift();
        if (events !== undefined) yield events;
        else await Promise.race([aborted, new Promise<void>((resolve) => (wake = resolve))]);
      }
    },
    patch: async () => undefined,
    create: async (path, body) => void created.push({ path, body }),
    reconnect: () => undefined,
    close: () => undefined,
  };
  const told: Objects[] = [];
  const troubles: unknown[] = [];
  const stop = new AbortController();
  const source = kubePolicySource({ client, report: () => undefined, times: { longestPauseMs: 20 } });
  const done = source.watch(
    { onObjects: (objects) => told.push(objects), onTrouble: (trouble) => troubles.push(trouble) },
    stop.signal,
  );
  t.teardown(async () => {
    stop.abort();
    await done;
  });
  const until = async (met: () => boolean) => {
    const deadline = Date.now() + 20_000;
    while (!met() && Date.now() < deadline) await turn();
    return met();
  };
  const send = (path: string, type: string, ...objects: unknown[]) =>
    sinks.get(path)?.(objects.map((object) => ({ type, object })));
  return { items, failing, told, troubles, until, send, sinks, source, created };
}

t.test('nothing is told before all three are known; what hasn’t changed is the same object', async (t) => {
  const { items, failing, told, troubles, until, send, sinks } = rig(t);
  failing.add(PATHS.namespaces);
  items[PATHS.pods] = [pod('one', 'x'), pod('two', 'x')];
  t.ok(await until(() => troubles.length > 0 && sinks.has(PATHS.pods)));
  t.strictSame(told, []);
  failing.clear();
  t.ok(await until(() => told.length === 1 && sinks.size === 3));
  t.equal(troubles.at(-1), undefined, 'the trouble has passed');
  send(PATHS.pods, 'MODIFIED', pod('two', 'y'));
  t.ok(await until(() => told.length === 2));
  const [before, after] = told as [Objects, Objects];
  t.equal(after.pods[0], before.pods[0]);
  t.strictSame(after.pods[1]?.labels, new Map([['role', 'y']]), 'another label is a change');
  send(PATHS.pods, 'DELETED', pod('one', 'x'));
  t.ok(await until(() => told.length === 3));
  t.strictSame(
    told[2]?.pods.map(({ name }) => name),
    ['two'],
  );
});

t.test('a policy that can’t be understood isolates; an object that can’t be is told and left out', async (t) => {
  const { items, told, troubles, until } = rig(t);
  items[PATHS.policies] = [policy('odd', { podSelector: { matchExpressions: [{ key: 'k', operator: 'Near' }] } })];
  items[PATHS.pods] = [{ ...pod('good', 'x') }, { metadata: { name: 'strange', namespace: 'a', labels: { a: 1 } } }];
  t.ok(await until(() => told.length === 1));
  t.strictSame(
    told[0]?.pods.map(({ name }) => name),
    ['good'],
  );
  t.match(troubles[0], { code: 'decoding', message: /^\/api\/v1\/pods a\/strange/ });
  t.match(told[0]?.policies, [{ name: 'odd', invalid: /operator/ }]);
});

t.test('one pod is asked for by its name', async (t) => {
  const { source, failing } = rig(t);
  const { signal } = new AbortController();
  t.match(await source.find?.({ namespace: 'a', name: 'one' }, signal), { name: 'one', node: 'n1' });
  t.equal(await source.find?.({ namespace: 'a', name: '../../pods/one' }, signal), undefined);
  failing.add('/api/v1/namespaces/a/pods/one');
  await t.rejects(async () => void (await source.find?.({ namespace: 'a', name: 'one' }, signal)), {
    code: 'kube-refused',
  });
});

t.test('an Event on a policy that can’t be understood, said once; none where the node isn’t known', async (t) => {
  const { items, told, until, source, created } = rig(t);
  const odd = policy('odd', { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 'x' } }] }] });
  items[PATHS.policies] = [{ ...odd, metadata: { ...odd.metadata, uid: 'u1' } }];
  t.ok(await until(() => told.length === 1));
  const [given] = told[0]?.policies ?? [];
  if (given === undefined) throw new Error('no policy');
  source.tellInvalid?.(given, undefined);
  await turn();
  t.strictSame(created, []);
  for (let time = 0; time < 3; time++) source.tellInvalid?.(given, 'n1');
  t.ok(await until(() => created.length > 0));
  await turn();
  const about = { kind: 'NetworkPolicy', namespace: 'a', name: 'odd', uid: 'u1' };
  const event = { reason: 'PolicyInvalid', involvedObject: about, message: /spec\.ingress\[0\]\.from\[0\]\.ipBlock/ };
  t.equal(created.length, 1);
  t.match(created, [{ path: '/api/v1/namespaces/a/events', body: { ...event, source: { host: 'n1' } } }]);
});
