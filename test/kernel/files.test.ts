// Files that are whole or absent.

import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  ensureDirectory,
  isDirectory,
  linkIfFree,
  listDirectory,
  lockFile,
  readRegular,
  removeIfThere,
  statIfThere,
  writeWhole,
} from '../../kernel/files.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const root = temporaryDirectory(t);
const path = (...names: string[]): string => join(root, ...names);

t.test('a whole file: created, replaced, with its mode, nothing beside it', async (t) => {
  mkdirSync(path('whole'));
  writeWhole(path('whole/a'), 'one');
  t.equal(readFileSync(path('whole/a'), 'utf8'), 'one');
  t.equal(lstatSync(path('whole/a')).mode & 0o7777, 0o600);
  writeWhole(path('whole/a'), Buffer.from('two'), { mode: 0o640, sync: true, temporary: path('elsewhere') });
  t.equal(readFileSync(path('whole/a'), 'utf8'), 'two');
  t.equal(lstatSync(path('whole/a')).mode & 0o7777, 0o640);
  t.strictSame(readdirSync(path('whole')), ['a']);
  t.notOk(existsSync(path('elsewhere')));
});

t.test('a whole file: a symbolic link in its place is replaced, in the place of the temporary refused', async (t) => {
  writeFileSync(path('target'), 'untouched');
  symlinkSync('target', path('link'));
  writeWhole(path('link'), 'new');
  t.ok(lstatSync(path('link')).isFile());
  symlinkSync('target', path('temporary'));
  t.throws(() => writeWhole(path('b'), 'new', { temporary: path('temporary') }), { code: 'io', errno: 'EEXIST' });
  t.ok(existsSync(path('temporary')), "another's file is not removed");
  t.equal(readFileSync(path('target'), 'utf8'), 'untouched');
});

t.test('a whole file: failures leave nothing and name the path', async (t) => {
  t.throws(() => writeWhole(path('none/a'), 'x'), {
    code: 'io',
    errno: 'ENOENT',
    message: `write ${path('none/a')}: ENOENT`,
  });
  const long = path('x'.repeat(255));
  t.throws(
    () => writeWhole(long, 'x'),
    { errno: 'ENAMETOOLONG', message: `write ${long}: ENAMETOOLONG` },
    'nor that of removing the temporary file, which fails too',
  );
  mkdirSync(path('full/a/b'), { recursive: true });
  const inTheWay = { code: 'io', errno: 'EISDIR', subject: path('full/a'), message: `write ${path('full/a')}: EISDIR` };
  t.throws(() => writeWhole(path('full/a'), 'x'), inTheWay, 'not that of the temporary file');
  t.strictSame(readdirSync(path('full')), ['a']);
});

t.test('reading: regular files of a size only', async (t) => {
  writeFileSync(path('text'), 'text');
  symlinkSync('text', path('textlink'));
  t.equal(readRegular(path('text')), 'text');
  t.equal(readRegular(path('text'), { maxBytes: 3 }), undefined);
  t.equal(readRegular(path('textlink')), undefined);
  t.equal(readRegular(path('textlink'), { followLink: true }), 'text');
  t.equal(readRegular(path('nothing')), undefined);
  t.equal(readRegular(root), undefined);
  t.equal(readRegular('/dev/null'), undefined);
});

t.test('links and removal: the expected failures are answers', async (t) => {
  writeFileSync(path('source'), 'x');
  t.ok(linkIfFree(path('source'), path('name')));
  t.notOk(linkIfFree(path('source'), path('name')));
  t.throws(() => linkIfFree(path('nothing'), path('name2')), { code: 'io', errno: 'ENOENT' });
  t.equal(statIfThere(path('name'))?.nlink, 2);
  t.ok(removeIfThere(path('name')));
  t.notOk(removeIfThere(path('name')));
  t.equal(statIfThere(path('name')), undefined);
  t.strictSame(listDirectory(path('nothing')), []);
});

t.test('directories: created with those above; a link or a file in their place is refused', async (t) => {
  ensureDirectory(path('d/e/f'), 0o700);
  ensureDirectory(path('d/e/f'));
  t.ok(isDirectory(path('d/e/f')));
  t.notOk(isDirectory(path('d/e/g')));
  symlinkSync('d', path('dlink'));
  for (const name of ['dlink', 'text']) {
    t.throws(() => ensureDirectory(path(name)), { code: 'io', errno: 'ENOTDIR', subject: path(name) });
  }
});

// With mkdirSync's `recursive`, this call never came back: the file's time limit is the failure then.
t.test('directories below one that takes none: refused at once', async (t) => {
  t.throws(() => ensureDirectory('/proc/nothing/below'), { code: 'io', errno: 'ENOENT', subject: '/proc/nothing' });
  writeFileSync(path('plain'), '');
  t.throws(() => ensureDirectory(path('plain/below/it')), { code: 'io', errno: 'ENOTDIR' });
});

t.test('directories: made by way of a link that leads to one', async (t) => {
  mkdirSync(path('led-to'));
  symlinkSync('led-to', path('way'));
  ensureDirectory(path('way/deep/er'));
  t.ok(isDirectory(path('led-to/deep/er')));
});

t.test('a lock: one holder, a bounded wait, free again', async (t) => {
  const unlock = lockFile(path('lock'), 0);
  t.ok(unlock);
  t.equal(lockFile(path('lock'), 0), undefined);
  const before = performance.now();
  t.equal(lockFile(path('lock'), 40), undefined);
  t.ok(performance.now() - before >= 40);
  unlock?.();
  const again = lockFile(path('lock'), 0);
  t.ok(again);
  again?.();
  symlinkSync('lock', path('locklink'));
  t.throws(() => lockFile(path('locklink'), 0), { code: 'io', errno: 'ELOOP' });
});
