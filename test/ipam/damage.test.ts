// Directories that are not as we left them: links, leftovers of killed processes, empty files, hostile names.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { STALE_MS, Store } from '../../ipam/store.ts';
import { release, reservations, reserve } from '../../ipam/verbs.ts';
import { lockFile } from '../../kernel/files.ts';
import type { Ip } from '../../model/ip.ts';
import { addressesOf, fresh, OTHER, OWNER, put, SMALL } from '../support/ipam-directory.ts';

t.test('names that would leave the directory create nothing', async (t) => {
  const config = fresh(t);
  for (const network of ['..', '.', '', '../x', 'a/b', '.flannel-tmp', 'a\0b', 'x'.repeat(256)]) {
    for (const verb of [
      () => reserve({ ...config, network }, OWNER),
      () => release({ ...config, network }, OWNER),
      () => reservations({ ...config, network }),
    ]) {
      t.throws(verb, { code: 'invalid-config' }, network);
    }
  }
  for (const containerId of ['', '..', '../../x', 'a/b', 'a:b', '~a', 'a\r\nb', 'x'.repeat(300)]) {
    t.throws(() => reserve(config, { ...OWNER, containerId }), { code: 'invalid-environment' }, containerId);
    t.throws(() => release(config, { ...OWNER, containerId }), { code: 'invalid-environment' }, containerId);
  }
  for (const ifname of ['', '.', '..', 'a/b', 'a:b', 'a b', 'a\0b', 'x'.repeat(16)]) {
    t.throws(() => reserve(config, { ...OWNER, ifname }), { code: 'invalid-environment' }, ifname);
  }
  t.strictSame(readdirSync(config.dataDir, { recursive: true }).sort(), [
    '.flannel-tmp',
    '.flannel-tmp/mynet',
    'mynet',
  ]);
});

t.test('symbolic links in place of our directories: refused, nothing written behind them', async (t) => {
  for (const path of ['mynet', '.flannel-tmp', '.flannel-tmp/mynet']) {
    const config = fresh(t);
    const elsewhere = join(config.dataDir, 'elsewhere');
    mkdirSync(join(elsewhere, 'mynet'), { recursive: true });
    writeFileSync(join(elsewhere, '10.1.2.2'), 'dummy\r\neth0');
    if (path.includes('/')) mkdirSync(join(config.dataDir, '.flannel-tmp'));
    symlinkSync(elsewhere, join(config.dataDir, path));
    t.throws(() => reserve(config, OWNER), { code: 'io', errno: 'ENOTDIR', subject: join(config.dataDir, path) });
    t.throws(() => release(config, OWNER), { code: 'io', errno: 'ENOTDIR' });
    t.strictSame(readdirSync(elsewhere, { recursive: true }).sort(), ['10.1.2.2', 'mynet']);
  }
});

t.test('symbolic links, pipes and directories in place of files are not followed, read or removed', async (t) => {
  const config = fresh(t, [[{ subnet: '10.1.2.0/29' }]]);
  const target = join(config.dataDir, 'target');
  put(config.directory, {});
  writeFileSync(target, '10.1.2.4');
  symlinkSync(target, join(config.directory, 'last_reserved_ip.0'));
  symlinkSync(join(config.dataDir, 'dangling'), join(config.directory, '10.1.2.2'));
  spawnSync('mkfifo', [join(config.directory, '10.1.2.3')]);
  mkdirSync(join(config.directory, '10.1.2.4'));
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.5/29']);
  t.equal(readFileSync(target, 'utf8'), '10.1.2.4');
  t.notOk(existsSync(join(config.dataDir, 'dangling')));
  t.equal(readFileSync(join(config.directory, 'last_reserved_ip.0'), 'utf8'), '10.1.2.5');
  t.strictSame(release(config, OWNER, ['10.1.2.2', '10.1.2.3', '10.1.2.4'] as Ip[]), ['10.1.2.5']);
  t.strictSame(readdirSync(config.directory).sort(), ['10.1.2.2', '10.1.2.3', '10.1.2.4', 'last_reserved_ip.0']);
  const nobody = { owner: undefined };
  t.strictSame(
    reservations(config).sort((a, b) => (a.ip < b.ip ? -1 : 1)),
    [
      { ip: '10.1.2.2', ...nobody },
      { ip: '10.1.2.3', ...nobody },
      { ip: '10.1.2.4', ...nobody },
    ],
  );
});

t.test('what a killed process left of its owner blocks nothing and goes with its DEL', async (t) => {
  const config = fresh(t);
  const left = ['dummy:eth0', '~0123456789ab~dummy:eth0', '~0123456789ab~dummy:eth01', '~ba9876543210~other:eth0'];
  put(config.own, Object.fromEntries(left.map((name) => [name, 'dum'])));
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.2/24']);
  t.equal(readFileSync(join(config.directory, '10.1.2.2'), 'utf8'), 'dummy\r\neth0');
  release(config, OWNER);
  t.strictSame(readdirSync(config.own), ['~0123456789ab~dummy:eth01', '~ba9876543210~other:eth0']);
});

t.test('leftovers of owners that never come back go by age; files that lead to a reservation stay', async (t) => {
  const config = fresh(t);
  reserve(config, OTHER);
  put(config.own, { 'dummy:eth0': '', '~0123456789ab~dummy:eth0': '' });
  const store = new Store(config);
  store.sweep(Date.now());
  t.equal(readdirSync(config.own).length, 3, 'young ones may be in use');
  store.sweep(Date.now() + STALE_MS + 1000);
  t.strictSame(readdirSync(config.own), ['other:eth0']);
});

t.test('another name for our file, from a backup by hard links, is no duplicate', async (t) => {
  const config = fresh(t);
  reserve(config, OWNER);
  linkSync(join(config.directory, '10.1.2.2'), join(config.dataDir, 'backup'));
  rmSync(join(config.directory, '10.1.2.2'));
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.3/24']);
});

t.test('an empty file is freed when nothing else is left, but only under the lock of host-local', async (t) => {
  const config = fresh(t, SMALL);
  put(config.directory, { '10.1.2.2': '' });
  const unlock = lockFile(join(config.directory, 'lock'), 0);
  t.throws(() => reserve(config, OWNER), { code: 'busy', transient: true });
  t.equal(readFileSync(join(config.directory, '10.1.2.2'), 'utf8'), '');
  unlock?.();
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.2/30']);
  t.throws(() => reserve(config, OTHER), { code: 'no-addresses' });
});

t.test('DEL frees empty files when the lock is free, and does not wait for it', async (t) => {
  const config = fresh(t);
  put(config.directory, { '10.1.2.2': '' });
  const unlock = lockFile(join(config.directory, 'lock'), 0);
  const before = performance.now();
  t.strictSame(release(config, OWNER), []);
  t.ok(performance.now() - before < 100);
  t.ok(existsSync(join(config.directory, '10.1.2.2')));
  unlock?.();
  t.strictSame(release(config, OWNER), []);
  t.notOk(existsSync(join(config.directory, '10.1.2.2')));
});
