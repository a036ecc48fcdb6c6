// Addresses that another plugin manages, on a machine in memory: what it is asked, and what becomes of an attachment when
// it, or its runtime, fails.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { attachmentsIn } from '../../cni-plugin/attachments.ts';
import { hostVethName } from '../../cni-plugin/names.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import type { Dependencies } from '../../cni-plugin/verbs.ts';
import { machine, withoutBridge } from './fake-machine.ts';
import { ADDRESSES, foreignPlugins, refusal } from './foreign-plugin.ts';

const KEY = { network: 'cbr0', containerId: 'pod1', ifname: 'eth0' };
const PLAIN = { bridge: 'cni0', isGateway: true, ipam: { type: 'other', some: 'key' } };
const GONE = () => Promise.reject(new Error('the client has gone'));

function host(t: Test, config: object = PLAIN, result: object = ADDRESSES) {
  const node = machine(t);
  const plugins = foreignPlugins(result);
  Object.assign(node.dependencies, { execute: plugins.execute });
  const records = join(node.directory, 'flannel');
  return {
    ...node,
    plugins,
    run: (command: Parameters<typeof node.run>[0], options: Parameters<typeof node.run>[1] = {}) =>
      node.run(command, { ...options, config: { ...config, ...options.config } }),
    record: () => attachmentsIn(records, 50).read(KEY),
    reclaim: (more: Partial<Dependencies> = {}) => reclaim(records, { ...node.dependencies, execute: GONE, ...more }),
  };
}

const inputOf = ({ input }: { readonly input: string }) => JSON.parse(input);

t.test('every verb reaches it with the configuration as it came', async (t) => {
  const { run, plugins, dump, files, places } = host(t);
  const added = await run('ADD', { args: 'IgnoreUnknown=1;A=b' });
  t.match(added, {
    status: 0,
    interfaces: [{ name: 'cni0' }, {}, { name: 'eth0', sandbox: '/run/netns/pod1' }],
    ips: [{ address: '10.7.0.9/24', gateway: '10.7.0.1', interface: 2 }],
    routes: ADDRESSES.routes,
    dns: ADDRESSES.dns,
  });
  const config = { cniVersion: '1.1.0', name: 'cbr0', type: 'flannel', dataDir: places.dataDir, ...PLAIN };
  t.match(inputOf(plugins.last('ADD')), config);
  t.strictSame(plugins.last('ADD').changes, { CNI_COMMAND: 'ADD', CNI_FLANNEL_DEPTH: '1' });
  t.match(dump(), /address add 10\.7\.0\.9\/24 .*eth0/);
  t.match(dump(), /address add 10\.7\.0\.1\/24 .*cni0/);
  t.match(dump(), /route .*198\.51\.100\.0\/24 via 10\.7\.0\.1 .*1300/);

  const { status: _, ...prevResult } = added;
  t.match(await run('CHECK', { config: { prevResult } }), { status: 0 });
  t.match(inputOf(plugins.last('CHECK')), { ...config, prevResult });
  t.match(await run('STATUS'), { status: 0 });
  t.match(await run('DEL', { config: { prevResult } }), { status: 0 });
  t.match(inputOf(plugins.last('DEL')), { ...config, prevResult });
  t.strictSame(plugins.calls(), ['other ADD', 'other CHECK', 'other STATUS', 'other DEL']);
  t.strictSame(files(), []);
  t.notMatch(dump(), /veth/);
  t.match(await run('DEL', { netns: '' }), { status: 0 }, 'again, without a namespace');
  t.strictSame(plugins.calls(), ['other DEL'], 'reaches it');
});

t.test('flannel’s form: it is told what flannel’s plugin would tell bridge', async (t) => {
  const { run, plugins } = host(t, { delegate: { hairpinMode: true }, ipam: { type: 'other', some: 'key' } });
  t.match(await run('ADD'), { status: 0 });
  const told = inputOf(plugins.last('ADD'));
  t.strictSame(told, {
    type: 'bridge',
    ipMasq: true,
    mtu: 1450,
    isGateway: true,
    hairpinMode: true,
    name: 'cbr0',
    cniVersion: '1.1.0',
    ipam: {
      type: 'other',
      some: 'key',
      ranges: [[{ subnet: '10.5.1.0/24' }], [{ subnet: 'fd00:5:0:1::/64' }]],
      routes: [{ dst: '10.5.0.0/16' }, { dst: 'fd00:5::/48' }],
    },
  });
  const prevResult = { ips: [] };
  t.match(await run('GC', { config: { prevResult, 'cni.dev/valid-attachments': [] } }), { status: 0 });
  t.match(inputOf(plugins.last('GC')), { ...told, 'cni.dev/valid-attachments': [] });
  t.strictSame(plugins.calls(), ['other ADD', 'other DEL', 'other GC']);
});

t.test('results of older versions, and none', async (t) => {
  const old = { cniVersion: '0.2.0', ip4: { ip: '10.7.0.9/24', gateway: '10.7.0.1', routes: [{ dst: '0.0.0.0/0' }] } };
  t.match(await host(t, PLAIN, old).run('ADD'), {
    status: 0,
    ips: [{ address: '10.7.0.9/24', gateway: '10.7.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  });
  const bad: [object, RegExp][] = [
    [{ output: '' }, /^result of the plugin other: not JSON/],
    [{ output: '{"ips":[]}' }, /^result of the plugin other: no address/],
    [{ output: '{"ips":[{"address":"10.7.0.9"}]}' }, /^result of the plugin other: ips\[0\]\.address: /],
  ];
  for (const [answer, msg] of bad) {
    const { run, plugins, files } = host(t);
    plugins.answer('ADD', answer);
    t.match(await run('ADD'), { status: 1, code: 106, msg });
    t.strictSame(plugins.calls(), ['other ADD', 'other DEL'], 'it may have reserved one');
    t.strictSame(files(), []);
  }
});

t.test('its error is the answer, unchanged', async (t) => {
  const { run, plugins, files, dump } = host(t);
  const error = { code: 117, msg: 'no address\n at this moment', details: 'of\nall 3' };
  for (const verb of ['ADD', 'DEL', 'STATUS', 'GC']) plugins.answer(verb, refusal(error));
  t.strictSame(await run('ADD'), { status: 1, cniVersion: '1.1.0', ...error });
  t.strictSame(plugins.calls(), ['other ADD', 'other DEL']);
  t.strictSame(files(), [], 'it said so itself: nothing is left to delete');
  t.notMatch(dump(), /veth/);
  t.strictSame(await run('DEL'), { status: 1, cniVersion: '1.1.0', ...error });
  t.match(await run('GC', { config: { 'cni.dev/valid-attachments': [] } }), {
    status: 1,
    msg: /no address at this moment/,
  });
  t.match(await run('STATUS'), {
    status: 1,
    code: 50,
    msg: 'plugin other: no address at this moment',
    details: error.details,
  });
  plugins.answer('STATUS', refusal({ code: 51, msg: 'limited' }));
  t.match(await run('STATUS'), { status: 1, code: 51, msg: 'limited' });
  plugins.answer('ADD', { status: 137, errors: 'ended by force\n' });
  const words = 'plugin other failed ADD with status 137: ended by force';
  t.match(await run('ADD'), { status: 1, code: 106, msg: words });
});

t.test('a late failure of ADD is followed by its DEL', async (t) => {
  const { run, plugins, kernel, files, dump } = host(t);
  const before = withoutBridge(dump());
  kernel.failNext(/^ip link add/, 'ENOMEM');
  t.match(await run('ADD'), { status: 1, code: 100 });
  kernel.failNext(/^ip address add 10\.7\.0\.9/, 'ENOMEM');
  t.match(await run('ADD'), { status: 1, code: 100 });
  t.strictSame(plugins.calls(), ['other ADD', 'other DEL', 'other ADD', 'other DEL']);
  t.strictSame(files(), []);
  t.strictSame(withoutBridge(dump()), before);
});

t.test('CHECK sees what it says, and what is missing in the pod', async (t) => {
  const { run, plugins } = host(t);
  const { status: _, ...prevResult } = await run('ADD');
  plugins.answer('CHECK', refusal({ code: 101, msg: 'not reserved' }));
  t.match(await run('CHECK', { config: { prevResult } }), { status: 1, code: 101, msg: 'not reserved' });
  plugins.answer('CHECK');
  const lost = { ...prevResult, routes: [{ dst: '192.0.2.0/24' }] };
  t.match(await run('CHECK', { config: { prevResult: lost } }), { status: 1, msg: /missing: .*192\.0\.2\.0\/24/ });
});

t.test('DEL that it fails is done again', async (t) => {
  const { run, plugins, record, dump } = host(t);
  await run('ADD');
  plugins.answer('DEL', refusal({ code: 11, msg: 'later' }));
  t.match(await run('DEL'), { status: 1, code: 11 });
  t.notMatch(dump(), /veth/, 'the interface is gone');
  t.match(record(), { foreign: { plugin: 'other' } });
  plugins.answer('DEL');
  t.match(await run('DEL'), { status: 0 });
  t.notOk(record());
});

t.test('the configuration has changed since: DEL tells it what ADD did', async (t) => {
  for (const ipam of [undefined, { type: 'another' }, { subnet: '10.1.2.0/24' }, { type: 5 }]) {
    const { run, plugins, record } = host(t);
    await run('ADD', { args: 'IP=10.7.0.9' });
    t.match(await run('DEL', { config: { ipam } }), { status: 0 }, JSON.stringify(ipam));
    t.strictSame(plugins.calls(), ['other ADD', 'other DEL']);
    t.match(inputOf(plugins.last('DEL')), { ipam: PLAIN.ipam });
    t.notOk(record());
  }
});

t.test('a runtime that has gone: what it may have reserved is left to the next DEL', async (t) => {
  const { run, plugins, record, reclaim, dump } = host(t);
  plugins.answer('ADD', GONE);
  plugins.answer('DEL', GONE);
  t.match(await run('ADD'), { status: 1 });
  t.match(record(), { unfinished: true, foreign: { plugin: 'other', role: 'ipam' } });
  const reason = 'eth0 of pod1 in network cbr0: its ADD was broken off; other has its part until DEL or GC';
  t.match(await reclaim(), { removed: [reason], problems: [] });
  t.match(await reclaim(), { removed: [], problems: [] }, 'once');
  t.notMatch(dump(), /veth/);
  plugins.answer('ADD');
  plugins.answer('DEL');
  plugins.calls();
  t.match(await run('DEL', { netns: '' }), { status: 0 });
  t.strictSame(plugins.calls(), ['other DEL']);
  t.notOk(record());
});

t.test('an interface that has gone, and a reboot: the next ADD, DEL or GC ends its part', async (t) => {
  const { run, plugins, record, reclaim, kernel, dependencies, files } = host(t);
  const remove = () => {
    const value = { name: hostVethName(KEY, 0), kind: 'veth' };
    return kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value } }]);
  };
  await run('ADD', { args: 'IP=10.7.0.9' });
  t.match(await reclaim(), { removed: [] }, 'the living stay');
  remove();
  t.match(record(), { addresses: ['10.7.0.9'] });
  t.match(await reclaim(), { removed: [/its interface is gone; other has its part/] });
  t.match(record(), { addresses: [] }, 'by the next DEL its flows may be another pod’s');
  plugins.calls();
  t.match(await run('ADD'), { status: 0 }, 'not taken for alive');
  t.strictSame(plugins.calls(), ['other DEL', 'other ADD']);
  t.match(plugins.last('DEL').changes, {
    CNI_CONTAINERID: 'pod1',
    CNI_NETNS: '/run/netns/pod1',
    CNI_ARGS: 'IP=10.7.0.9',
  });

  Object.assign(dependencies, { bootId: 'boot2' });
  remove();
  t.match(await reclaim(), { removed: [/it was made before the last boot; other has its part/] });
  t.match(await reclaim(), { removed: [] });
  t.ok(record());
  plugins.calls();
  t.match(await run('GC', { config: { 'cni.dev/valid-attachments': [] } }), { status: 0 });
  t.strictSame(plugins.calls(), ['other DEL', 'other GC']);
  const { CNI_NETNS, CNI_IFNAME } = plugins.last('DEL').changes;
  t.strictSame([CNI_NETNS, CNI_IFNAME], ['', 'eth0'], 'a path from before a reboot may be another pod’s');
  t.strictSame(files(), []);
});

t.test('GC: those in the list stay; without a list, nobody is asked', async (t) => {
  const { run, plugins, files } = host(t);
  await run('ADD');
  await run('ADD', { containerId: 'pod2' });
  plugins.calls();
  t.match(await run('GC'), { status: 0 });
  t.strictSame(plugins.calls(), []);
  const valid = [{ containerID: 'pod1', ifname: 'eth0' }];
  plugins.answer('DEL', refusal({ code: 5, msg: 'cannot' }));
  t.match(await run('GC', { config: { 'cni.dev/valid-attachments': valid } }), { status: 1, msg: /cannot/ });
  t.strictSame(plugins.calls(), ['other DEL', 'other GC'], 'goes on');
  plugins.answer('DEL');
  t.match(await run('GC', { config: { 'cni.dev/valid-attachments': valid } }), { status: 0 });
  t.match(plugins.last('DEL').changes, { CNI_CONTAINERID: 'pod2' });
  t.strictSame(
    files().filter((name) => name.endsWith('.json')),
    ['pod1:eth0.json'],
  );
});

t.test('the store of ours is not touched, and an exhausted one doesn’t void its records', async (t) => {
  const { run, plugins, record, dependencies, base } = host(t);
  await run('ADD');
  Object.assign(dependencies, { bootId: 'boot2' });
  const own = { bridge: 'cni9', ipam: { ...base.ipam, subnet: '10.9.0.0/30' } };
  t.match(await run('ADD', { containerId: 'pod2', config: own }), { status: 0 });
  t.match(await run('ADD', { containerId: 'pod3', config: own }), { status: 1, code: 102 });
  t.ok(record());
  t.strictSame(plugins.calls(), ['other ADD']);
});

t.test('one that lost its record: asked all the same, unless ADD would refuse the configuration', async (t) => {
  const { run, plugins, directory } = host(t, { ipam: { type: 'other' } });
  await run('ADD');
  rmSync(join(directory, 'flannel'), { recursive: true });
  plugins.calls();
  t.match(await run('DEL'), { status: 0 });
  t.strictSame(plugins.calls(), ['other DEL']);
  t.match(await run('DEL', { config: { delegate: { name: 'x' } } }), { status: 0 });
  t.strictSame(plugins.calls(), []);
});

t.test('plugins that execute each other', async (t) => {
  const { run, plugins, files, base } = host(t);
  const own = { ...base, ipam: { ...base.ipam, subnet: '10.5.1.0/24' } };
  // What the other plugin does in turn, while the verb it is part of holds the attachment.
  const inner = (command: 'ADD' | 'DEL') => async () => {
    const { status, ...output } = await run(command, { plugin: 'flannel-ipam', config: own, depth: 1 });
    return { status, output: JSON.stringify(output), errors: '' };
  };
  plugins.answer('ADD', inner('ADD'));
  plugins.answer('DEL', inner('DEL'));
  t.match(await run('ADD'), { status: 0, ips: [{ address: '10.5.1.2/24' }] });
  t.strictSame(
    files().filter((name) => name.endsWith('.json')),
    ['pod1:eth0.json', 'pod1:eth0.json'],
    'a record each',
  );
  t.match(await run('DEL'), { status: 0 });
  t.strictSame(files(), []);

  t.match(await run('ADD', { depth: 4 }), { status: 1, code: 7, msg: /plugins execute each other over 4 deep/ });
  t.strictSame(files(), []);
  t.rejects(run('ADD', { depth: 5 }), { code: 'invalid-environment', message: /CNI_FLANNEL_DEPTH/ });
});
