// The verbs on a machine in memory: what they leave there and on disk, and that a failure at any step leaves nothing.

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { hostVethName } from '../../cni-plugin/names.ts';
import type { Command } from '../../cni-plugin/protocol.ts';
import type { Link } from '../../model/state.ts';
import { machine, type Overrides, SUBNET_FILE, stepsOf, withoutBridge, withoutLoopback } from './fake-machine.ts';

t.test('ADD, CHECK, DEL', async (t) => {
  const { run, dump, dumpOf, files, kernel } = machine(t);
  const before = dumpOf('/run/netns/pod1');
  const result = await run('ADD');
  t.match(result, {
    status: 0,
    cniVersion: '1.1.0',
    ips: [{ address: '10.5.1.2/24' }, { address: 'fd00:5:0:1::2/64' }],
  });
  t.strictSame(
    result.interfaces.map(({ name }: Link) => name),
    ['cni0', hostVethName({ network: 'cbr0', containerId: 'pod1', ifname: 'eth0' }, 0), 'eth0'],
  );
  t.match(dumpOf('/run/netns/pod1'), /ip -6 route add ::\/0 via fd00:5:0:1::1 dev eth0/);
  t.match(kernel.dump(kernel.host), /10\.5\.1\.0\/24 \. 10\.5\.0\.0\/16/, 'masqueraded, but not to the cluster');
  t.ok(files().includes('pod1:eth0.json'));

  t.strictSame(await run('CHECK', { config: { prevResult: result } }), { status: 0 });
  const second = await run('ADD', { containerId: 'pod2' });
  t.match(second, { ips: [{ address: '10.5.1.3/24' }, {}] });
  t.equal(second.interfaces[0].mac, result.interfaces[0].mac, 'the bridge keeps its MAC');

  t.strictSame(await run('DEL'), { status: 0 });
  t.equal(withoutLoopback(dumpOf('/run/netns/pod1')), withoutLoopback(before));
  t.strictSame(await run('DEL'), { status: 0 }, 'again');
  t.strictSame(await run('DEL', { containerId: 'pod2' }), { status: 0 });
  t.strictSame(files(), []);
  t.notMatch(dump(), /veth/);
});

t.test('a failure at any step leaves nothing behind', async (t) => {
  const texts = await stepsOf(machine(t));
  t.ok(texts.length > 15, `${texts.length} steps`);
  for (const text of texts) {
    const { run, dump, files, kernel } = machine(t);
    const clean = withoutBridge(dump());
    kernel.failNext(new RegExp(RegExp.escape(text)), 'EPERM');
    const answer = await run('ADD');
    if (text.startsWith('add element')) {
      t.match(answer, { status: 0 }, 'the whole table is made instead');
      continue;
    }
    t.match(answer, { status: 1, code: 100, msg: /EPERM/ }, text);
    t.equal(withoutBridge(dump()), clean, 'machine');
    t.strictSame(files(), [], 'files');
    t.match(await run('ADD'), { status: 0, ips: [{}, {}] }, 'and the next ADD succeeds');
  }
});

t.test('what ADD refuses', async (t) => {
  const { run, files, dump, kernel, subnetFile } = machine(t);
  const clean = dump();
  const host = await run('ADD', { netns: kernel.host.path });
  t.match(host, { code: 8, msg: "plugin's netns and netns from CNI_NETNS should not be the same" });
  t.match(await run('ADD', { netns: '/run/netns/none' }), { code: 8, msg: /\/run\/netns\/none: ENOENT/ });
  rmSync(subnetFile);
  t.match(await run('ADD'), { code: 11, msg: `${subnetFile} is not there: the agent has not written it yet` });
  writeFileSync(subnetFile, 'FLANNEL_MTU=1\n');
  t.match(await run('ADD'), { code: 7, msg: /subnet.env is missing FLANNEL_NETWORK/ });
  writeFileSync(subnetFile, SUBNET_FILE);
  t.match(await run('ADD', { config: { cniVersion: '0.2.0', bridge: 'cni0', ipam: undefined } }), {
    code: 7,
    msg: /no valid IP/,
  });
  t.strictSame(files(), []);
  t.equal(withoutBridge(dump()), withoutBridge(clean), 'nothing but the bridge');
});

t.test('an attachment that is there already', async (t) => {
  const { run, files, dump, dumpOf, dependencies, kernel } = machine(t);
  await run('ADD');
  const [machineBefore, filesBefore] = [dump(), files()];
  const again = await run('ADD', { containerId: 'pod1', netns: '/run/netns/pod2' });
  t.match(again, { code: 104, msg: 'container pod1 already has interface eth0 in network cbr0' });
  t.equal(dump(), machineBefore);
  t.strictSame(files(), filesBefore);

  t.test('an interface of that name', async (t) => {
    const taken = await run('ADD', { containerId: 'other', netns: '/run/netns/pod1' });
    t.match(taken, { code: 105, msg: /interface "eth0" already exists in \/run\/netns\/pod1/ });
    t.equal(dump(), machineBefore);
    t.strictSame(files(), filesBefore);
    t.strictSame(await run('DEL', { containerId: 'other', netns: '/run/netns/pod1' }), { status: 0 });
    t.equal(dump(), machineBefore, 'the DEL that follows does not touch it');
  });
  t.test('a second interface', async (t) => {
    const second = await run('ADD', { ifname: 'net1' });
    t.match(second, { status: 0, interfaces: [{}, {}, { name: 'net1' }] });
    t.match(second.routes, [
      { priority: 1 },
      { priority: 1025 },
      { dst: '0.0.0.0/0', priority: 1 },
      { dst: '::/0', priority: 1025 },
    ]);
    const routes = dumpOf('/run/netns/pod1')
      .split('\n')
      .filter((line) => /route add (0\.0\.0\.0|::)\/0/.test(line));
    t.equal(routes.length, 4, 'its default routes stand behind the first ones');
    const old = { ...second, routes: second.routes.map(({ dst, gw }: { dst: string; gw?: string }) => ({ dst, gw })) };
    for (const prevResult of [second, old]) {
      t.strictSame(await run('CHECK', { ifname: 'net1', config: { prevResult } }), { status: 0 });
    }
    t.strictSame(await run('DEL', { ifname: 'net1' }), { status: 0 });
    t.equal(dump(), machineBefore);
  });
  t.test('after the device has gone', async (t) => {
    kernel.removeNamespace('/run/netns/pod1');
    kernel.addNamespace('/run/netns/pod1');
    t.match(await run('ADD'), { status: 0 });
  });
  t.test('after a reboot', async (t) => {
    Object.assign(dependencies, { bootId: 'boot2' });
    t.match(await run('ADD', { netns: '/run/netns/pod3' }), { status: 0 });
    t.strictSame(files().filter((name) => name.startsWith('10.')).length, 1, 'the old address is free');
  });
});

t.test('another device has the name', async (t) => {
  const { run, kernel, directory } = machine(t);
  const name = hostVethName({ network: 'cbr0', containerId: 'pod1', ifname: 'eth0' }, 0);
  kernel.addDevice(kernel.host, { name });
  const result = await run('ADD');
  t.match(result, {
    status: 0,
    interfaces: [{}, { name: hostVethName({ network: 'cbr0', containerId: 'pod1', ifname: 'eth0' }, 1) }, {}],
  });
  t.match(readFileSync(join(directory, 'flannel/cbr0/pod1:eth0.json'), 'utf8'), result.interfaces[1].name);
  t.strictSame(await run('CHECK', { config: { prevResult: result } }), { status: 0 });
  t.strictSame(await run('DEL', { netns: '' }), { status: 0 });
  t.match(kernel.dump(kernel.host), new RegExp(`ip link add ${name}`), 'the other device is still there');
  t.notMatch(kernel.dump(kernel.host), new RegExp(result.interfaces[1].name));
});

t.test('DEL whatever is missing', async (t) => {
  const removed = (path: string) => (m: ReturnType<typeof machine>) =>
    rmSync(join(m.directory, path), { recursive: true });
  /** As the record sees it: its device has another name by now. */
  const rename = ({ directory }: ReturnType<typeof machine>) => {
    const path = join(directory, 'flannel/cbr0/pod1:eth0.json');
    const record = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...record, link: { ...record.link, name: 'former0' } }));
  };
  const ways: [string, (m: ReturnType<typeof machine>) => unknown, Overrides?][] = [
    ['a device by the name that it had', rename],
    ['no namespace given', () => undefined, { netns: '' }],
    ['a path that is gone', () => undefined, { netns: '/run/netns/gone' }],
    ['no record', removed('flannel')],
    ['no record and no namespace given', removed('flannel'), { netns: '' }],
    ['a damaged record', ({ directory }) => writeFileSync(join(directory, 'flannel/cbr0/pod1:eth0.json'), '{')],
    ['no reservations', removed('networks')],
    ['no subnet file', removed('subnet.env')],
    ['a configuration that is no longer valid', () => undefined, { config: { delegate: { mtu: 'x' }, vlan: 5000 } }],
    ['after a reboot', ({ dependencies }) => Object.assign(dependencies, { bootId: 'boot2' })],
  ];
  for (const [name, prepare, options] of ways) {
    t.test(name, async (t) => {
      const setup = machine(t);
      t.match(await setup.run('ADD'), { status: 0 });
      prepare(setup);
      t.strictSame(await setup.run('DEL', options), { status: 0 });
      t.notMatch(setup.dump(), /veth/);
      t.strictSame(setup.files(), []);
      t.strictSame(await setup.run('DEL', options), { status: 0 }, 'again');
    });
  }
  t.test('a device that is not the attachment’s', async (t) => {
    const { run, kernel, files } = machine(t);
    const result = await run('ADD');
    const [, { name }] = result.interfaces;
    kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value: { name, kind: 'veth' } } }]);
    kernel.addDevice(kernel.host, { name });
    t.strictSame(await run('DEL'), { status: 0 });
    t.match(kernel.dump(kernel.host), new RegExp(`ip link add ${name}`));
    t.strictSame(files(), []);
  });
  t.test('the interface stays: so does the address', async (t) => {
    const { run, kernel, files } = machine(t);
    await run('ADD');
    const before = files();
    kernel.failNext(/ip link delete/, 'EBUSY');
    t.match(await run('DEL'), { code: 100, msg: /EBUSY/ });
    t.strictSame(files(), before);
    t.strictSame(await run('DEL'), { status: 0 });
    t.strictSame(files(), []);
  });
  t.test("the host's own namespace", async (t) => {
    const { run, kernel } = machine(t);
    t.match(await run('DEL', { netns: kernel.host.path }), { code: 8 });
  });
});

t.test('an ADD without an address left leaves nothing, and a reboot frees addresses', async (t) => {
  const { run, dependencies, base, files } = machine(t);
  const ipam = { ...base.ipam, ranges: [[{ subnet: '10.7.0.0/30' }]] };
  const config = { bridge: 'br7', subnetFile: undefined, delegate: undefined, ipam };
  t.match(await run('ADD', { config }), { status: 0, ips: [{ address: '10.7.0.2/30' }] });
  t.match(await run('ADD', { config, containerId: 'pod2' }), { code: 102 });
  t.notOk(files().includes('pod2:eth0.json'));
  Object.assign(dependencies, { bootId: 'boot2' });
  t.match(
    await run('ADD', { config, containerId: 'pod2' }),
    { status: 0, ips: [{ address: '10.7.0.2/30' }] },
    'a reboot voids',
  );
  t.notOk(files().includes('pod1:eth0.json'));
});

t.test('a bridge of another address', async (t) => {
  const { run, kernel, base, files } = machine(t);
  const config = (subnet: string, forceAddress: boolean) => ({
    bridge: 'br7',
    isGateway: true,
    forceAddress,
    subnetFile: undefined,
    delegate: undefined,
    ipam: { ...base.ipam, ranges: [[{ subnet }]] },
  });
  await run('ADD', { config: config('10.7.0.0/24', false) });
  await run('DEL', { config: config('10.7.0.0/24', false) });
  const refused = await run('ADD', { config: config('10.8.0.0/24', false) });
  t.match(refused, { code: 105, msg: '"br7" already has an IP address different from 10.8.0.1/24' });
  t.strictSame(files(), []);
  t.match(await run('ADD', { config: config('10.8.0.0/24', true) }), { status: 0 });
  t.match(kernel.dump(kernel.host), /ip address add 10\.8\.0\.1\/24 dev br7/);
  t.notMatch(kernel.dump(kernel.host), /10\.7\.0\.1/);
});

t.test('forwarding keeps routes learned by router advertisement', async (t) => {
  const { run, kernel } = machine(t);
  kernel.addDevice(kernel.host, { name: 'uplink' });
  kernel.apply(kernel.host, [
    { verb: 'change', item: { type: 'link', value: { name: 'uplink', kind: 'device', up: true } } },
    { verb: 'add', item: { type: 'address', value: { device: 'uplink', address: '2001:db8::2/64' as never } } },
    {
      verb: 'replace',
      item: {
        type: 'route',
        value: { destination: '::/0' as never, via: '2001:db8::1' as never, device: 'uplink', protocol: 9 },
      },
    },
  ]);
  await run('ADD');
  const keys = ['net/ipv6/conf/uplink/accept_ra', 'net/ipv6/conf/all/forwarding', 'net/ipv4/ip_forward'];
  t.strictSame(
    kernel.read(kernel.host, { sysctls: keys }).sysctls.map(({ value }) => value),
    ['2', '1', '1'],
  );
});

t.test('flannel-ipam reserves and frees addresses, and leaves the machine alone', async (t) => {
  const { run, places, files, dump, dependencies } = machine(t);
  const clean = dump();
  const ipam = {
    ...places.ipam,
    type: 'flannel-ipam',
    ranges: [[{ subnet: '10.7.0.0/24' }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const call = (command: Command, more: object = {}) =>
    run(command, { plugin: 'flannel-ipam', netns: '/some/where', config: { type: 'bridge', ipam, ...more } });
  const result = await call('ADD');
  t.strictSame(result, {
    status: 0,
    cniVersion: '1.1.0',
    ips: [{ address: '10.7.0.2/24', gateway: '10.7.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
  });
  t.ok(files().includes('pod1:eth0.json'), 'it has a record');
  t.match(await call('ADD'), { code: 104 });
  t.strictSame(await call('CHECK', { prevResult: result }), { status: 0 });
  t.strictSame(await call('DEL'), { status: 0 });
  t.strictSame(await call('DEL'), { status: 0 });
  t.match(await call('CHECK', { prevResult: result }), { code: 101 });
  t.strictSame(files(), []);
  t.equal(dump(), clean, 'the machine is not touched');

  await call('ADD');
  Object.assign(dependencies, { bootId: 'boot2' });
  t.match(await call('ADD'), { status: 0 }, 'a reboot voids');
});

t.test('verbs of one attachment wait for each other, others do not', async (t) => {
  const { run, files, dependencies } = machine(t);
  Object.assign(dependencies, { lockTimeoutMs: 5000 });
  const answers = await Promise.all([run('ADD'), run('DEL'), run('ADD', { containerId: 'pod2' }), run('DEL')]);
  t.strictSame(
    answers.map(({ status }) => status),
    [0, 0, 0, 0],
  );
  t.strictSame(
    files().filter((name) => name.endsWith('.json')),
    ['pod2:eth0.json'],
  );
  t.notOk(files().some((name) => name.endsWith('.lock')));
});

t.test('nothing is thrown, whatever breaks', async (t) => {
  const { run, directory } = machine(t);
  writeFileSync(join(directory, 'flannel'), 'a file in place of the directory');
  t.match(await run('ADD'), { status: 1, code: 5, msg: /is a file, not a directory/ });
  t.match(await run('DEL'), { status: 1, code: 5 });
  t.notOk(existsSync(join(directory, 'networks')));
});
