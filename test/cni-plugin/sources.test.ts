// What ports let in, on a machine in memory: the rules, and that elements come with attachments and go with them.

import t from 'tap';
import type { Attachment } from '../../cni-plugin/attachments.ts';
import { attachmentsIn } from '../../cni-plugin/attachments.ts';
import { createSourceGuard } from '../../cni-plugin/source-guard.ts';
import { sourceOf, sourceTable } from '../../cni-plugin/sources.ts';
import { ip, mac } from '../../model/ip.ts';
import { type Machine, machine } from './fake-machine.ts';

const SOURCE = {
  family: 'bridge',
  port: 'veth1',
  mac: mac('02:00:00:00:00:01'),
  addresses: [ip('10.5.1.2'), ip('fd00::2')],
} as const;

const recordsOf = ({ places }: Machine): Attachment[] => {
  const files = attachmentsIn(places.dataDir, 50);
  return files.networks().flatMap((network) => files.list(network).flatMap((key) => files.read(key) ?? []));
};

/** A machine whose verbs guard sources. */
function guarded(t: Parameters<typeof machine>[0]) {
  const m = machine(t);
  const sources = createSourceGuard({ kernel: m.kernel, bootId: 'boot1', readRecords: () => recordsOf(m) });
  Object.assign(m.dependencies, { sources });
  const elements = (family: 'bridge' | 'inet') =>
    (m.kernel.readTable(family, 'flannel-guard')?.sets ?? []).flatMap((set) => set.elements);
  return { ...m, sources, elements };
}

/** Whether the pod's end was up, each time that an attachment's elements came, once the table was there. */
function seenAtGuarding({ kernel, sources, dependencies }: ReturnType<typeof guarded>): boolean[] {
  sources.sync();
  const seen: boolean[] = [];
  const pod = kernel.openNamespace('/run/netns/pod1');
  const allow: typeof sources.allow = (record) => {
    sources.allow(record);
    if (record.containerId === 'pod1') seen.push(kernel.read(pod, { links: ['eth0'] }).links[0]?.up ?? true);
  };
  Object.assign(dependencies, { sources: { ...sources, allow } });
  return seen;
}

t.test('an attachment is elements, the rules are the same for all', async (t) => {
  const { chains, sets } = sourceTable('bridge', [SOURCE]);
  t.strictSame(Object.fromEntries(sets.map(({ name, elements }) => [name, elements])), {
    ports: ['"veth1"'],
    targets6: [
      '"veth1" . 02:00:00:00:00:01 . 0xfe80000000000000000000fffe000001',
      '"veth1" . 02:00:00:00:00:01 . 0xfd000000000000000000000000000002',
    ],
    sources4: ['"veth1" . 02:00:00:00:00:01 . 10.5.1.2'],
    addresses4: ['10.5.1.2'],
    sources6: ['"veth1" . 02:00:00:00:00:01 . fe80::ff:fe00:1', '"veth1" . 02:00:00:00:00:01 . fd00::2'],
    addresses6: ['fd00::2'],
  });
  t.strictSame(sourceTable('bridge', []).chains, chains);
  t.strictSame(
    sourceTable('inet', [SOURCE]).sets.flatMap(({ elements }) => elements),
    [],
    'of another family',
  );
});

t.test('records without a port or an address are not looked at; older ones have the MAC that follows', async (t) => {
  const m = guarded(t);
  await m.run('ADD');
  const [record] = recordsOf(m);
  if (record === undefined) throw new Error('no record');
  t.equal(sourceOf({ ...record, link: undefined }), undefined);
  t.equal(sourceOf({ ...record, addresses: [] }), undefined);
  t.strictSame(sourceOf({ ...record, mac: undefined }), sourceOf(record));
});

for (const [family, delegate] of [
  ['bridge', {}],
  ['inet', { mode: 'routed', hairpinMode: undefined }],
] as const) {
  const config = { delegate: { isDefaultGateway: true, ...delegate } };

  t.test(
    `${family}: elements come with ADD before the pod's end is up, go with DEL, and CHECK looks for them`,
    async (t) => {
      const m = guarded(t);
      const upWhenGuarded = seenAtGuarding(m);
      const result = await m.run('ADD', { config });
      t.equal(result.status, 0, result.msg);
      t.strictSame(upWhenGuarded, [false]);
      t.equal(m.elements(family).length, 8);
      await m.run('ADD', { config, containerId: 'pod2' });
      t.equal(m.elements(family).length, 16);
      const { status: _, ...previous } = result;
      const check = () => m.run('CHECK', { config: { ...config, prevResult: previous } });
      t.match(await check(), { status: 0 });
      m.kernel.commit({ family, table: 'flannel-guard', commands: [{ verb: 'delete', type: 'table' }] });
      t.match(await check(), { status: 1, msg: /missing: nft table .* flannel-guard/ });
      await m.run('ADD', { config, containerId: 'pod3' });
      t.equal(m.elements(family).length, 24, 'an ADD that finds no table puts back what the others need');
      t.match(await check(), { status: 0 });
      for (const containerId of ['pod1', 'pod2', 'pod3']) t.equal((await m.run('DEL', { containerId })).status, 0);
      t.strictSame(m.elements(family), []);
    },
  );
}

t.test('a failed ADD leaves none', async (t) => {
  const m = guarded(t);
  m.kernel.failNext(/ip address add 10\.5\.1\.2/, 'EIO');
  t.equal((await m.run('ADD')).status, 1);
  t.strictSame(m.elements('bridge'), []);
});

for (const delegate of [{}, { macspoofchk: true }, { mode: 'routed', hairpinMode: undefined }]) {
  t.test(`a failed ADD guards its port for as long as it is there: ${JSON.stringify(delegate)}`, async (t) => {
    const m = guarded(t);
    m.sources.sync();
    await m.run('ADD', { containerId: 'pod2', config: { delegate } });
    const guards = [
      ['bridge', 'flannel-guard'],
      ['inet', 'flannel-guard'],
      ['bridge', 'flannel'],
    ] as const;
    const guarding = () =>
      guards.flatMap(
        ([family, table]) => m.kernel.readTable(family, table)?.sets.flatMap(({ elements }) => elements) ?? [],
      ).length;
    const others = guarding();
    const { removeLink } = m.dependencies;
    const seen: number[] = [];
    const removing: typeof removeLink = async (link) => {
      const removed = await removeLink(link);
      seen.push(guarding());
      return removed;
    };
    Object.assign(m.dependencies, { removeLink: removing });
    m.kernel.failNext(/ip address add 10\.5\.1\.3/, 'EIO');
    t.equal((await m.run('ADD', { config: { delegate } })).status, 1);
    t.equal(guarding(), others, 'nothing of it is left');
    t.equal(seen[0], 2 * others, 'when its port was gone, all of it was there');
  });
}

t.test('without a policy source there is neither table nor flag', async (t) => {
  const m = machine(t);
  await m.run('ADD');
  t.equal(m.kernel.readTable('bridge', 'flannel-guard'), undefined);
  t.equal(m.kernel.read(m.kernel.host, { links: ['cni0'] }).links[0]?.bridge?.nfCallIptables, false);
});

t.test('attachments from before are guarded in one transaction; strays go, flags come', async (t) => {
  const m = guarded(t);
  const { sources, ...before } = m.dependencies;
  Object.assign(m.dependencies, { sources: undefined });
  for (const containerId of ['pod1', 'pod2']) await m.run('ADD', { containerId });
  Object.assign(m.dependencies, { ...before, sources });
  t.match(m.sources.sync(), [
    'nft table bridge flannel-guard',
    'nft table inet flannel-guard',
    /nf_call_iptables .* cni0/,
  ]);
  t.equal(m.elements('bridge').length, 16);
  t.strictSame(m.kernel.read(m.kernel.host, { links: ['cni0'] }).links[0]?.bridge, {
    nfCallIptables: true,
    nfCallIp6tables: true,
  });
  t.strictSame(m.sources.sync(), [], 'nothing to do');
  const stray = sourceTable('bridge', [SOURCE]).sets.filter(({ name }) => name === 'sources4');
  m.kernel.commit({
    family: 'bridge',
    table: 'flannel-guard',
    commands: stray.map((set) => ({ verb: 'add', type: 'element', set, elements: set.elements })),
  });
  t.match(m.sources.sync(), [/delete "veth1" . 02:00:00:00:00:01 . 10.5.1.2 in sources4/]);
  t.equal(m.elements('bridge').length, 16);
  t.strictSame([...m.sources.bridges()], ['cni0']);
});

t.test('whoever compares the tables in the middle of a DEL puts nothing back', async (t) => {
  const m = guarded(t);
  m.sources.sync();
  await m.run('ADD', { containerId: 'pod1' });
  const { kernel } = m.dependencies;
  let compared = 0;
  const forgetEnds: typeof kernel.forgetEnds = async (ends) => {
    compared++;
    m.sources.sync();
    await kernel.forgetEnds(ends);
  };
  Object.assign(m.dependencies, { kernel: { ...kernel, forgetEnds } });
  await m.run('DEL', { containerId: 'pod1' });
  t.equal(compared, 1);
  t.strictSame(m.elements('bridge'), []);
});
