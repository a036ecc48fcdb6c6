// Flannel's form with another plugin than bridge, on a machine in memory.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { attachmentsIn } from '../../cni-plugin/attachments.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import { machine } from './fake-machine.ts';
import { foreignPlugins, refusal } from './foreign-plugin.ts';

const KEY = { network: 'cbr0', containerId: 'pod1', ifname: 'eth0' };
const CONFIG = {
  delegate: { type: 'macvlan', master: 'eth7', mtu: 1400 },
  runtimeConfig: { mac: '02:00:00:00:00:07' },
  args: { cni: {} },
};
const RESULT = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:07', sandbox: '/run/netns/pod1', 'not.in': 'any version' }],
  ips: [{ address: '10.5.1.9/24', interface: 0 }],
};
/** What flannel's own plugin tells macvlan (flannel-io/cni-plugin). */
const TOLD = {
  type: 'macvlan',
  ipMasq: true,
  master: 'eth7',
  mtu: 1400,
  name: 'cbr0',
  cniVersion: '1.1.0',
  ipam: {
    type: 'host-local',
    ranges: [[{ subnet: '10.5.1.0/24' }], [{ subnet: 'fd00:5:0:1::/64' }]],
    routes: [{ dst: '10.5.0.0/16' }, { dst: 'fd00:5::/48' }],
  },
  runtimeConfig: { mac: '02:00:00:00:00:07' },
};

function host(t: Test, result: object = RESULT) {
  const node = machine(t);
  const plugins = foreignPlugins(result);
  Object.assign(node.dependencies, { execute: plugins.execute });
  const records = join(node.directory, 'flannel');
  const { ipam: _, dataDir } = node.places;
  const base = { dataDir, ipam: undefined, ...CONFIG };
  return {
    ...node,
    plugins,
    run: (command: Parameters<typeof node.run>[0], options: Parameters<typeof node.run>[1] = {}) =>
      node.run(command, { ...options, config: { ...base, ...options.config } }),
    told: (verb: string) => JSON.parse(plugins.last(verb).input),
    record: () => attachmentsIn(records, 50).read(KEY),
    reclaim: () => reclaim(records, node.dependencies),
  };
}

t.test('ADD: told what flannel’s plugin tells it; its result is handed on', async (t) => {
  const { run, plugins, told, record, dump } = host(t);
  const before = dump();
  t.strictSame(await run('ADD'), { status: 0, ...RESULT });
  t.strictSame(told('ADD'), TOLD);
  t.match(record(), { unfinished: undefined, foreign: { role: 'interface', plugin: 'macvlan' }, addresses: [] });
  t.equal(dump(), before, 'the rest is its own business');
  t.match(await run('ADD'), { status: 1, code: 104 });
  t.strictSame(plugins.calls(), ['macvlan ADD']);
});

t.test('a result of another version than asked for', async (t) => {
  const { run } = host(t, { ...RESULT, cniVersion: '1.0.0' });
  const { interfaces } = await run('ADD', { config: { cniVersion: '0.4.0' } });
  t.strictSame(interfaces, [{ name: 'eth0', mac: '02:00:00:00:00:07', sandbox: '/run/netns/pod1' }]);
  const broken = host(t, { ips: 'x' });
  t.match(await broken.run('ADD'), {
    status: 1,
    code: 106,
    msg: /^result of the plugin macvlan: ips: expected a list/,
  });
  t.strictSame(broken.plugins.calls(), ['macvlan ADD', 'macvlan DEL']);
  t.notOk(broken.record());
});

t.test('DEL tells it what ADD did, whatever has changed since, and is idempotent', async (t) => {
  const changes: [string, object, boolean][] = [
    ['nothing', {}, false],
    ['no subnet file', {}, true],
    ['another subnet file', { subnetFile: '/nowhere' }, false],
    ['another delegate', { delegate: { type: 'ptp' } }, false],
    ['bridge', { delegate: {} }, false],
    ['the plain form', { bridge: 'cni0' }, false],
    ['one that ADD refuses', { delegate: { name: 'x', type: 'macvlan' }, subnetFile: 5 }, false],
  ];
  for (const [name, config, withoutFile] of changes) {
    const { run, plugins, told, record, subnetFile } = host(t);
    await run('ADD');
    if (withoutFile) rmSync(subnetFile);
    else writeFileSync(subnetFile, 'FLANNEL_MTU=9');
    plugins.calls();
    t.match(await run('DEL', { config }), { status: 0 }, name);
    t.strictSame(told('DEL'), TOLD, name);
    t.notOk(record(), name);
    t.match(await run('DEL', { config, netns: '' }), { status: 0 }, name);
    t.strictSame(plugins.calls(), ['macvlan DEL'], `${name}: once`);
  }
});

t.test('DEL that it fails is done again; a failed ADD is followed by its DEL', async (t) => {
  const { run, plugins, record, files } = host(t);
  await run('ADD');
  plugins.answer('DEL', refusal({ code: 11, msg: 'later' }));
  t.match(await run('DEL'), { status: 1, code: 11, msg: 'later' });
  t.ok(record());
  plugins.answer('DEL');
  t.match(await run('DEL'), { status: 0 });

  plugins.calls();
  plugins.answer('ADD', refusal({ code: 7, msg: 'no such master' }));
  t.match(await run('ADD'), { status: 1, code: 7, msg: 'no such master' });
  t.strictSame(plugins.calls(), ['macvlan ADD', 'macvlan DEL']);
  t.strictSame(files(), []);
  t.match(await run('DEL'), { status: 0 });
});

t.test('pods that flannel’s own plugin attached: DEL tells the plugin what that one has kept', async (t) => {
  const { run, plugins, directory, files } = host(t);
  const keep = (told: object | string) => {
    mkdirSync(join(directory, 'flannel'), { recursive: true });
    writeFileSync(join(directory, 'flannel/pod1'), typeof told === 'string' ? told : JSON.stringify(told));
  };
  keep({ ...TOLD, more: 1 });
  plugins.answer('DEL', refusal({ code: 11, msg: 'later' }));
  t.match(await run('DEL', { config: { delegate: {} } }), { status: 1, code: 11 });
  t.ok(files().includes('pod1'));
  plugins.answer('DEL');
  t.match(await run('DEL', { config: { delegate: {} } }), { status: 0 });
  t.strictSame(JSON.parse(plugins.last('DEL').input), { ...TOLD, more: 1 });
  t.strictSame(files(), []);
  t.strictSame(plugins.calls(), ['macvlan DEL', 'macvlan DEL']);

  keep({ ...TOLD, type: 'bridge', ipam: { type: 'other' } });
  t.match(await run('DEL'), { status: 0 });
  t.strictSame(plugins.calls(), ['other DEL']);
  keep({ ...TOLD, type: 'bridge' });
  t.match(await run('DEL'), { status: 0 });
  t.strictSame(files(), []);
  for (const others of [{ ...TOLD, name: 'another' }, '{"name":"cbr0","type', '[]']) {
    keep(others);
    t.match(await run('DEL'), { status: 0 });
    t.strictSame(files(), ['pod1'], 'not this attachment’s');
  }
  t.strictSame(plugins.calls(), []);
});

t.test('CHECK and STATUS', async (t) => {
  const { run, plugins, told, subnetFile } = host(t);
  const { status: _, ...prevResult } = await run('ADD');
  const routed = {
    ...prevResult,
    ips: [{ address: '10.5.1.9/24', gateway: '10.5.1.1', interface: 0 }],
    routes: [{ dst: '10.5.0.0/16' }, { dst: '192.0.2.0/24', gw: '10.5.1.7' }, { dst: 'fd00::/64' }],
  };
  t.match(await run('CHECK', { config: { prevResult: routed } }), { status: 0 });
  t.match(told('CHECK'), TOLD);
  t.strictSame(
    told('CHECK').prevResult.routes,
    [{ dst: '10.5.0.0/16', gw: '10.5.1.1' }, { dst: '192.0.2.0/24', gw: '10.5.1.7' }, { dst: 'fd00::/64' }],
    'with the next hops that ADD gave them',
  );
  t.match(await run('CHECK'), { status: 1, code: 7, msg: /prevResult missing/ });
  t.match(await run('STATUS'), { status: 0 });
  t.strictSame(told('STATUS'), TOLD);
  plugins.answer('STATUS', refusal({ code: 50, msg: 'no master' }));
  t.match(await run('STATUS'), { status: 1, code: 50, msg: 'no master' });
  plugins.answer('CHECK', refusal({ code: 101, msg: 'gone' }));
  t.match(await run('CHECK', { config: { prevResult } }), { status: 1, code: 101, msg: 'gone' });
  rmSync(subnetFile);
  t.match(await run('STATUS'), { status: 1, code: 50, msg: /subnet\.env is not there/ });
  t.match(await run('ADD', { containerId: 'pod2' }), { status: 1, code: 11, msg: /subnet\.env is not there/ });
});

t.test('GC: its DEL for what is not in the list, then its own GC', async (t) => {
  const { run, plugins, told, record, subnetFile } = host(t);
  await run('ADD');
  await run('ADD', { containerId: 'pod2' });
  rmSync(subnetFile);
  plugins.calls();
  const valid = { 'cni.dev/valid-attachments': [{ containerID: 'pod1', ifname: 'eth0' }] };
  t.match(await run('GC', { config: valid }), { status: 0 });
  t.strictSame(plugins.calls(), ['macvlan DEL', 'macvlan GC']);
  t.match(plugins.last('DEL').changes, { CNI_CONTAINERID: 'pod2', CNI_NETNS: '/run/netns/pod2' });
  t.match(told('GC'), { type: 'macvlan', ...valid });
  t.ok(record());
});

t.test('nothing but its DEL ends it, until the host has been rebooted', async (t) => {
  const { run, plugins, record, reclaim, dependencies } = host(t);
  await run('ADD');
  t.match(await reclaim(), { removed: [], problems: [] });
  Object.assign(dependencies, { bootId: 'boot2' });
  t.match(await reclaim(), { removed: [], problems: [] });
  t.ok(record());
  plugins.calls();
  t.match(await run('ADD'), { status: 0 }, 'the same container again');
  t.strictSame(plugins.calls(), ['macvlan DEL', 'macvlan ADD']);
});

t.test('into the host’s own namespace: refused before it is asked', async (t) => {
  const { run, plugins, kernel } = host(t);
  t.match(await run('ADD', { netns: kernel.host.path }), { status: 1, code: 8 });
  t.match(await run('ADD', { netns: '/run/netns/none' }), { status: 1, code: 8 });
  t.strictSame(plugins.calls(), []);
});

t.test('forms that name no other plugin', async (t) => {
  const { run, plugins, base, files } = host(t);
  t.match(await run('ADD', { config: { delegate: { type: 'bridge' } } }), { status: 0 });
  t.match(await run('ADD', { containerId: 'pod2', config: { bridge: 'cni0', isGateway: true } }), { status: 0 });
  t.match(await run('ADD', { containerId: 'pod3', config: { delegate: { type: 5 } } }), { status: 1, code: 7 });
  const others = { type: 'others', ipam: { ...base.ipam, subnet: '10.9.0.0/24' } };
  for (const command of ['ADD', 'DEL'] as const) {
    t.match(await run(command, { containerId: 'pod3', plugin: 'flannel-ipam', config: others }), { status: 0 });
  }
  t.notOk(files().includes('10.9.0.2'), 'a delegate in the configuration of others');
  t.strictSame(plugins.calls(), []);
});
