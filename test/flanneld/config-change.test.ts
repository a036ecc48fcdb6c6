// A network configuration that changes under a running agent: taken over as a whole, or not at all.

import t, { type Test } from 'tap';
import { configChanges, printChanges } from '../../flanneld/config-change.ts';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import { openBackend } from '../../flanneld/backend/registry.ts';
import { throwFirst } from '../../kernel/kernel.ts';
import { ip, prefix } from '../../model/ip.ts';
import type { Step } from '../../model/steps.ts';
import { rig } from './fixtures/agent.ts';
import { dumpSorted } from './fixtures/host.ts';
import { HOST, peerLease, siteOf } from './fixtures/world.ts';

const BASE = { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } };

function changes(before: object, after: object, subnet = '10.244.1.0/24'): string[] {
  const of = (config: object) => {
    const network = parseNetworkConfig(JSON.stringify(config));
    const { type, options } = network.backend;
    return { network, backend: openBackend(type, { options, site: siteOf([4]), have: HOST, stored: undefined }) };
  };
  return configChanges(of(before), of(after), { 4: prefix(subnet) }).map(
    (change) => `${printChanges([change])}${change.live ? ' live' : ''}`,
  );
}

t.test('which keys, and whether a restart is needed', async (t) => {
  const cases: readonly (readonly [string, object, readonly string[]])[] = [
    ['the same', { network: '10.244.0.0/16', backend: { type: 'VXLAN', vni: 1, Port: 8472, MTU: 0 } }, []],
    ['an unknown key', { ...BASE, EnableNFTables: true, Other: 1 }, []],
    ['MTU', { ...BASE, Backend: { Type: 'vxlan', MTU: 1400 } }, ['Backend.MTU (0 to 1400) live']],
    [
      'all that can be',
      {
        ...BASE,
        SubnetMin: '10.244.1.0',
        SubnetMax: '10.244.9.0',
        Backend: { Type: 'vxlan', Learning: true, DirectRouting: true },
      },
      [
        'SubnetMax ("10.244.255.0/24" to "10.244.9.0/24") live',
        'Backend.Learning (false to true) live',
        'Backend.DirectRouting (false to true) live',
      ],
    ],
    [
      'limits that our subnet is outside of',
      { ...BASE, SubnetMin: '10.244.8.0' },
      ['SubnetMin ("10.244.1.0/24" to "10.244.8.0/24")'],
    ],
    ['SubnetLen', { ...BASE, SubnetLen: 25 }, ['SubnetLen (24 to 25)']],
    ['Network', { ...BASE, Network: '10.244.0.0/15' }, ['Network ("10.244.0.0/16" to "10.244.0.0/15")']],
    ['families', { ...BASE, EnableIPv6: true, IPv6Network: 'fd00::/48' }, ['EnableIPv6 (false to true)']],
    ['Type', { ...BASE, Backend: { Type: 'host-gw', MTU: 1 } }, ['Backend.Type ("vxlan" to "host-gw")']],
    [
      'the device',
      { ...BASE, Backend: { Type: 'vxlan', VNI: 2, Port: 4789, GBP: true } },
      ['Backend.VNI (1 to 2)', 'Backend.Port (8472 to 4789)', 'Backend.GBP (false to true)'],
    ],
  ];
  for (const [what, after, expected] of cases) t.strictSame(changes(BASE, after), expected, what);
  const udp = (Port?: number) => ({ Network: '10.244.0.0/16', Backend: { Type: 'udp', Port } });
  t.strictSame(changes(udp(), udp(8285)), []);
  t.strictSame(changes(udp(), udp(9999)), ['Backend.Port (8285 to 9999)']);
  const command = (SubnetAddCommand: string) => ({ ...BASE, Backend: { Type: 'extension', SubnetAddCommand } });
  t.strictSame(changes(command('a'), command('b')), ['Backend.SubnetAddCommand ("a" to "b")']);
});

async function started(t: Test) {
  const node = rig(t, BASE);
  node.store.put(peerLease([4], 2));
  const running = node.start();
  await node.pass(0);
  const put = async (config: object | string | undefined) => {
    node.store.config = config === undefined || typeof config === 'string' ? config : JSON.stringify(config);
    await node.pass(100);
  };
  return { node, ...running, put };
}

t.test('taken over in place', async (t) => {
  const { node, agent, log, put } = await started(t);
  log.lines.length = 0;
  await put({ ...BASE, Backend: { Type: 'vxlan', MTU: 1400, DirectRouting: true } });
  t.match(node.readSubnetFile(), /^FLANNEL_MTU=1350$/m, 'the subnet file follows');
  t.match(dumpSorted(node.kernel), /flannel\.1.* mtu 1350/);
  t.match(dumpSorted(node.kernel), /10\.244\.2\.0\/24 via 192\.168\.50\.2 dev eth0/);
  t.match(agent.status(), { ready: true, mtu: 1350, notes: [], differences: [] });
  t.match(log.lines, [/^info the network configuration has changed: Backend\.MTU \(0 to 1400\), Backend\.Direct/]);
});

t.test('a restart is needed: told once, nothing applied', async (t) => {
  const { node, agent, log, put } = await started(t);
  const before = [dumpSorted(node.kernel), node.readSubnetFile()];
  await put({ ...BASE, Backend: { Type: 'vxlan', VNI: 7, MTU: 1400 } });
  const told = 'restart needed: Backend.VNI (1 to 7)';
  t.match(agent.status(), { ready: true, mtu: 1450, notes: [told], troubles: { config: told }, differences: [] });
  t.strictSame(agent.remarks(), [told]);
  await put({ ...BASE, Backend: { Type: 'vxlan', VNI: 7, MTU: 1400 }, Other: 1 });
  t.strictSame([dumpSorted(node.kernel), node.readSubnetFile()], before, 'never half applied');
  t.strictSame(
    log.lines.filter((line) => line.includes('restart')),
    [`warn ${told}`],
  );
  await put(BASE);
  t.strictSame(agent.remarks(), [], 'what is taken back is told no more');
  t.match(log.lines.at(-1), /is the one in force again/);
});

t.test('a configuration that makes no sense, or none', async (t) => {
  const { node, agent, put } = await started(t);
  const before = [dumpSorted(node.kernel), node.readSubnetFile()];
  for (const [config, told] of [
    ['{', /can't be used, the old one holds: .*not JSON/],
    [{ Network: '10.244.0.0/30' }, /can't be used, the old one holds: .*Network: expected/],
    [{ ...BASE, Backend: { Type: 'pigeon' } }, /can't be used, the old one holds: .*"pigeon"/],
    [{ ...BASE, Backend: { Type: 'vxlan', MTU: 100 } }, /can't be used, the old one holds: .*MTU: 100/],
    [undefined, /can't be used, the old one holds: there is none any more/],
  ] as const) {
    await put(config);
    t.match(agent.remarks(), [told]);
    t.equal(agent.unreadiness(), undefined);
    t.strictSame([dumpSorted(node.kernel), node.readSubnetFile()], before);
  }
  await put({ ...BASE, Backend: { Type: 'vxlan', MTU: 1400 } });
  t.strictSame(agent.remarks(), []);
  t.match(node.readSubnetFile(), /^FLANNEL_MTU=1350$/m, 'the next good one is taken over');
});

t.test('a change that comes while the interface is gone', async (t) => {
  const { node, agent, put } = await started(t);
  const eth0 = (up: boolean) =>
    throwFirst(
      node.kernel.apply(node.kernel.host, [
        { verb: 'change', item: { type: 'link', value: { name: 'eth0', kind: 'device', up } } },
        ...(up ? [ADDRESS, ROUTE] : [{ ...ADDRESS, verb: 'delete' } as Step]),
      ]),
    );
  eth0(false);
  await put({ ...BASE, Backend: { Type: 'vxlan', MTU: 1400 } });
  t.match(agent.remarks(), [/can't be used, the old one holds: no interface/]);
  eth0(true);
  for (let second = 0; second < 12; second++) await node.pass(1000);
  t.strictSame(agent.remarks(), []);
  t.match(node.readSubnetFile(), /^FLANNEL_MTU=1350$/m);
});

const ADDRESS: Step = {
  verb: 'add',
  item: { type: 'address', value: { device: 'eth0', address: prefix('192.168.50.1/24') } },
};
const ROUTE: Step = {
  verb: 'add',
  item: { type: 'route', value: { destination: prefix('0.0.0.0/0'), via: ip('192.168.50.254'), device: 'eth0' } },
};
