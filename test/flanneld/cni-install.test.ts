// What lies on a node for its container runtime: put in place whole, over whatever is there, and exactly that taken away.

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
import t, { type Test } from 'tap';
import { installCni, uninstallCni } from '../../flanneld/cni/install.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const NAMES = ['flannel', 'flannel-bandwidth', 'flannel-ipam', 'flannel-portmap'];
const LIST = '10-flannel.conflist';

function node(t: Test) {
  const root = temporaryDirectory(t);
  const client = join(root, 'client');
  writeFileSync(client, 'the client\0');
  const [executables, configuration] = [join(root, 'opt/cni/bin'), join(root, 'etc/cni/net.d')];
  return { client, executables, configuration };
}

t.test('one file under all its names, executable by everybody, and the mark; again, the same', async (t) => {
  const places = node(t);
  for (const graceSeconds of [60, 5]) {
    const put = installCni({ ...places, graceSeconds });
    t.strictSame(readdirSync(places.executables).sort(), NAMES);
    const [first, ...others] = NAMES.map((name) => statSync(join(places.executables, name)));
    t.equal((first?.mode ?? 0) & 0o777, 0o755 & ~process.umask());
    for (const other of others) t.equal(other.ino, first?.ino);
    t.equal(readFileSync(join(places.executables, 'flannel'), 'utf8'), 'the client\0');
    t.strictSame(readdirSync(places.configuration), ['.flannel-agent']);
    t.equal(readFileSync(join(places.configuration, '.flannel-agent'), 'utf8'), `${graceSeconds}\n`);
    t.equal(put.length, NAMES.length + 1);
  }
});

t.test('what another network has put there is replaced, not written into', async (t) => {
  const places = node(t);
  mkdirSync(places.executables, { recursive: true });
  const theirs = join(places.executables, '..', 'theirs');
  writeFileSync(theirs, 'their program');
  symlinkSync('../theirs', join(places.executables, 'flannel'));
  symlinkSync('../theirs', join(places.executables, 'flannel-portmap'));
  writeFileSync(join(places.executables, 'portmap'), 'another');
  installCni({ ...places, graceSeconds: 60 });
  t.equal(readFileSync(theirs, 'utf8'), 'their program');
  t.strictSame(readdirSync(places.executables).sort(), [...NAMES, 'portmap']);
});

t.test('taken away: what is as it was put, the list if it is the same', async (t) => {
  const places = node(t);
  installCni({ ...places, graceSeconds: 60 });
  const list = join(places.configuration, LIST);
  writeFileSync(list, 'the list');
  writeFileSync(join(places.executables, 'portmap'), 'another');
  rmSync(join(places.executables, 'flannel'));
  writeFileSync(join(places.executables, 'flannel'), 'flannel of others');
  t.equal(uninstallCni(places, 'another list').length, 4);
  t.strictSame(readdirSync(places.executables).sort(), ['flannel', 'portmap']);
  t.ok(existsSync(list));
  t.strictSame(uninstallCni(places, undefined), [], 'again, there is nothing to do');
  t.strictSame(uninstallCni(places, 'the list'), [list]);
  t.strictSame(readdirSync(places.configuration), []);
});

t.test('a client that is not there is named', async (t) => {
  const places = { ...node(t), client: '/nonexistent/flannel' };
  t.throws(() => installCni({ ...places, graceSeconds: 60 }), { code: 'file-unreadable', subject: places.client });
  t.throws(() => uninstallCni(places, undefined), { code: 'file-unreadable' });
  t.notOk(existsSync(places.executables), 'and nothing is put');
});
