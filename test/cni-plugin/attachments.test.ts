// Records and locks on a real directory, hostile ones included.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type Attachment, attachmentsIn } from '../../cni-plugin/attachments.ts';
import { ip, mac, prefix } from '../../model/ip.ts';
import { seed } from '../support/seed.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const KEY = { network: 'cbr0', containerId: 'pod1', ifname: 'eth0' };
const RECORD: Attachment = {
  ...KEY,
  plugin: 'flannel',
  bootId: 'b1',
  created: 1_700_000_000_000,
  netns: { path: '/run/netns/pod1', id: '4:5' },
  bridge: 'cni0',
  link: { name: 'veth1', mac: mac('02:00:00:00:00:01') },
  addressDir: '/var/lib/cni/networks',
  addresses: [ip('10.5.1.2'), ip('fd00::2')],
  routes: [{ dst: prefix('0.0.0.0/0'), gw: ip('10.5.1.1'), table: 0 }],
};

function fresh(t: Test) {
  const directory = temporaryDirectory(t);
  const records = join(directory, 'flannel');
  return { records, files: attachmentsIn(records, 50), path: join(records, 'cbr0', 'pod1:eth0.json') };
}

const everything = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();

t.test('written, read, listed, removed', async (t) => {
  const { records, files, path } = fresh(t);
  t.equal(files.read(KEY), undefined);
  t.strictSame(files.list('cbr0'), []);
  files.write(RECORD);
  t.equal(statSync(path).mode & 0o7777, 0o600);
  for (const directory of [records, join(records, 'cbr0')])
    t.equal(statSync(directory).mode & 0o7777, 0o700, directory);
  t.strictSame(JSON.parse(JSON.stringify(files.read(KEY))), JSON.parse(JSON.stringify(RECORD)));
  t.strictSame(files.list('cbr0'), [KEY]);
  files.write({ ...RECORD, addresses: [] });
  t.strictSame(files.read(KEY)?.addresses, [], 'replaced');
  files.remove(KEY);
  files.remove(KEY);
  t.equal(files.read(KEY), undefined);
  t.strictSame(everything(records), ['.tmp', 'cbr0'], 'nothing is left');
});

t.test('a damaged record is none', async (t) => {
  const { files, path } = fresh(t);
  files.write(RECORD);
  const whole = readFileSync(path, 'utf8');
  const texts = [
    '',
    '{',
    'null',
    '[]',
    whole.slice(0, -9),
    whole.replace('10.5.1.2', 'x'),
    whole.replace('"pod1"', '"pod2"'),
    '['.repeat(9999),
  ];
  for (const text of texts) {
    writeFileSync(path, text);
    t.equal(files.read(KEY), undefined, text.slice(0, 20));
  }
});

t.test('whatever the file holds, reading it is no error', async (t) => {
  const { files, path } = fresh(t);
  files.write(RECORD);
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), (text) => {
      writeFileSync(path, text);
      return files.read(KEY) === undefined;
    }),
    { seed, numRuns: 300 },
  );
});

t.test('symbolic links are refused or not followed', async (t) => {
  const { records, files, path } = fresh(t);
  files.write(RECORD);
  const elsewhere = join(records, '..', 'elsewhere');
  mkdirSync(elsewhere);
  writeFileSync(join(elsewhere, 'record'), readFileSync(path));
  rmSync(path);
  symlinkSync(join(elsewhere, 'record'), path);
  t.equal(files.read(KEY), undefined, 'a record');
  files.write({ ...RECORD, bootId: 'new' });
  t.ok(readFileSync(join(elsewhere, 'record'), 'utf8').includes('"b1"'), 'what it points to is untouched');
  t.equal(files.read(KEY)?.bootId, 'new', 'it was replaced');

  symlinkSync(join(elsewhere, 'lock'), join(records, 'cbr0', 'pod1:eth0.lock'));
  await t.rejects(files.lock(KEY), { code: 'io', errno: 'ELOOP' }, 'a lock');
  t.notOk(existsSync(join(elsewhere, 'lock')));

  rmSync(join(records, 'cbr0'), { recursive: true });
  symlinkSync(elsewhere, join(records, 'cbr0'));
  const next = attachmentsIn(records, 1000);
  await t.rejects(next.lock(KEY), { code: 'io', message: /is a symbolic link/ }, "a network's directory");
  t.throws(() => next.write(RECORD), { code: 'io' });
  t.strictSame(readdirSync(elsewhere), ['record']);
});

t.test('names that make no file', async (t) => {
  const { files } = fresh(t);
  const long = { ...KEY, containerId: 'x'.repeat(246) };
  await t.rejects(files.lock(long), {
    code: 'invalid-environment',
    message: /container id and interface name too long/,
  });
  t.throws(() => files.read({ ...KEY, network: 'n'.repeat(256) }), { message: /network name too long/ });
  const longest = { ...KEY, containerId: 'x'.repeat(245) };
  files.write({ ...RECORD, ...longest });
  t.strictSame(files.list('cbr0'), [longest]);
  t.strictSame(files.read(longest)?.containerId, longest.containerId);
});

t.test('one at a time', async (t) => {
  const { records, files } = fresh(t);
  const unlock = await files.lock(KEY);
  t.equal(await files.tryLock(KEY), undefined);
  await t.rejects(files.lock(KEY), {
    code: 'busy',
    message: 'another operation on eth0 of pod1 takes longer than 50 ms',
  });
  const other = await files.lock({ ...KEY, ifname: 'eth1' });
  other();
  unlock();
  t.strictSame(everything(join(records, 'cbr0')), [], 'locks leave no files');

  let inside = 0;
  let most = 0;
  const patient = attachmentsIn(records, 20_000);
  const work = async () => {
    const release = await patient.lock(KEY);
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 1));
    inside--;
    release();
  };
  await Promise.all(Array.from({ length: 30 }, work));
  t.equal(most, 1);
  t.strictSame(everything(join(records, 'cbr0')), []);
});

t.test('a killed process holds no lock', async (t) => {
  const { records, files } = fresh(t);
  const module = join(import.meta.dirname, '../../cni-plugin/attachments.ts');
  const script = `
    import { attachmentsIn } from ${JSON.stringify(module)};
    const files = attachmentsIn(${JSON.stringify(records)}, 1000);
    await files.lock(${JSON.stringify(KEY)});
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  t.equal(await files.tryLock(KEY), undefined, 'held by another process');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const unlock = await files.lock(KEY);
  unlock();
  t.strictSame(everything(join(records, 'cbr0')), []);
});
