// macspoofchk: its rules, and that no element of a port outlives it, on a machine in memory.

import t from 'tap';
import { attachmentsIn } from '../../cni-plugin/attachments.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import { spoofTable } from '../../cni-plugin/spoof.ts';
import { mac } from '../../model/ip.ts';
import { printTable } from '../../model/ruleset.ts';
import { type Machine, machine } from './fake-machine.ts';

const PORT = { name: 'veth1', mac: mac('02:00:00:00:00:01') };
const GUARDED = { config: { delegate: { macspoofchk: true } } };

const elements = ({ kernel }: Machine): string[] =>
  (kernel.readTable('bridge', 'flannel')?.sets ?? []).flatMap((set) => set.elements);

t.test('one rule, and two elements for a port', async (t) => {
  t.equal(
    printTable(spoofTable([PORT])),
    [
      'table bridge flannel {',
      '\tset cni-macspoofchk-ports {\n\t\ttype ifname\n\t\telements = { "veth1" }\n\t}\n',
      '\tset cni-macspoofchk {\n\t\ttype ifname . ether_addr\n\t\telements = { "veth1" . 02:00:00:00:00:01 }\n\t}\n',
      '\tchain cni-macspoofchk {',
      '\t\ttype filter hook prerouting priority filter; policy accept;',
      '\t\tiifname @cni-macspoofchk-ports iifname . ether saddr != @cni-macspoofchk drop\n\t}\n}\n',
    ].join('\n'),
  );
});

t.test('elements come with ADD, go with DEL, and CHECK looks for them', async (t) => {
  const m = machine(t);
  const { status: _, ...result } = await m.run('ADD', GUARDED);
  t.equal(elements(m).length, 2);
  await m.run('ADD', { ...GUARDED, containerId: 'pod2' });
  t.equal(elements(m).length, 4);
  const check = () => m.run('CHECK', { config: { ...GUARDED.config, prevResult: result } });
  t.match(await check(), { status: 0 });
  m.kernel.commit({ family: 'bridge', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  t.match(await check(), { status: 1, msg: /missing: nft table bridge flannel/ });
  const { restored } = await reclaim(m.places.dataDir, m.dependencies);
  t.match(restored, [/^eth0 of pod1 .*: nft table bridge flannel/, /^eth0 of pod2 /], 'put back for the living');
  t.equal(elements(m).length, 4);
  t.match(await check(), { status: 0 });
  for (const containerId of ['pod1', 'pod2', 'pod1']) t.equal((await m.run('DEL', { containerId })).status, 0);
  t.strictSame(elements(m), []);
});

t.test('a failed ADD leaves none', async (t) => {
  const m = machine(t);
  m.kernel.failNext(/ip address add 10\.5\.1\.2/, 'EIO');
  t.equal((await m.run('ADD', GUARDED)).status, 1);
  t.strictSame(elements(m), []);
  t.strictSame(m.files(), []);
});

t.test('without the option there is no table', async (t) => {
  const m = machine(t);
  await m.run('ADD');
  t.equal(m.kernel.readTable('bridge', 'flannel'), undefined);
  t.match(m.kernel.announced, [{ device: 'cni0', addresses: ['10.5.1.2', 'fd00:5:0:1::2'] }]);
});

t.test('an ADD that died, and a port without a record: repair takes their elements', async (t) => {
  const m = machine(t);
  for (const containerId of ['pod1', 'pod2']) await m.run('ADD', { ...GUARDED, containerId });
  const files = attachmentsIn(m.places.dataDir, 50);
  const record = files.read({ network: 'cbr0', containerId: 'pod1', ifname: 'eth0' });
  if (record === undefined) throw new Error('no record');
  files.write({ ...record, unfinished: true });
  m.kernel.commit({
    family: 'bridge',
    table: 'flannel',
    commands: spoofTable([PORT]).sets.map((set) => ({ verb: 'add', type: 'element', set, elements: set.elements })),
  });
  t.equal(elements(m).length, 6);
  const { removed, restored, problems } = await reclaim(m.places.dataDir, m.dependencies);
  t.match(removed, [
    /^eth0 of pod1 .*broken off/,
    /^"veth1" in nft set cni-macspoofchk-ports: its interface/,
    /"veth1" \. 02:/,
  ]);
  t.strictSame([restored, problems], [[], []]);
  t.equal(elements(m).length, 2, 'those of the living stay');
});
