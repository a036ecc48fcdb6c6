// The `ipam` section: every form of it, and every fault named with its key.

import fc from 'fast-check';
import t from 'tap';
import { type IpamInput, parseIpam } from '../../ipam/config.ts';
import { NetError } from '../../model/errors.ts';
import { seed } from '../support/seed.ts';

fc.configureGlobal({ seed });

const parse = (ipam: unknown, more: Partial<IpamInput> = {}) =>
  parseIpam({ network: 'mynet', cniVersion: '1.0.0', ipam, cniArgs: new Map(), ...more });

const RANGES = [[{ subnet: '10.1.2.0/24' }]];
const FULL = { subnet: '10.1.2.0/24', start: '10.1.2.1', end: '10.1.2.254', gateway: '10.1.2.1' };

t.test('defaults', async (t) => {
  t.strictSame(parse({ type: 'host-local', ranges: RANGES }), {
    network: 'mynet',
    dataDir: '/var/lib/cni/networks',
    sets: [[FULL]],
    routes: [],
    resolvConf: undefined,
    requested: [],
  });
  t.strictSame(parse({ ranges: [[{ subnet: '2001:DB8:0::/64' }]] }).sets, [
    [{ subnet: '2001:db8::/64', start: '2001:db8::1', end: '2001:db8::ffff:ffff:ffff:ffff', gateway: '2001:db8::1' }],
  ]);
});

t.test('types that are served here, and no other', async (t) => {
  for (const type of [undefined, null, '', 'host-local', 'flannel-ipam']) t.ok(parse({ type, ranges: RANGES }));
  t.throws(() => parse({ type: 'dhcp', ranges: RANGES }), { code: 'invalid-config', message: /ipam\.type.*"dhcp"/ });
});

t.test('every key is read', async (t) => {
  const config = parse({
    type: 'flannel-ipam',
    ranges: [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.2.9', rangeEnd: '10.1.2.20', gateway: '10.1.2.30' }]],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.1.2.30', mtu: 1400, advmss: 1360, priority: 100, table: 0, scope: 0 },
      { dst: '::/0', gw: '', mtu: 0 },
    ],
    dataDir: '/run/networks',
    resolvConf: '/etc/resolv.conf',
  });
  t.strictSame(config, {
    network: 'mynet',
    dataDir: '/run/networks',
    sets: [[{ subnet: '10.1.2.0/24', start: '10.1.2.9', end: '10.1.2.20', gateway: '10.1.2.30' }]],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.1.2.30', mtu: 1400, advmss: 1360, priority: 100, table: 0, scope: 0 },
      { dst: '::/0' },
    ],
    resolvConf: '/etc/resolv.conf',
    requested: [],
  });
});

t.test('keys match in any case, and empty text is no value, as in Go', async (t) => {
  const { sets, dataDir } = parse({
    Ranges: [[{ Subnet: '10.1.2.0/24', RANGESTART: '10.1.2.9', gateway: '' }]],
    dataDir: '',
  });
  t.strictSame(sets, [[{ ...FULL, start: '10.1.2.9' }]]);
  t.equal(dataDir, '/var/lib/cni/networks');
});

t.test('the flat form comes first, runtimeConfig.ipRanges before it', async (t) => {
  const subnets = (config: ReturnType<typeof parse>) => config.sets.map((set) => set.map(({ subnet }) => subnet));
  const ipam = { subnet: '10.1.0.0/24', ranges: [[{ subnet: '10.2.0.0/24' }, { subnet: '10.3.0.0/24' }]] };
  t.strictSame(subnets(parse(ipam)), [['10.1.0.0/24'], ['10.2.0.0/24', '10.3.0.0/24']]);
  const runtimeConfig = { ipRanges: [[{ subnet: '10.8.0.0/24' }], [{ subnet: 'fd00::/64' }]] };
  const all = [['10.8.0.0/24'], ['fd00::/64'], ['10.1.0.0/24'], ['10.2.0.0/24', '10.3.0.0/24']];
  t.strictSame(subnets(parse(ipam, { runtimeConfig })), all);
  t.strictSame(subnets(parse({}, { runtimeConfig })), [['10.8.0.0/24'], ['fd00::/64']]);
});

t.test('requested addresses: args before CNI_ARGS, then runtimeConfig; each once, the length ignored', async (t) => {
  const cniArgs = new Map([['IP', '10.1.2.5/24']]);
  const args = { cni: { ips: ['10.1.2.6', '10.1.2.7/24'] } };
  const runtimeConfig = { ips: ['10.1.2.7', 'FD00::0:8/64'] };
  const requested = (more: Partial<IpamInput>) => parse({ ranges: RANGES }, more).requested;
  t.strictSame(requested({ cniArgs }), ['10.1.2.5']);
  t.strictSame(requested({ cniArgs, args }), ['10.1.2.6', '10.1.2.7']);
  t.strictSame(requested({ cniArgs, args: { cni: { ips: [] } } }), ['10.1.2.5']);
  t.strictSame(requested({ cniArgs, runtimeConfig }), ['10.1.2.5', '10.1.2.7', 'fd00::8']);
  t.strictSame(requested({ cniArgs, args, runtimeConfig }), ['10.1.2.6', '10.1.2.7', 'fd00::8']);
  t.throws(() => requested({ cniArgs: new Map([['IP', 'ten']]) }), { code: 'invalid-environment', message: /IP=ten/ });
  t.throws(() => requested({ args: { cni: { ips: ['10.1.2.300'] } } }), {
    code: 'invalid-config',
    message: /args\.cni\.ips\[0\].*10\.1\.2\.300/,
  });
});

t.test('all faults in one message, each with its path', async (t) => {
  const ipam = {
    ranges: [[{ subnet: '10.1.2.0/31' }], [{ subnet: 'ten' }, { subnet: '10.1.2.0/24', gateway: 7 }]],
    routes: [{ gw: '10.1.2.1' }, { dst: '::/0', scope: 256 }],
    dataDir: 'relative',
  };
  let message = '';
  try {
    parse(ipam);
  } catch (error) {
    message = error instanceof NetError && error.code === 'invalid-config' ? error.message : '';
  }
  for (const part of [
    'network mynet: ',
    'ipam.ranges[0][0]: network 10.1.2.0/31 too small to allocate from',
    'ipam.ranges[1][0].subnet: ',
    'ipam.ranges[1][1].gateway: ',
    'ipam.routes[0].dst: ',
    'ipam.routes[1].scope: ',
    'ipam.dataDir: expected an absolute path, got "relative"',
  ]) {
    t.match(message, part);
  }
});

t.test('refused', async (t) => {
  const cases: readonly [RegExp, unknown][] = [
    [/no IP ranges specified/, {}],
    [/expected an object, got nothing/, undefined],
    [/expected an object, got null/, null],
    [/ipam\.subnet/, { subnet: 'ten' }],
    [
      /ipam: end 10\.1\.2\.8 is before start 10\.1\.2\.9/,
      { subnet: '10.1.2.0/24', rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' },
    ],
    [/gateway fd00::1 is not of the family/, { subnet: '10.1.2.0/24', gateway: 'fd00::1' }],
    [/::ffff:a00:0\/120 holds IPv4 addresses/, { subnet: '::ffff:10.0.0.0/120' }],
    [/255\.255\.255\.255\/32 too small/, { subnet: '255.255.255.255/32' }],
    [/range set 0: mixed address families/, { ranges: [[{ subnet: '10.1.2.0/24' }, { subnet: 'fd00::/64' }]] }],
    [
      /ranges 10\.1\.2\.1-10\.1\.2\.254 and 10\.1\.2\.1-10\.1\.2\.254 overlap/,
      { ranges: [[{ subnet: '10.1.2.0/24' }, { subnet: '10.1.2.0/24' }]] },
    ],
    [
      /range set 0 overlaps with 2/,
      { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00::/64' }], [{ subnet: '10.1.0.0/16' }]] },
    ],
  ];
  for (const [message, ipam] of cases) t.throws(() => parse(ipam), { code: 'invalid-config', message });
});

t.test('two parts of one subnet do not overlap; a gateway may lie outside', async (t) => {
  const low = { subnet: '10.1.2.0/24', rangeEnd: '10.1.2.9', gateway: '169.254.1.1' };
  const high = { subnet: '10.1.2.0/24', rangeStart: '10.1.2.10' };
  t.equal(parse({ ranges: [[low], [high]] }).sets.length, 2);
});

t.test('one address of a family before 0.3.0', async (t) => {
  const two = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.2.2.0/24' }]] };
  const dual = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00::/64' }]] };
  for (const cniVersion of ['', '0.1.0', '0.2.0']) {
    t.throws(() => parse(two, { cniVersion }), { code: 'invalid-config', message: /more than 1 address per family/ });
    t.equal(parse(dual, { cniVersion }).sets.length, 2);
  }
  for (const cniVersion of ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])
    t.equal(parse(two, { cniVersion }).sets.length, 2);
});

t.test('any JSON at all is a value or a NetError', async (t) => {
  const shape = fc.record(
    {
      type: fc.oneof(fc.constant('host-local'), fc.jsonValue()),
      subnet: fc.oneof(fc.constantFrom('10.0.0.0/8', 'fd00::/64'), fc.jsonValue()),
      ranges: fc.oneof(
        fc.array(fc.array(fc.record({ subnet: fc.oneof(fc.constant('10.1.2.0/24'), fc.jsonValue()) }))),
        fc.jsonValue(),
      ),
      routes: fc.jsonValue(),
      dataDir: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(shape, fc.jsonValue()), fc.jsonValue(), fc.jsonValue(), (ipam, runtimeConfig, args) => {
      try {
        t.ok(parse(ipam, { runtimeConfig, args }).sets.length > 0);
      } catch (error) {
        t.ok(error instanceof NetError && error.code === 'invalid-config', String(error));
      }
    }),
  );
});
