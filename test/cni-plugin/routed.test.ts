// Mode "routed": its plan as commands, its keys, and its life on a machine in memory.

import t from 'tap';
import { parseConfig } from '../../cni-plugin/config.ts';
import { type Ends, bornPod, planHost, planHostEnd, planPod, withGateways } from '../../cni-plugin/plan.ts';
import { reclaim } from '../../cni-plugin/reclaim.ts';
import { diff } from '../../model/diff.ts';
import { ip, mac, prefix } from '../../model/ip.ts';
import { EMPTY_STATE } from '../../model/state.ts';
import { printStep } from '../../model/steps.ts';
import { machine, withoutLoopback } from './fake-machine.ts';
import { requestWith } from './requests.ts';

const IPAM = { ranges: [[{ subnet: '10.5.1.0/24' }]] };
const configWith = (keys: object = {}) => parseConfig(requestWith({ mode: 'routed', ipam: IPAM, ...keys }), undefined);
const ENDS: Ends = { host: 'veth1', hostMac: mac('02:00:00:00:00:01'), pod: 'eth0', podMac: mac('02:00:00:00:00:02') };
const GIVEN = {
  ips: [
    { address: prefix('10.5.1.2/24'), gateway: ip('10.5.1.1') },
    { address: prefix('fd00:5::2/64'), gateway: ip('fd00:5::1') },
  ],
  routes: [],
  dns: {},
};

t.test('addresses, gateways and routes', async (t) => {
  const routes = (keys: object, ...given: { dst: string; gw?: string }[]) => {
    const typed = given.map(({ dst, gw }) => ({ dst: prefix(dst), ...(gw !== undefined && { gw: ip(gw) }) }));
    return withGateways(configWith(keys), { ...GIVEN, routes: typed }).routes;
  };
  t.strictSame(withGateways(configWith(), GIVEN).ips, [
    { address: '10.5.1.2/32', gateway: '169.254.1.1' },
    { address: 'fd00:5::2/128', gateway: 'fe80::1' },
  ]);
  const [v4, v6] = [
    { dst: '0.0.0.0/0', gw: '169.254.1.1' },
    { dst: '::/0', gw: 'fe80::1' },
  ];
  t.strictSame(routes({}), [v4, v6], 'a default route where there is none');
  t.strictSame(routes({}, { dst: '10.5.0.0/16' }), [{ dst: '10.5.0.0/16' }, v6]);
  t.strictSame(routes({ isDefaultGateway: true }, { dst: '10.5.0.0/16' }), [{ dst: '10.5.0.0/16' }, v4, v6]);
  t.strictSame(routes({}, { dst: '0.0.0.0/0', gw: '10.5.1.1' }), [v4, v6], "its subnet's gateway is the host");
  t.throws(() => routes({}, { dst: '10.9.0.0/16', gw: '10.5.1.9' }), {
    code: 'invalid-config',
    message: /route to 10\.9\.0\.0\/16: mode "routed" leads to no gateway 10\.5\.1\.9/,
  });
});

t.test('without a bridge, each end has one address and routes to the other', async (t) => {
  const addresses = withGateways(configWith(), GIVEN);
  const born = { ...EMPTY_STATE, links: [planHostEnd(configWith(), ENDS, { path: '/x', id: '1:1' })] };
  t.strictSame(diff(born, planHost(ENDS, addresses.ips)).map(printStep), [
    'sysctl -w net.ipv6.conf.veth1.accept_ra=0',
    'sysctl -w net.ipv6.conf.veth1.disable_ipv6=0',
    'sysctl -w net.ipv6.conf.veth1.accept_dad=0',
    'sysctl -w net.ipv4.conf.veth1.rp_filter=1',
    'sysctl -w net.ipv4.ip_forward=1',
    'sysctl -w net.ipv6.conf.all.forwarding=1',
    'ip link set veth1 up',
    'ip neighbour replace 10.5.1.2 lladdr 02:00:00:00:00:02 nud permanent dev veth1',
    'ip -6 neighbour replace fd00:5::2 lladdr 02:00:00:00:00:02 nud permanent dev veth1',
    'ip route replace 10.5.1.2/32 dev veth1 proto 251',
    'ip -6 route replace fd00:5::2/128 dev veth1 proto 251',
  ]);
  const inPod = diff(bornPod(ENDS), planPod(configWith(), ENDS, addresses)).map(printStep);
  t.strictSame(inPod.slice(-6), [
    'ip address add 10.5.1.2/32 dev eth0',
    'ip -6 address add fd00:5::2/128 dev eth0 nodad',
    'ip neighbour replace 169.254.1.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0',
    'ip -6 neighbour replace fe80::1 lladdr 02:00:00:00:00:01 nud permanent dev eth0',
    'ip route replace 0.0.0.0/0 via 169.254.1.1 dev eth0 onlink',
    'ip -6 route replace ::/0 via fe80::1 dev eth0 onlink',
  ]);
});

t.test('keys of a bridge are refused where there is none', async (t) => {
  t.match(configWith({ hairpinMode: true, isGateway: true, forceAddress: false }), { mode: 'routed', ipMasq: false });
  t.equal(parseConfig(requestWith({ mode: 'bridge' }), undefined).mode, 'bridge');
  for (const [keys, message] of [
    [{ bridge: 'br0' }, /mode "routed" has no bridge: remove bridge/],
    [{ forceAddress: true, promiscMode: true }, /remove forceAddress, promiscMode/],
    [{ portIsolation: true, macspoofchk: true }, /remove portIsolation, macspoofchk/],
    [{ ipam: undefined }, /ipam is missing/],
  ] as const) {
    t.throws(() => configWith(keys), { code: 'invalid-config', message });
  }
});

t.test('ADD, CHECK and DEL leave the host as it was', async (t) => {
  const m = machine(t);
  const delegate = { mode: 'routed', isDefaultGateway: true, ipMasq: false };
  const settings = /forwarding|ip_forward/;
  const before = withoutLoopback(m.dump())
    .split('\n')
    .filter((line) => !settings.test(line));
  const { status, ...result } = await m.run('ADD', { config: { delegate } });
  t.equal(status, 0);
  t.match(result, { ips: [{ address: '10.5.1.2/32' }, { address: 'fd00:5:0:1::2/128' }] });
  t.strictSame(m.kernel.announced, [], 'there is nobody to be told');
  t.match(await m.run('CHECK', { config: { delegate, prevResult: result } }), { status: 0 });
  t.equal((await m.run('DEL', { config: { delegate } })).status, 0);
  t.strictSame(
    withoutLoopback(m.dump())
      .split('\n')
      .filter((line) => !settings.test(line)),
    before,
  );
  t.strictSame(m.files(), []);
});

t.test('another name for the end when the first is taken: its ports go with it', async (t) => {
  const m = machine(t);
  const delegate = { mode: 'routed' };
  const runtimeConfig = { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcp' }] };
  m.kernel.failNext(/ip link add veth/, 'EEXIST');
  const { status, ...result } = await m.run('ADD', { config: { delegate, runtimeConfig } });
  t.equal(status, 0);
  const host = (result as unknown as { interfaces: { name: string }[] }).interfaces[0]?.name;
  t.match(m.kernel.dump(m.kernel.host), new RegExp(`sysctl -w net.ipv4.conf.${host}.route_localnet=1`));
  t.match(await m.run('CHECK', { config: { delegate, runtimeConfig, prevResult: result } }), { status: 0 });
});

t.test('what somebody removed of the way to a living pod is put back', async (t) => {
  const m = machine(t);
  await m.run('ADD', { config: { delegate: { mode: 'routed' } } });
  const { host } = m.kernel;
  const [route] = m.kernel.read(host, { routes: { families: [4] } }).routes.filter(({ protocol }) => protocol === 251);
  t.ok(route);
  const dump = () => m.kernel.dump(host).split('\n').sort();
  const all = dump();
  if (route !== undefined) m.kernel.apply(host, [{ verb: 'delete', item: { type: 'route', value: route } }]);
  t.strictNotSame(dump(), all);
  const { restored, removed, problems } = await reclaim(m.places.dataDir, m.dependencies);
  t.match(restored, [/^eth0 of pod1 in network cbr0: ip route replace 10\.5\.1\.2\/32 dev veth/]);
  t.strictSame([removed, problems], [[], []]);
  t.strictSame(dump(), all);
  t.strictSame((await reclaim(m.places.dataDir, m.dependencies)).restored, []);
});
