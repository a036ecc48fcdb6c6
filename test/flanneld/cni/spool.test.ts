// Deletions from the time without an agent: their order, and what becomes of those that fail or can't be read.

import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { failure, success } from '../../../cni-plugin/answer.ts';
import { encode, type RequestMessage } from '../../../cni-plugin/wire.ts';
import { addToSpool, drainSpool, type SpoolCounts } from '../../../flanneld/cni/spool.ts';
import { NetError } from '../../../model/errors.ts';
import { testLog } from '../fixtures/host.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const NOW = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

const entry = (id: string, at = NOW, command = 'DEL'): RequestMessage => ({
  kind: 'request',
  name: 'flannel',
  environment: { CNI_COMMAND: command, CNI_CONTAINERID: id },
  input: '{}',
  spooled: { bootId: 'boot1', at },
});

function spool(t: Test) {
  const root = temporaryDirectory(t);
  const directory = join(root, '.spool');
  mkdirSync(directory, { mode: 0o700 });
  const done: string[] = [];
  const failing = new Set<string>();
  const log = testLog();
  const idOf = ({ environment }: RequestMessage): string => environment.CNI_CONTAINERID ?? '';
  return {
    root,
    directory,
    done,
    failing,
    log,
    put: (name: string, content: Uint8Array) => writeFileSync(join(directory, name), content),
    drain: (now = NOW): Promise<SpoolCounts> =>
      drainSpool({
        directory,
        log,
        now: () => now,
        async perform(message) {
          done.push(idOf(message));
          return failing.has(idOf(message)) ? failure(new NetError('busy', 'not now')) : success();
        },
      }),
  };
}

t.test('all of them, in the order of their names', async (t) => {
  const { directory, put, drain, done } = spool(t);
  const ids = Array.from({ length: 200 }, (_, n) => `pod${n}`);
  for (const [n, id] of [...ids.entries()].reverse()) put(`00000${1000 + n}.000000000-1`, encode(entry(id)));
  t.strictSame(await drain(), { done: 200, waiting: 0, aside: 0 });
  t.strictSame(done, ids);
  t.strictSame(readdirSync(directory), []);
  t.strictSame(await drain(), { done: 0, waiting: 0, aside: 0 });
});

t.test('without a spool there is nothing to do', async (t) => {
  const { directory, drain } = spool(t);
  rmSync(directory, { recursive: true });
  t.strictSame(await drain(), { done: 0, waiting: 0, aside: 0 });
});

t.test('what fails is tried again, for an hour', async (t) => {
  const { root, put, drain, done, failing, log } = spool(t);
  failing.add('pod1');
  put('1', encode(entry('pod1')));
  put('2', encode(entry('pod2')));
  t.strictSame(await drain(NOW + 1000), { done: 1, waiting: 1, aside: 0 });
  t.strictSame(await drain(NOW + HOUR - 1), { done: 0, waiting: 1, aside: 0 });
  failing.clear();
  put('3', encode(entry('pod3')));
  t.strictSame(await drain(NOW + HOUR + 1), { done: 2, waiting: 0, aside: 0 });
  t.strictSame(done, ['pod1', 'pod2', 'pod1', 'pod1', 'pod3']);
  failing.add('pod4');
  put('4', encode(entry('pod4')));
  t.strictSame(await drain(NOW + HOUR), { done: 0, waiting: 0, aside: 1 });
  t.ok(existsSync(join(root, '.spool.aside/4')));
  t.match(log.lines.at(-1), /put aside: it has failed for an hour/);
});

t.test('what is no deletion is put aside, and said', async (t) => {
  const { root, put, drain, done, log, directory } = spool(t);
  const good = encode(entry('pod9'));
  put('1', Buffer.alloc(0));
  put('2', Buffer.from('not a message'));
  put('3', good.subarray(0, -1));
  put('4', Buffer.concat([good, good]));
  put('5', encode({ ...entry('pod1'), spooled: undefined }));
  put('6', encode(entry('pod1', NOW, 'ADD')));
  put('7', encode({ kind: 'result', status: 0, output: '', errors: '' }));
  symlinkSync('/etc/hostname', join(directory, '8'));
  put('9', good);
  t.strictSame(await drain(), { done: 1, waiting: 0, aside: 8 });
  t.strictSame(done, ['pod9']);
  t.strictSame(readdirSync(directory), []);
  t.strictSame(readdirSync(join(root, '.spool.aside')), ['1', '2', '3', '4', '5', '6', '7', '8']);
  t.equal(log.lines.length, 8);
});

t.test('what a killed client was writing is left until it must be rubbish', async (t) => {
  const { put, drain, directory } = spool(t);
  put('.1-2', Buffer.alloc(3));
  utimesSync(join(directory, '.1-2'), NOW / 1000, NOW / 1000);
  await drain(NOW + 60_000);
  t.strictSame(readdirSync(directory), ['.1-2']);
  await drain(NOW + HOUR);
  t.strictSame(readdirSync(directory), []);
});

t.test('a directory that others can write to, or a link, is not followed', async (t) => {
  const { root, directory, put, drain, done } = spool(t);
  put('1', encode(entry('pod1')));
  chmodSync(directory, 0o722);
  await t.rejects(drain(), { code: 'io', message: /can be written by others/ });
  rmSync(directory, { recursive: true });
  mkdirSync(join(root, 'elsewhere'), { mode: 0o700 });
  writeFileSync(join(root, 'elsewhere/1'), encode(entry('pod1')));
  symlinkSync('elsewhere', directory);
  await t.rejects(drain(), { code: 'io', message: /is a symbolic link/ });
  t.strictSame(done, []);
});

t.test('the agent’s own entries', async (t) => {
  const { directory, drain, done } = spool(t);
  addToSpool(directory, entry('pod2'), NOW + 5);
  addToSpool(directory, entry('pod1'), NOW);
  t.match(readdirSync(directory), [/^1767225600\.000000000-/, /^1767225600\.005000000-/]);
  await drain();
  t.strictSame(done, ['pod1', 'pod2']);
});
