// The etcd leases that the next process of a node knows its own key by.

import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { grantsPath, openGrants } from '../../../flanneld/subnet/grants.ts';

t.test('the last few, for the same boot', async (t) => {
  const path = grantsPath(`${t.testdir({})}/run/flannel/subnet.env`);
  t.match(path, /\/run\/flannel\/subnet\.grants$/);
  const grants = openGrants(path, 'boot1');
  t.notOk(grants.has('1'));
  for (const grant of ['1', '2', '3', '4', '5', '5']) grants.add(grant);
  t.equal(readFileSync(path, 'utf8'), 'boot1\n2\n3\n4\n5\n');
  t.equal(statSync(path).mode & 0o777, 0o600);
  const next = openGrants(path, 'boot1');
  t.strictSame(
    ['1', '2', '5', 'boot1'].map((grant) => next.has(grant)),
    [false, true, true, false],
  );
  t.notOk(openGrants(path, 'boot2').has('5'));
});

t.test('a file that cannot be read or written costs nothing but time', async (t) => {
  const path = `${t.testdir({})}/subnet.grants`;
  writeFileSync(path, '');
  t.notOk(openGrants(path, 'boot1').has(''));
  rmSync(path);
  mkdirSync(path);
  const grants = openGrants(path, 'boot1');
  grants.add('1');
  t.ok(grants.has('1'));
});
