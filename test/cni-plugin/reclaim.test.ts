// Attachments that ended without their DEL, on a machine in memory.

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Attachment, attachmentsIn } from '../../cni-plugin/attachments.ts';
import { hostVethName } from '../../cni-plugin/names.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import { type Dependencies, perform } from '../../cni-plugin/verbs.ts';
import { createFakeKernel } from '../../kernel/fake.ts';
import { dependenciesOn } from './fake-machine.ts';
import { requestWith } from './requests.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const keyOf = (containerId: string) => ({ network: 'cbr0', containerId, ifname: 'eth0' });

function machine(t: Test) {
  const directory = temporaryDirectory(t);
  const kernel = createFakeKernel();
  const records = join(directory, 'flannel');
  const config = {
    dataDir: records,
    bridge: 'cni0',
    isDefaultGateway: true,
    ipam: { dataDir: join(directory, 'networks'), subnet: '10.5.1.0/24' },
  };
  const dependencies = dependenciesOn(kernel);
  const files = attachmentsIn(records, 50);
  return {
    directory,
    records,
    base: config,
    kernel,
    dependencies,
    files,
    async add(containerId: string, plugin: 'flannel' | 'flannel-ipam' = 'flannel') {
      kernel.addNamespace(`/run/netns/${containerId}`);
      const request = requestWith(config, { containerId, netns: `/run/netns/${containerId}` });
      const { status, output } = await perform(plugin, request, dependencies);
      t.equal(status, 0, output);
    },
    change(containerId: string, changes: Partial<Attachment>) {
      files.write({ ...(files.read(keyOf(containerId)) as Attachment), ...changes });
    },
    deleteLink(containerId: string) {
      const value = { name: hostVethName(keyOf(containerId), 0), kind: 'veth' };
      t.strictSame(kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value } }]), []);
    },
    run: (more: Partial<Dependencies> = {}) => reclaim(records, { ...dependencies, ...more }),
    addresses: () =>
      readdirSync(join(directory, 'networks/cbr0'))
        .filter((name) => name.startsWith('10.'))
        .sort(),
    recorded: () =>
      files
        .list('cbr0')
        .map(({ containerId }) => containerId)
        .sort(),
  };
}

t.test('the living stay', async (t) => {
  const { add, run, addresses, recorded } = machine(t);
  await add('pod1');
  await add('pod2', 'flannel-ipam');
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  t.strictSame(addresses(), ['10.5.1.2', '10.5.1.3']);
  t.strictSame(recorded(), ['pod1', 'pod2']);
});

t.test('the dead go, with their reason', async (t) => {
  const { add, run, addresses, recorded, change, deleteLink, kernel, files } = machine(t);
  for (const id of ['alive', 'gone', 'broken', 'reboot']) await add(id);
  await add('ipam', 'flannel-ipam');
  deleteLink('gone');
  change('broken', { unfinished: true });
  change('reboot', { bootId: 'boot0' });
  change('ipam', { bootId: 'boot0' });
  const { removed, problems } = await run();
  t.strictSame(problems, []);
  t.strictSame(removed.toSorted(), [
    'eth0 of broken in network cbr0: its ADD was broken off',
    'eth0 of gone in network cbr0: its interface is gone',
    'eth0 of ipam in network cbr0: it was made before the last boot',
    'eth0 of reboot in network cbr0: it was made before the last boot',
  ]);
  t.strictSame(addresses(), ['10.5.1.2']);
  t.strictSame(recorded(), ['alive']);
  t.equal(kernel.dump(kernel.host).match(/type veth/g)?.length, 1);
  t.strictSame(kernel.forgotten.map(({ end }) => end).sort(), ['10.5.1.3', '10.5.1.4'], 'flows of this boot');
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  t.strictSame(files.networks(), ['cbr0']);
});

t.test('a reservation that somebody removed is put back, unless another has it', async (t) => {
  const { add, run, addresses, recorded, directory, deleteLink, change } = machine(t);
  for (const id of ['pod1', 'pod2']) await add(id);
  await add('ipam', 'flannel-ipam');
  rmSync(join(directory, 'networks'), { recursive: true });
  t.strictSame(await run(), {
    removed: [],
    restored: [
      'eth0 of pod1 in network cbr0: reservation of 10.5.1.2',
      'eth0 of pod2 in network cbr0: reservation of 10.5.1.3',
    ],
    problems: [],
  });
  t.strictSame(addresses(), ['10.5.1.2', '10.5.1.3'], 'of those whose device shows that they are in use');
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  await add('pod3');
  t.strictSame(addresses(), ['10.5.1.2', '10.5.1.3', '10.5.1.4'], 'nobody else gets them');
  writeFileSync(join(directory, 'networks/cbr0/10.5.1.3'), 'other\r\neth0');
  t.match(await run(), {
    restored: [],
    problems: ['eth0 of pod2 in network cbr0: 10.5.1.3 of pod2 is reserved for another: delete one of the two pods'],
  });
  rmSync(join(directory, 'networks/cbr0/10.5.1.2'));
  change('pod1', { host: '4:4711' });
  t.match(await run(), { restored: [] }, 'not for another host');
  for (const id of ['pod2', 'pod3']) deleteLink(id);
  t.match(await run(), { removed: [/pod2/, /pod3/] });
  t.strictSame(addresses(), ['10.5.1.3'], 'another’s stays');
  t.strictSame(recorded(), ['ipam', 'pod1']);
});

t.test('never because a namespace can’t be seen, or is another host’s', async (t) => {
  const { add, run, recorded, change, deleteLink, kernel } = machine(t);
  await add('pod1');
  await add('pod2');
  const held = kernel.openNamespace('/run/netns/pod1');
  kernel.removeNamespace('/run/netns/pod1');
  change('pod1', { netns: { path: '/gone' } });
  change('pod2', { host: '4:4711' });
  deleteLink('pod2');
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  t.strictSame(recorded(), ['pod1', 'pod2']);
  change('pod2', { host: '4:4711', bootId: 'boot0' });
  t.match(await run(), { removed: [/pod2.*before the last boot/] });
  held.close();
  t.match(await run(), { removed: [/pod1.*interface is gone/] }, 'the device dies with the namespace');
});

t.test('a device that was renamed is alive', async (t) => {
  const { add, run, recorded, change, files } = machine(t);
  await add('pod1');
  const link = files.read(keyOf('pod1'))?.link;
  t.ok(link);
  if (link !== undefined) change('pod1', { link: { ...link, name: 'veth00000000' } });
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  t.strictSame(recorded(), ['pod1']);
});

t.test('a verb at work is left alone', async (t) => {
  const { add, run, recorded, change, files } = machine(t);
  await add('pod1');
  change('pod1', { unfinished: true });
  const unlock = await files.lock(keyOf('pod1'));
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  t.strictSame(recorded(), ['pod1']);
  unlock();
  t.match(await run(), { removed: [/broken off/] });
});

t.test('a damaged record: gone with its device, not before', async (t) => {
  const { add, run, records, recorded, deleteLink } = machine(t);
  await add('pod1');
  writeFileSync(join(records, 'cbr0/pod1:eth0.json'), '');
  t.strictSame(await run(), { removed: [], restored: [], problems: [] });
  deleteLink('pod1');
  t.match(await run(), { removed: ['eth0 of pod1 in network cbr0: its record is damaged and its interface gone'] });
  t.strictSame(recorded(), []);
});

t.test('files and directories of others', async (t) => {
  const { add, run, records } = machine(t);
  await add('pod1');
  writeFileSync(join(records, 'f0e1d2'), '{"a":1}');
  mkdirSync(join(records, '.hidden'));
  writeFileSync(join(records, '.hidden/pod1:eth0.json'), '');
  mkdirSync(join(records, 'other'));
  writeFileSync(join(records, 'other/notes.txt'), '');
  symlinkSync('cbr0', join(records, 'link'));
  t.strictSame(await run({ bootId: 'boot2' }), {
    removed: ['eth0 of pod1 in network cbr0: it was made before the last boot'],
    restored: [],
    problems: [],
  });
  for (const path of ['f0e1d2', '.hidden/pod1:eth0.json', 'other/notes.txt', 'link']) {
    t.ok(existsSync(join(records, path)), path);
  }
});

t.test('one that can’t be taken away is said, and does not stop the others', async (t) => {
  const { add, run, recorded, change } = machine(t);
  for (const id of ['pod1', 'pod2']) {
    await add(id);
    change(id, { unfinished: true });
  }
  const broken = hostVethName(keyOf('pod1'), 0);
  const first = await run({
    removeLink: async ({ name }) => {
      if (name === broken) throw new Error('the kernel is busy');
      return true;
    },
  });
  t.match(first, { removed: [/pod2/], restored: [], problems: ['eth0 of pod1 in network cbr0: the kernel is busy'] });
  t.strictSame(recorded(), ['pod1']);
  t.match(await run(), { removed: [/pod1/], restored: [], problems: [] });
});

t.test('an ADD that failed and could not be undone', async (t) => {
  const { run, recorded, addresses, kernel, base, dependencies } = machine(t);
  kernel.addNamespace('/run/netns/pod1');
  kernel.failNext(/route (add|replace) 0\.0\.0\.0/, 'EPERM');
  const request = requestWith(base, { containerId: 'pod1', netns: '/run/netns/pod1' });
  const removeLink = () => Promise.reject(new Error('the kernel is busy'));
  const { status, output } = await perform('flannel', request, { ...dependencies, removeLink });
  t.equal(status, 1);
  t.match(JSON.parse(output), { msg: /EPERM/ });
  t.strictSame([recorded(), addresses()], [['pod1'], ['10.5.1.2']], 'its address is not given away');
  t.match(await run(), { removed: [/broken off/], problems: [] });
  t.strictSame([recorded(), addresses()], [[], []]);
  t.notMatch(kernel.dump(kernel.host), /type veth/);
});

t.test('no records at all', async (t) => {
  t.strictSame(await machine(t).run(), { removed: [], restored: [], problems: [] });
});
