// The CNI list that the agent keeps: there when pods can be served, whole, and put back; and what is refused as a list.

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Agent } from '../../flanneld/agent.ts';
import { createCniList, LIST_NAME, readCniList, withCniList } from '../../flanneld/cni/list.ts';
import { type TestClock, testClock, testLog } from './fixtures/host.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const LIST = JSON.stringify({ name: 'cbr0', cniVersion: '1.0.0', plugins: [{ type: 'flannel' }] });

function directory(t: Test): string {
  const path = temporaryDirectory(t);
  return path;
}

/** Lets the loop look again. */
async function look(clock: TestClock): Promise<void> {
  clock.advance(1000);
  await new Promise((resolve) => setImmediate(resolve));
}

/** An agent that is as ready as the test says, and runs until it is told to stop or to fail. */
function agentOf(state: { reason?: string | undefined }, end: Promise<void>): Agent {
  return {
    run: (signal) =>
      Promise.race([end, new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))]),
    unreadiness: () => state.reason,
    remarks: () => [],
    examine: async () => undefined,
    status: () => ({ ready: state.reason === undefined, reason: state.reason }) as ReturnType<Agent['status']>,
  };
}

t.test('it appears once the agent is ready, is put back, and stays after a stop', async (t) => {
  const target = join(directory(t), LIST_NAME);
  const clock = testClock();
  const state: { reason?: string | undefined } = { reason: 'waiting for a subnet' };
  const agent = withCniList(
    agentOf(state, new Promise(() => {})),
    createCniList({ clock, log: testLog(), text: LIST, target }),
  );
  const stop = new AbortController();
  const running = agent.run(stop.signal);
  await look(clock);
  t.notOk(existsSync(target), 'not before');
  t.equal(agent.unreadiness(), 'waiting for a subnet');
  state.reason = undefined;
  await look(clock);
  t.equal(readFileSync(target, 'utf8'), LIST);
  t.equal(statSync(target).mode & 0o777, 0o644 & ~process.umask());
  const { ino } = statSync(target);
  await look(clock);
  t.equal(statSync(target).ino, ino, 'what is right is left alone');
  state.reason = 'the lease is held by another node';
  writeFileSync(target, '{"name":');
  await look(clock);
  t.equal(readFileSync(target, 'utf8'), LIST, 'pods were served once: it is put back whatever has happened since');
  stop.abort();
  await running;
  t.equal(readFileSync(target, 'utf8'), LIST);
});

t.test('a list that can not be written makes the node not ready, until it can', async (t) => {
  const place = join(directory(t), 'net.d');
  const clock = testClock();
  const list = createCniList({ clock, log: testLog(), text: LIST, target: join(place, LIST_NAME) });
  const agent = withCniList(agentOf({}, new Promise(() => {})), list);
  const stop = new AbortController();
  const running = agent.run(stop.signal);
  await look(clock);
  t.match(agent.unreadiness(), /^write the CNI list 10-flannel\.conflist: .*ENOENT/);
  t.match(agent.status(), { ready: false, reason: /ENOENT/ });
  mkdirSync(place);
  await look(clock);
  t.equal(agent.unreadiness(), undefined);
  t.match(agent.status(), { ready: true });
  stop.abort();
  await running;
});

t.test('an agent that ends with an error takes the loop with it', async (t) => {
  const list = createCniList({ clock: testClock(), log: testLog(), text: LIST, target: '/nonexistent/list' });
  const end = Promise.withResolvers<void>();
  const running = withCniList(agentOf({}, end.promise), list).run(new AbortController().signal);
  end.reject(new Error('no interface'));
  await t.rejects(running, /no interface/);
});

t.test('what is no list is refused by name', async (t) => {
  const path = join(directory(t), 'list');
  const rows: readonly (readonly [string, RegExp])[] = [
    ['', /expected a JSON object/],
    ['{', /expected a JSON object/],
    ['[]', /expected a JSON object/],
    ['null', /expected a JSON object/],
    ['{"cniVersion":"1.0.0"}', /name: expected a text/],
    ['{"name":"cbr0","cniVersion":1}', /cniVersion: expected a text/],
    ['{"name":"cbr0","cniVersion":"1.0.0"}', /plugins: expected at least one/],
    ['{"name":"cbr0","cniVersion":"1.0.0","plugins":[]}', /plugins: expected at least one/],
    ['{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"a"},{}]}', /plugins\[1\]\.type: expected a text/],
    ['{"name":"cbr0","cniVersion":"1.0.0","plugins":[null]}', /plugins\[0\]\.type: expected a text/],
  ];
  for (const [text, words] of rows) {
    writeFileSync(path, text);
    t.throws(() => readCniList(path), { code: 'invalid-config', message: words, subject: path }, text);
  }
  rmSync(path);
  t.throws(() => readCniList(path), { code: 'file-unreadable', subject: path });
});

t.test('a list behind links, as a ConfigMap is mounted, is read', async (t) => {
  const place = directory(t);
  writeFileSync(join(place, '..data'), LIST);
  chmodSync(join(place, '..data'), 0o444);
  symlinkSync('..data', join(place, 'cni-conf.json'));
  t.equal(readCniList(join(place, 'cni-conf.json')), LIST);
});
