// Other programs, run to their end: shell scripts in a directory of the test's own.

import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { executeFrom } from '../../cni-plugin/execute.ts';
import { execute, findProgram } from '../../kernel/execute.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const PATH = '/usr/bin:/bin';

function scripts(t: Test): { directory: string; put(name: string, text: string): string } {
  const directory = temporaryDirectory(t);
  return {
    directory,
    put(name, text) {
      writeFileSync(join(directory, name), `#!/bin/sh\n${text}\n`);
      chmodSync(join(directory, name), 0o755);
      return join(directory, name);
    },
  };
}

const options = { environment: { PATH }, input: '', timeoutMs: 20_000, maxBytes: 1 << 20 };

t.test('input, environment, outputs and status', async (t) => {
  const { put } = scripts(t);
  const program = put('a', 'cat; echo "$X-$HOME"; echo err >&2; exit 3');
  const ended = await execute(program, { ...options, environment: { PATH, X: 'x' }, input: 'in\n' });
  t.strictSame(ended, { status: 3, output: 'in\nx-\n', errors: 'err\n' });
});

t.test('ended by a signal; input that nobody reads', async (t) => {
  const { put } = scripts(t);
  t.match(await execute(put('a', 'kill -TERM $$'), { ...options, input: 'x'.repeat(1 << 20) }), { status: 143 });
});

t.test('much output, all of it', async (t) => {
  const { put } = scripts(t);
  const { output } = await execute(put('a', 'head -c 1000000 /dev/zero'), options);
  t.equal(output.length, 1_000_000);
});

t.test('past its bounds it is killed, with all it has started', async (t) => {
  const { put } = scripts(t);
  const slow = put('slow', 'echo begun; sleep 60 & sleep 60');
  const started = performance.now();
  const forced = { status: 137, output: '', errors: 'ended by force: it took too long or said too much' };
  t.strictSame(await execute(slow, { ...options, timeoutMs: 100 }), forced);
  t.strictSame(await execute(put('loud', 'yes'), { ...options, maxBytes: 1000 }), forced);
  t.ok(performance.now() - started < 10_000);
});

t.test('arguments, and a name that PATH has', async (t) => {
  const { output } = await execute('printf', { ...options, args: ['%s|', 'a b', '$X', ''] });
  t.equal(output, 'a b|$X||');
});

t.test('a signal ends it', async (t) => {
  const { put } = scripts(t);
  const controller = new AbortController();
  const ended = execute(put('slow', 'sleep 60'), { ...options, signal: controller.signal });
  controller.abort();
  t.match(await ended, { status: 137 });
});

t.test('what it has started may stay, and hold its outputs open', async (t) => {
  const { put } = scripts(t);
  const started = performance.now();
  t.match(await execute(put('a', 'echo said; sleep 5 &'), options), { status: 0, output: 'said\n' });
  t.ok(performance.now() - started < 3000);
});

t.test('one that can’t be started', async (t) => {
  const { directory, put } = scripts(t);
  chmodSync(put('a', ''), 0o644);
  await t.rejects(execute(join(directory, 'a'), options), { code: 'io', errno: 'EACCES' });
});

t.test('where it is found', async (t) => {
  const { directory, put } = scripts(t);
  const other = scripts(t);
  mkdirSync(join(directory, 'folder'));
  other.put('folder', '');
  put('both', '');
  other.put('both', '');
  symlinkSync('both', join(directory, 'link'));
  const find = (name: string) => findProgram(name, ['/none', directory, other.directory]);
  t.equal(find('both'), join(directory, 'both'));
  t.equal(find('link'), join(directory, 'link'));
  t.equal(find('folder'), join(other.directory, 'folder'));
  for (const name of ['', 'none', '../both', 'x/both', `both\0`]) t.equal(find(name), undefined, name);
});

t.test('as plugins: of CNI_PATH, with the changes in the environment', async (t) => {
  const { directory, put } = scripts(t);
  put('plugin', 'echo "$CNI_COMMAND $CNI_IFNAME $(cat)"');
  const executePlugin = executeFrom([directory], { PATH, CNI_COMMAND: 'ADD', CNI_IFNAME: 'eth0' });
  const ended = await executePlugin('plugin', { CNI_IFNAME: 'eth1' }, 'config');
  t.strictSame(ended, { status: 0, output: 'ADD eth1 config\n', errors: '' });
  const { status, output, errors } = await executePlugin('none', {}, '');
  t.strictSame([status, errors], [1, '']);
  t.match(JSON.parse(output), { code: 7, msg: `failed to find plugin "none" in path [${directory}]` });
});
