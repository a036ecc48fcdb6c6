// The C client executes other plugins at the agent's request.

import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { ExecutedMessage, ExecuteMessage } from '../../cni-plugin/wire.ts';
import { type ClientHost, clientHost, compileClient, testAgent } from '../support/cni-client.ts';

const client = join(compileClient(t), 'flannel');
const impatient = join(compileClient(t, { PLUGIN_MS: 500 }), 'flannel');

/** A host with plugins, shell scripts, in the second of two directories of CNI_PATH. */
function hostWith(t: Test, plugins: Readonly<Record<string, string>>): ClientHost {
  const host = clientHost(t);
  for (const directory of ['first', 'second']) mkdirSync(join(host.lib, directory));
  for (const [name, script] of Object.entries(plugins)) {
    const path = join(host.lib, 'second', name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  }
  return host;
}

const CNI_PATH = '/var/lib/first::/nowhere:/var/lib/second';

type Order = Partial<Omit<ExecuteMessage, 'kind'>>;

/** What the client answered to these orders, one after another, within one request. */
async function execute(t: Test, host: ClientHost, program: string, ...orders: Order[]): Promise<ExecutedMessage[]> {
  const answers: ExecutedMessage[] = [];
  const agent = await testAgent(t, host.socket, async (conversation) => {
    for (const order of orders) answers.push(await conversation.execute(order));
    conversation.answer({ status: 7, output: 'the end' });
  });
  const ended = await host.call(program, 'ADD', { env: { CNI_PATH, OTHER: 'kept' } });
  t.match(ended, { status: 7, output: 'the end', errors: '' });
  await agent.close();
  return answers;
}

const MEBIBYTE = 1 << 20;
const fill = (bytes: number): string => `head -c ${bytes} /dev/zero | tr '\\0' x`;

t.test('input, outputs, status and environment', async (t) => {
  const host = hostWith(t, {
    other: 'echo "$0 $# $CNI_COMMAND $CNI_IFNAME $OTHER $(cat)"; echo log >&2; exit 3',
  });
  const answers = await execute(
    t,
    host,
    client,
    { plugin: 'other', input: '{"a":1}', environment: { CNI_COMMAND: 'DEL', CNI_IFNAME: 'net1' } },
    { plugin: 'other', input: '', environment: {} },
  );
  t.strictSame(answers, [
    { kind: 'executed', status: 3, output: '/var/lib/second/other 0 DEL net1 kept {"a":1}\n', errors: 'log\n' },
    { kind: 'executed', status: 3, output: '/var/lib/second/other 0 ADD eth0 kept \n', errors: 'log\n' },
  ]);
});

t.test('a mebibyte on every stream', async (t) => {
  const host = hostWith(t, {
    echo: 'cat',
    deaf: `${fill(MEBIBYTE)} >&2; ${fill(MEBIBYTE)}`,
  });
  const input = 'y'.repeat(MEBIBYTE);
  const [echo, deaf] = await execute(t, host, client, { plugin: 'echo', input }, { plugin: 'deaf', input });
  t.ok(echo?.output === input, 'all of the input');
  t.match([deaf?.status, deaf?.output.length, deaf?.errors.length], [0, MEBIBYTE, MEBIBYTE]);
});

t.test('too much output', async (t) => {
  const host = hostWith(t, { out: `${fill(MEBIBYTE + 1)}`, err: `${fill(MEBIBYTE + 1)} >&2`, ever: 'yes' });
  for (const answer of await execute(t, host, client, { plugin: 'out' }, { plugin: 'err' }, { plugin: 'ever' })) {
    t.match(answer, { status: 128 + 9, output: '', errors: /ended by force/ });
  }
});

t.test('a plugin that is not there, or is none', async (t) => {
  const host = hostWith(t, { ok: 'exit 0', broken: '', plain: '' });
  mkdirSync(join(host.lib, 'first/ok'));
  writeFileSync(join(host.lib, 'second/broken'), '#!/no/such/interpreter\n');
  chmodSync(join(host.lib, 'second/plain'), 0o644);
  const names = ['missing', '../second/ok', '/var/lib/second/ok', '', '.', 'x'.repeat(300), 'a\n"b', 'broken', 'plain'];
  const answers = await execute(t, host, client, ...names.map((plugin) => ({ plugin })), { plugin: 'ok' });
  t.match(answers.pop(), { status: 0, output: '' }, 'a directory of that name is passed over');
  for (const [i, { status, output, errors }] of answers.entries()) {
    t.match({ status, errors }, { status: 1, errors: '' });
    const words =
      i < 7 ? /^failed to find plugin ".*" in path \[.*:\/var\/lib\/second]$/s : /^execute \/var\/lib\/second/;
    t.match(JSON.parse(output), { code: 7, msg: words }, JSON.stringify(names[i]));
  }
});

t.test('only CNI variables can be changed', async (t) => {
  const host = hostWith(t, { other: 'echo "$LD_PRELOAD"' });
  const answers = await execute(t, host, client, { environment: { LD_PRELOAD: '/tmp/x.so' } });
  t.match(JSON.parse(answers[0]?.output ?? ''), { code: 5, msg: /malformed/ });
});

t.test('a plugin ended by a signal', async (t) => {
  const host = hostWith(t, { other: 'echo partly; kill -SEGV $$' });
  t.match(await execute(t, host, client, {}), [{ status: 128 + 11, output: 'partly\n' }]);
});

t.test('signals that the caller ignores', async (t) => {
  const host = hostWith(t, { other: 'yes | head -n 1; exit 3' });
  const agent = await testAgent(t, host.socket, async ({ execute, answer }) => answer(await execute({})));
  const options = { env: { CNI_PATH }, through: 'env --ignore-signal=CHLD --ignore-signal=PIPE' };
  t.match(await host.call(client, 'ADD', options), { status: 3, output: 'y\n', errors: '' });
  await agent.close();
});

t.test('plugins that hang', async (t) => {
  const marker = (name: string): string => `sleep 2; touch /var/lib/${name}`;
  const host = hostWith(t, {
    hangs: marker('hangs'),
    'hangs-below': `(${marker('hangs-below')}) | cat`,
    'hangs-silently': `exec >&- 2>&-; ${marker('hangs-silently')}`,
    'hangs-stubbornly': `trap '' TERM INT HUP; ${marker('hangs-stubbornly')}`,
  });
  const names = ['hangs', 'hangs-below', 'hangs-silently', 'hangs-stubbornly'];
  const started = performance.now();
  const answers = await execute(t, host, impatient, ...names.map((plugin) => ({ plugin })));
  const ms = performance.now() - started;
  t.ok(ms > 2000 && ms < 4000, `${ms} ms`);
  for (const answer of answers) t.match(answer, { status: 128 + 9, output: '', errors: /ended by force/ });
  await sleep(2000);
  for (const name of names) t.notOk(existsSync(join(host.lib, name)), `nothing is left of ${name}`);
});

t.test('a plugin that leaves something running which holds its outputs', async (t) => {
  const host = hostWith(t, { other: 'sleep 2 & echo done' });
  const started = performance.now();
  t.match(await execute(t, host, client, {}), [{ status: 0, output: 'done\n' }]);
  t.ok(performance.now() - started < 1000, 'is not waited for');
});

t.test('a plugin does not outlive the client', async (t) => {
  const host = hostWith(t, { other: 'touch /var/lib/started; sleep 1; touch /var/lib/survived' });
  await testAgent(t, host.socket, async ({ execute }) => void (await execute({})));
  const call = host.start(client, 'ADD', { env: { CNI_PATH } });
  while (!existsSync(join(host.lib, 'started'))) await sleep(10);
  call.kill();
  await call.ended;
  await sleep(1500);
  t.notOk(existsSync(join(host.lib, 'survived')));
});

t.test('an ADD stays one, though its agent died after a plugin’s DEL', async (t) => {
  const host = hostWith(t, { other: '' });
  writeFileSync(join(host.etc, '.flannel-agent'), '60');
  let first = true;
  await testAgent(t, host.socket, async ({ execute, drop, answer }) => {
    if (!first) return answer({ output: 'again' });
    first = false;
    await execute({ environment: { CNI_COMMAND: 'DEL' } });
    return drop();
  });
  t.match(await host.call(client, 'ADD', { env: { CNI_PATH } }), { status: 0, output: 'again' });
});
