// GC and STATUS on a machine in memory.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { vethOf } from '../support/cni-host-checks.ts';
import { machine } from './fake-machine.ts';

const valid = (...ids: string[]) => ({
  'cni.dev/valid-attachments': ids.map((containerID) => ({ containerID, ifname: 'eth0' })),
});

t.test('GC removes what is not in the list', async (t) => {
  const { run, files, dump } = machine(t);
  const [one] = [await run('ADD'), await run('ADD', { containerId: 'pod2' })];
  const full = files();

  t.strictSame(await run('GC'), { status: 0 }, 'no list: no information');
  t.strictSame(files(), full);
  t.strictSame(await run('GC', { config: valid('pod1', 'pod2') }), { status: 0 });
  t.strictSame(files(), full, 'all valid');
  t.strictSame(await run('GC', { config: valid('pod1') }), { status: 0 });
  t.notOk(
    files().some((name) => name.includes('pod2')),
    'the other is gone',
  );
  t.strictSame(await run('CHECK', { config: { prevResult: one } }), { status: 0 }, 'and the valid one untouched');
  t.strictSame(await run('GC', { config: valid() }), { status: 0 }, 'an empty list: nothing is valid');
  t.strictSame(files(), []);
  t.notMatch(dump(), /veth/);
});

t.test('GC frees reservations that nobody recorded', async (t) => {
  const { run, files, directory } = machine(t);
  await run('ADD');
  const store = join(directory, 'networks/cbr0');
  writeFileSync(join(store, '10.5.1.77'), 'gone\r\neth0');
  writeFileSync(join(store, '10.5.1.78'), 'old-form');
  writeFileSync(join(store, '10.5.1.79'), 'pod1');
  await run('GC', { config: valid('pod1', 'old-form') });
  t.notOk(files().includes('10.5.1.77'));
  t.ok(files().includes('10.5.1.78') && files().includes('10.5.1.79'), 'the old form is valid with its container');
  await run('GC', { config: valid('pod1') });
  t.notOk(files().includes('10.5.1.78'));
});

t.test('GC goes on after a failure and reports it', async (t) => {
  const { run, kernel, files } = machine(t);
  await run('ADD');
  await run('ADD', { containerId: 'pod2' });
  kernel.failNext(/^ip link delete/, 'EBUSY');
  const answer = await run('GC', { config: valid() });
  t.match(answer, { status: 1, msg: /GC of network cbr0: 1 could not be removed: .*EBUSY/ });
  t.equal(files().filter((name) => name.endsWith('.json')).length, 1, 'one is left');
  t.strictSame(await run('GC', { config: valid() }), { status: 0 });
  t.strictSame(files(), []);
});

t.test('GC of 100 stale attachments takes them away together', async (t) => {
  const { run, kernel, files, dependencies } = machine(t);
  const ids = Array.from({ length: 100 }, (_, n) => `stale${n}`);
  for (const id of ids) {
    kernel.addNamespace(`/run/netns/${id}`);
    t.equal((await run('ADD', { containerId: id })).status, 0);
  }
  const { removeLink } = dependencies;
  let [running, most] = [0, 0];
  let broken = true;
  Object.assign(dependencies, {
    async removeLink(link: Parameters<typeof removeLink>[0]) {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      if (broken && /[0-3]$/.test(link.name)) throw new NetError('kernel', `delete ${link.name}`, { errno: 'EBUSY' });
      return removeLink(link);
    },
  });
  const doomed = ids.filter((id) => /[0-3]$/.test(vethOf(id))).length;
  t.match(await run('GC', { config: valid() }), {
    status: 1,
    msg: new RegExp(
      `^GC of network cbr0: ${doomed} could not be removed: (delete veth\\S+; ){5}and ${doomed - 5} more$`,
    ),
  });
  t.equal(files().filter((name) => name.endsWith('.json')).length, doomed, 'all others are gone');
  t.ok(most > 30 && most <= 64, `${most} at once`);
  broken = false;
  t.strictSame(await run('GC', { config: valid() }), { status: 0 });
  t.strictSame(files(), []);
});

t.test('a bad list is refused', async (t) => {
  const { run, files } = machine(t);
  await run('ADD');
  const before = files();
  const answer = await run('GC', { config: { 'cni.dev/valid-attachments': [{ containerID: 7 }] } });
  t.match(answer, { code: 7, msg: /cni\.dev\/valid-attachments\[0\]/ });
  t.strictSame(files(), before);
});

t.test('STATUS', async (t) => {
  const { run, subnetFile, kernel } = machine(t);
  t.strictSame(await run('STATUS'), { status: 0 });
  t.strictSame(
    await run('STATUS', { plugin: 'flannel-ipam', config: { ipam: { ranges: [[{ subnet: '10.9.0.0/24' }]] } } }),
    { status: 0 },
  );
  kernel.apply(kernel.host, [
    { verb: 'add', item: { type: 'link', value: { name: 'cni0', kind: 'vxlan', vxlan: { vni: 9, port: 8472 } } } },
  ]);
  t.match(await run('STATUS'), { code: 50, msg: /"cni0" already exists but is not a bridge/ });
  rmSync(subnetFile);
  t.match(await run('STATUS'), { code: 50, msg: `${subnetFile} is not there: the agent has not written it yet` });
  writeFileSync(subnetFile, 'FLANNEL_MTU=1\n');
  t.match(await run('STATUS'), { code: 7, msg: /missing FLANNEL_NETWORK/ });
});
