// What the plugin leaves behind when something fails, is missing or is killed: nothing.

import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { attach, makeNode } from '../support/cni.ts';
import { count } from '../support/count.ts';
import { linksOf, makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { below, random } from '../support/seed.ts';

t.test('DEL whatever is missing', async (t) => {
  const node = makeNode(t);
  const ways: [string, (pod: TestNamespace) => void, string?][] = [
    ['twice', () => undefined],
    ['no namespace given', () => undefined, ''],
    ['the namespace is gone', (pod) => pod.remove()],
    ['the path is no namespace', () => undefined, node.subnetFile],
    ['no record', () => rmSync(join(node.directory, 'flannel'), { recursive: true })],
    ['no reservations', () => rmSync(join(node.directory, 'networks'), { recursive: true })],
    ['no subnet file', () => rmSync(node.subnetFile)],
  ];
  for (const [name, prepare, path] of ways) {
    const [pod] = attach(t, node, 'pod1');
    prepare(pod);
    for (const round of ['first', 'second']) {
      const { status, output } = node.cni('DEL', { config: node.config(), netns: path ?? pod.path });
      t.strictSame([status, output], [0, {}], `${name}: ${round}`);
    }
    t.strictSame(linksOf(node.namespace), ['cni0', 'lo'], name);
    t.strictSame(node.files(), [], name);
    if (existsSync(pod.path)) t.strictSame(linksOf(pod), ['lo'], name);
  }
});

t.test('a failed ADD leaves nothing', async (t) => {
  const node = makeNode(t);
  const [pod, first] = attach(t, node, 'pod1');
  // Duplicate address detection of link-local addresses ends when it likes.
  const lines = (line: string) => node.namespace.must(line).replaceAll(' tentative', '').split('\n');
  const state = () => [
    ...lines('ip -o link show'),
    ...lines('ip -o address show'),
    ...lines('bridge -d link show'),
    ...node.files(),
  ];
  const moved = join(node.directory, 'moved.env');
  writeFileSync(moved, readFileSync(node.subnetFile, 'utf8').replace('10.5.1.1/24', '10.9.1.1/24'));
  const before = state();
  const unreachable = {
    dataDir: join(node.directory, 'networks'),
    routes: [{ dst: '192.0.2.0/24', gw: '198.51.100.1' }],
  };

  interface Refusal {
    readonly name: string;
    readonly changes?: Record<string, unknown>;
    readonly netns?: string;
    readonly code: number;
    readonly msg: RegExp;
  }
  const refusals: Refusal[] = [
    { name: 'interface exists', netns: pod.path, code: 105, msg: /interface "eth0" already exists in / },
    { name: 'same namespace', netns: node.namespace.path, code: 8, msg: /should not be the same/ },
    { name: 'no such namespace', netns: '/run/netns/none', code: 8, msg: /\/run\/netns\/none: ENOENT/ },
    { name: 'no namespace', netns: node.subnetFile, code: 8, msg: /is not a network namespace/ },
    { name: 'no subnet file', changes: { subnetFile: '/none' }, code: 11, msg: /^\/none is not there/ },
    {
      name: 'other gateway',
      changes: { subnetFile: moved },
      code: 105,
      msg: /"cni0" already has an IP address different from 10\.9\.1\.1\/24/,
    },
    {
      name: 'no bridge',
      changes: { delegate: { bridge: first.interfaces[1]?.name } },
      code: 105,
      msg: /already exists but is not a bridge/,
    },
    { name: 'bad MTU', changes: { delegate: { mtu: 60 } }, code: 100, msg: /EINVAL/ },
    { name: 'bad route', changes: { ipam: unreachable }, code: 100, msg: /add route 192\.0\.2\.0\/24 .*ENETUNREACH/ },
  ];
  for (const { name, changes, netns, code, msg } of refusals) {
    const fresh = makeNamespace(t, 'fresh');
    const call = { config: node.config(changes), containerId: 'pod2', netns: netns ?? fresh.path };
    t.match(node.cni('ADD', call), { status: 1, output: { code, msg } }, name);
    t.strictSame(state(), before, `${name}: the node is as before`);
    t.strictSame(linksOf(fresh), ['lo'], `${name}: and the pod`);
    t.match(node.cni('DEL', call), { status: netns === node.namespace.path ? 1 : 0 }, `${name}: DEL after it`);
    t.strictSame(state(), before, `${name}: which changes nothing`);
  }
  const again = node.cni('ADD', { config: node.config(), netns: makeNamespace(t, 'other').path });
  t.match(again, {
    status: 1,
    output: { code: 104, msg: 'container pod1 already has interface eth0 in network cbr0' },
  });
  t.strictSame(state(), before);
});

const ROUNDS = count(200);
t.test(`killed at a random moment, ${ROUNDS} times: DEL clears it away`, async (t) => {
  const node = makeNode(t);
  const next = random('cni-killed');
  const pod = makeNamespace(t, 'pod');
  const started = performance.now();
  t.equal(node.cni('ADD', { config: node.config(), netns: pod.path }).status, 0);
  const usual = performance.now() - started;
  t.equal(node.cni('DEL', { config: node.config(), netns: pod.path }).status, 0);
  let touched = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const verb = round % 4 === 3 ? 'DEL' : 'ADD';
    if (verb === 'DEL') node.cni('ADD', { config: node.config(), netns: pod.path });
    const child = node.start(verb, { config: node.config(), netns: pod.path });
    await sleep(usual / 2 + below(usual / 2, next));
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    if (child.signalCode !== null && node.files().length > 0) touched++;
    const { status, output } = node.cni('DEL', { config: node.config(), netns: pod.path });
    t.equal(status, 0, JSON.stringify(output));
    t.strictSame(node.files(), []);
    t.strictSame(linksOf(node.namespace), ['cni0', 'lo']);
    t.strictSame(linksOf(pod), ['lo']);
  }
  t.comment(`${touched} kills came between the first and the last effect`);
});
