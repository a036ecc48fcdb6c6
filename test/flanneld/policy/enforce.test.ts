// NetworkPolicy as the CNI service and the agent see it: who is admitted when, on the kernel in memory and a source that says
// what the test tells it to.

import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import type { Attachment } from '../../../cni-plugin/attachments.ts';
import { createSourceGuard } from '../../../cni-plugin/source-guard.ts';
import { createPolicyService, type PolicyDeps } from '../../../flanneld/policy/enforce.ts';
import { attachedIn } from '../../../flanneld/policy/attached.ts';
import type { Objects, Pod, Policy } from '../../../flanneld/policy/objects.ts';
import { parsePod } from '../../../flanneld/policy/parse-pod.ts';
import { parsePolicy } from '../../../flanneld/policy/parse-policy.ts';
import type { PolicyListener, PolicySource } from '../../../flanneld/policy/source.ts';
import { createFakeKernel } from '../../../kernel/fake.ts';
import { throwFirst } from '../../../kernel/kernel.ts';
import { NetError } from '../../../model/errors.ts';
import { ip, prefix } from '../../../model/ip.ts';
import { testClock, testLog } from '../fixtures/host.ts';

interface More {
  readonly node?: string;
  readonly address?: string;
  readonly uid?: string;
  readonly phase?: string;
}

const pod = (name: string, role: string, { node, address, uid, phase }: More = {}): Pod =>
  parsePod(
    {
      metadata: { name, namespace: 'x', labels: { role }, uid },
      spec: { nodeName: node, containers: [] },
      status: { phase, podIPs: address === undefined ? [] : [{ ip: address }] },
    },
    name,
  );
const policy = (spec: object): Policy => parsePolicy({ metadata: { name: 'p', namespace: 'x' }, spec }, 'p');
const DENYING = policy({ podSelector: { matchLabels: { role: 'shut' } } });
const objects = (pods: readonly Pod[], ...policies: Policy[]): Objects => ({ namespaces: [], pods, policies });

const attachment = (name: string, address: string, uid?: string): Attachment => ({
  network: 'cbr0',
  containerId: `id-${name}`,
  ifname: 'eth0',
  plugin: 'flannel',
  bootId: 'boot',
  created: 1,
  netns: { path: `/run/netns/${name}` },
  addresses: [ip(address)],
  routes: [],
  pod: { namespace: 'x', name, uid },
});

function rig(more: Partial<PolicyDeps> & { find?: PolicySource['find'] } = {}) {
  const kernel = createFakeKernel();
  const [clock, log, stop] = [testClock(), testLog(), new AbortController()];
  const records: Attachment[] = [];
  const invalid: Policy[] = [];
  let listener: PolicyListener | undefined;
  const source: PolicySource = {
    title: 'API server',
    async watch(given) {
      listener = given;
      await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    },
    ...(more.find && { find: more.find }),
    tellInvalid: (each) => void invalid.push(each),
  };
  const service = createPolicyService({
    source,
    kernel,
    clock,
    log,
    established: 'keep',
    unknownPod: 'closed',
    node: undefined,
    sources: createSourceGuard({ kernel, bootId: 'boot', readRecords: () => records }),
    readAttached: () => attachedIn(records),
    logDenied: false,
    listenToLog: () => () => undefined,
    readCounters: () => new Map(),
    ...more,
  });
  const pass = async (ms = 50) => {
    for (let left = ms; left > 0; left -= 10) {
      clock.advance(10);
      for (let turns = 0; turns < 5; turns++) await turn();
    }
  };
  const running = service.run(stop.signal);
  t.teardown(() => {
    stop.abort();
    return running;
  });
  return {
    service,
    kernel,
    clock,
    log,
    pass,
    invalid,
    tell: (state: Objects) => listener?.onObjects(state),
    trouble: (error: unknown) => listener?.onTrouble(error),
    /** Begins an ADD's admission: how it ended, once it has. */
    admit(name: string, address: string, uid?: string) {
      const record = attachment(name, address, uid);
      records.push(record);
      const state: { outcome?: string } = {};
      service.admit(record).then(
        () => {
          state.outcome = 'admitted';
        },
        (error: NetError) => {
          state.outcome = `${error.code}: ${error.message}`;
        },
      );
      return state;
    },
    elements: (set: string) =>
      kernel.readTable('inet', 'flannel-policy')?.sets.find(({ name }) => name === set)?.elements ?? [],
  };
}

t.test('who waits for the first state hears once that it is in force', async (t) => {
  let heard = 0;
  const { tell, pass } = rig({ onSettled: () => void heard++ });
  await pass();
  t.equal(heard, 0, 'before anything is known');
  tell(objects([pod('one', 'web')], DENYING));
  await pass();
  t.equal(heard, 1);
  tell(objects([pod('two', 'web')], DENYING));
  await pass();
  t.equal(heard, 1);
});

t.test('before the source was read, ADD waits, then says for what', async (t) => {
  const r = rig();
  r.trouble(new NetError('kube-refused', 'GET /api/v1/pods: forbidden'));
  const added = r.admit('a', '10.5.1.2');
  await r.pass(9900);
  t.equal(added.outcome, undefined);
  t.match(r.service.unreadiness(), /API server has not been read yet: .*forbidden/);
  await r.pass(200);
  t.match(added.outcome, /^try-later: network policy of pod x\/a .* has not been read yet: .*forbidden/);
  const again = r.admit('a', '10.5.1.2');
  r.tell(objects([pod('a', 'shut')], DENYING));
  await r.pass();
  t.equal(again.outcome, 'admitted');
  t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump/], 'in force before ADD goes on');
});

t.test('a pod that hasn’t been told of is asked for', async (t) => {
  const asked: string[] = [];
  const r = rig({
    find: async ({ name }) => {
      asked.push(name);
      return name === 'late' ? pod('late', 'shut') : undefined;
    },
  });
  r.tell(objects([], DENYING));
  const [late, none] = [r.admit('late', '10.5.1.2'), r.admit('none', '10.5.1.3')];
  await r.pass();
  t.strictSame(asked, ['late', 'none']);
  t.equal(late.outcome, 'admitted');
  t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump ingress-/], 'by its labels');
  r.tell(objects([], DENYING));
  await r.pass();
  t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump ingress-/], 'until it is told of');
  r.tell(objects([pod('late', 'free')], DENYING));
  await r.pass();
  t.strictSame(r.elements('ingress4'), ['10.5.1.3 : jump denied-ingress'], 'from then on that holds');
  await r.pass(10_000);
  t.match(none.outcome, /^try-later: .* API server has no Pod x\/none/);
});

t.test('a pod of the same name as one before is another', async (t) => {
  const [before, now] = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];
  for (const old of [pod('db', 'free', { uid: before }), pod('db', 'free', { uid: before, phase: 'Failed' })]) {
    const asked: string[] = [];
    const r = rig({
      find: async ({ name }) => {
        asked.push(name);
        return asked.length === 1 ? old : pod(name, 'shut', { uid: now });
      },
    });
    r.tell(objects([old], DENYING));
    const added = r.admit('db', '10.5.1.2', now);
    await r.pass();
    t.equal(added.outcome, undefined, 'the source knows the one before, and the server says that one too');
    t.match(r.elements('ingress4'), ['10.5.1.2 : jump denied-ingress'], 'it may do nothing meanwhile');
    await r.pass(10_000);
    t.match(added.outcome, /^try-later: .* has no Pod x\/db with the uid 0{8}-.*2,/);
    const again = r.admit('db', '10.5.1.2', now);
    await r.pass();
    t.equal(again.outcome, 'admitted');
    t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump ingress-/], 'by its own labels');
    r.tell(objects([old], DENYING));
    await r.pass();
    t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump ingress-/], 'though the one before is still told of');
    r.tell(objects([pod('db', 'free', { uid: now })], DENYING));
    await r.pass();
    t.strictSame(r.elements('ingress4'), [], 'until it is told of itself');
  }
});

t.test('a pod that has finished is judged as long as it is attached', async (t) => {
  const r = rig();
  r.tell(objects([pod('job', 'shut')], DENYING));
  r.admit('job', '10.5.1.2');
  await r.pass();
  r.tell(objects([pod('job', 'shut', { phase: 'Failed', address: '10.5.1.2' })], DENYING));
  await r.pass();
  t.match(r.elements('ingress4'), [/^10\.5\.1\.2 : jump ingress-/]);
});

t.test('a source that is away: a pod that nobody knows is let go, shut', async (t) => {
  const answers = [
    () => Promise.reject(new NetError('kube-unreachable', 'GET: ECONNREFUSED')),
    (_: unknown, signal: AbortSignal) =>
      new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  ];
  for (const find of answers) {
    const r = rig({ find });
    r.tell(objects([pod('known', 'free')], DENYING));
    const [known, fresh] = [r.admit('known', '10.5.1.2'), r.admit('fresh', '10.5.1.3')];
    await r.pass(5100);
    t.strictSame([known.outcome, fresh.outcome], ['admitted', 'admitted']);
    t.strictSame(r.elements('ingress4'), ['10.5.1.3 : jump denied-ingress'], 'the last state holds for the other');
    t.match(r.log.lines.join(), /Pod x\/fresh may do nothing where policies are, until API server is back/);
    r.tell(objects([pod('known', 'free'), pod('fresh', 'free')], DENYING));
    await r.pass();
    t.strictSame(r.elements('ingress4'), [], 'until it is known');
  }
});

t.test('one that refuses to answer: ADD waits for it to be told of', async (t) => {
  const r = rig({ find: () => Promise.reject(new NetError('kube-refused', 'GET: forbidden')) });
  r.tell(objects([], DENYING));
  const [told, never] = [r.admit('told', '10.5.1.2'), r.admit('never', '10.5.1.3')];
  await r.pass(5000);
  t.equal(told.outcome, undefined);
  t.match(r.log.lines.join(), /forbidden; Pod x\/told waits/);
  r.tell(objects([pod('told', 'free')], DENYING));
  await r.pass();
  t.equal(told.outcome, 'admitted');
  await r.pass(10_000);
  t.match(never.outcome, /^try-later: /);
});

t.test('pods that another plugin has attached', async (t) => {
  for (const node of [{ node: 'here' }, { namespace: 'x', pod: 'agent' }]) {
    const r = rig({ node });
    throwFirst(
      r.kernel.apply(r.kernel.host, [
        { verb: 'add', item: { type: 'link', value: { name: 'cni0', kind: 'bridge', up: true } } },
        { verb: 'replace', item: { type: 'address', value: { device: 'cni0', address: prefix('10.5.1.1/24') } } },
      ]),
    );
    const bridge = () => r.kernel.read(r.kernel.host, { links: ['cni0'] }).links[0]?.bridge;
    const state = [
      pod('agent', 'free', { node: 'here' }),
      pod('foreign', 'shut', { node: 'here', address: '10.5.1.9' }),
      pod('elsewhere', 'shut', { node: 'there', address: '10.5.2.9' }),
    ];
    r.tell(objects(state, DENYING));
    await r.pass(250);
    t.match(r.elements('ingress4'), [/^10\.5\.1\.9 : jump ingress-/], 'their addresses are those of their status');
    t.match(bridge(), { nfCallIptables: true, nfCallIp6tables: true }, 'their bridge hands over what it forwards');
    t.equal(r.service.unreadiness(), undefined);
    t.equal(r.admit('foreign', '10.5.1.4').outcome, undefined);
    await r.pass();
    t.match(r.elements('ingress4'), [/^10\.5\.1\.4 : jump ingress-/], 'until it is attached by ours');
  }
});

t.test('a policy that can’t be understood is named to its source, once, by a node with a pod of it', async (t) => {
  const r = rig();
  const odd = policy({ podSelector: {}, ingress: [{ from: [{ nodeSelector: {} }] }] });
  r.tell(objects([], odd));
  r.tell(objects([pod('a', 'free')], odd));
  await r.pass();
  t.strictSame(r.invalid, [], 'no pod of it is here');
  r.admit('a', '10.5.1.2');
  r.tell(objects([pod('a', 'free')], odd));
  await r.pass();
  t.strictSame(r.invalid, [odd]);
  t.match(r.service.status().invalid, [
    /^NetworkPolicy x\/p: spec\.ingress\[0\]\.from\[0\]\.nodeSelector: not known here/,
  ]);
  t.match(r.log.lines.slice(1), [/^warn NetworkPolicy x\/p: spec\.ingress\[0\]\.from\[0\]\.nodeSelector/]);
});
