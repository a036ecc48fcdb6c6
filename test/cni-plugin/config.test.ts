// Both forms of configuration: defaults, what flannel's form takes from the subnet file, what is refused and how.

import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { KEYS, type BridgeConfig, parseConfig, placesOf } from '../../cni-plugin/config.ts';
import { subnetFileOf } from '../../cni-plugin/form.ts';
import { parseSubnetFile } from '../../cni-plugin/subnet-file.ts';
import { seed } from '../support/seed.ts';
import { type RequestOptions, requestWith } from './requests.ts';

const LINES = {
  FLANNEL_NETWORK: '10.5.0.0/16,10.6.0.0/16',
  FLANNEL_SUBNET: '10.5.1.1/24',
  FLANNEL_IPV6_NETWORK: 'fd00:5::/48',
  FLANNEL_IPV6_SUBNET: 'fd00:5:0:1::1/64',
  FLANNEL_MTU: '1450',
  FLANNEL_IPMASQ: 'false',
};
const text = (lines: Record<string, string | undefined>): string =>
  Object.entries(lines)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('');
const SUBNET = parseSubnetFile(text(LINES), 'subnet.env');
const V4 = parseSubnetFile(
  text({ ...LINES, FLANNEL_IPV6_NETWORK: undefined, FLANNEL_IPV6_SUBNET: undefined }),
  'subnet.env',
);

const flannel = (config: object, subnet = V4, options: RequestOptions = {}): BridgeConfig =>
  parseConfig(requestWith(config, options), subnet);
const plain = (config: object, options: RequestOptions = {}): BridgeConfig =>
  parseConfig(requestWith({ bridge: 'br0', ...config }, options), undefined);

t.test('of the subnet file all is taken, and what is missing or malformed named', async (t) => {
  t.strictSame(SUBNET, {
    networks: ['10.5.0.0/16', '10.6.0.0/16', 'fd00:5::/48'],
    subnets: ['10.5.1.0/24', 'fd00:5:0:1::/64'],
    mtu: 1450,
    ipMasq: false,
    unmasqueraded: [],
  });
  t.strictSame(
    parseSubnetFile(`# x\r\nFOO=1\r\n${text(LINES).replaceAll('\n', '\r\n')}`, 'f'),
    SUBNET,
    'other lines, CRLF',
  );
  const bad: [Record<string, string | undefined>, string][] = [
    [{ FLANNEL_MTU: undefined }, 'f is missing FLANNEL_MTU'],
    [{ FLANNEL_SUBNET: '', FLANNEL_IPV6_SUBNET: '' }, 'f is missing FLANNEL_SUBNET'],
    [{ FLANNEL_SUBNET: '10.5.1.1' }, 'f FLANNEL_SUBNET: expected IPv4 prefixes, got "10.5.1.1"'],
    [{ FLANNEL_SUBNET: 'fd00::/64' }, 'f FLANNEL_SUBNET: expected IPv4 prefixes, got "fd00::/64"'],
    [{ FLANNEL_MTU: '14x' }, 'f FLANNEL_MTU: expected a number, got "14x"'],
  ];
  for (const [change, message] of bad) {
    t.throws(() => parseSubnetFile(text({ ...LINES, ...change }), 'f'), { code: 'invalid-config', message }, message);
  }
  t.throws(() => parseSubnetFile('', 'f'), {
    message: 'f is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ',
  });
});

t.test('which form it is', async (t) => {
  t.equal(subnetFileOf(requestWith({})), '/run/flannel/subnet.env');
  t.equal(subnetFileOf(requestWith({ subnetFile: '/x' })), '/x');
  for (const key of ['bridge', 'isGateway', 'mode', 'ISGATEWAY']) {
    t.equal(subnetFileOf(requestWith({ [key]: key === 'bridge' ? 'br0' : true })), undefined, key);
  }
  t.equal(subnetFileOf(requestWith({ delegate: { bridge: 'br0' } })), '/run/flannel/subnet.env', 'not inside delegate');
});

t.test("flannel's form", async (t) => {
  const config = flannel({ delegate: { isDefaultGateway: true, hairpinMode: true } });
  t.match(config, { bridge: 'cni0', isGateway: true, isDefaultGateway: true, hairpin: true, ipMasq: true, mtu: 1450 });
  t.strictSame(config.directNetworks, V4.networks);
  const exempt = parseSubnetFile(text({ ...LINES, FLANNEL_NON_MASQUERADE_CIDRS: '192.0.2.0/24, 2001:db8::/32' }), 'f');
  t.strictSame(parseConfig(requestWith({}), exempt).directNetworks, [
    ...exempt.networks,
    '192.0.2.0/24',
    '2001:db8::/32',
  ]);
  t.throws(() => parseSubnetFile(text({ ...LINES, FLANNEL_NON_MASQUERADE_CIDRS: 'x' }), 'f'), {
    message: 'f FLANNEL_NON_MASQUERADE_CIDRS: expected IP prefixes, got "x"',
  });
  t.strictSame(
    config.ipam?.sets.map((set) => set.map(({ subnet }) => subnet)),
    [['10.5.1.0/24']],
  );
  t.strictSame(config.ipam?.routes, [{ dst: '10.5.0.0/16' }, { dst: '10.6.0.0/16' }]);
  t.equal(config.ipam?.dataDir, '/var/lib/cni/networks');

  t.test('what delegate says wins', async (t) => {
    const own = flannel({ delegate: { ipmasq: false, MTU: 9000, isGateway: false, bridge: 'mybr', type: 'bridge' } });
    t.match(own, { ipMasq: false, mtu: 9000, isGateway: false, bridge: 'mybr' });
    t.equal(flannel({ delegate: { mtu: 0 } }).mtu, undefined, "0: the kernel's default");
  });
  t.test('both families', async (t) => {
    const both = flannel({}, SUBNET);
    t.strictSame(
      both.ipam?.sets.map((set) => set.map(({ subnet }) => subnet)),
      [['10.5.1.0/24'], ['fd00:5:0:1::/64']],
    );
    t.equal(both.ipam?.routes.length, 3);
  });
  t.test('ipam', async (t) => {
    const ipam = {
      type: 'flannel-ipam',
      dataDir: '/d',
      ranges: [[{ subnet: '1.2.3.0/24' }]],
      routes: [{ dst: '10.6.0.0/16', gw: '10.5.1.9' }],
    };
    const own = flannel({ ipam });
    t.equal(own.ipam?.dataDir, '/d');
    t.strictSame(
      own.ipam?.sets.map((set) => set[0]?.subnet),
      ['10.5.1.0/24'],
      'the ranges are the agent’s',
    );
    t.strictSame(own.ipam?.routes, [{ dst: '10.6.0.0/16', gw: '10.5.1.9' }, { dst: '10.5.0.0/16' }], 'no route twice');
  });
  t.test('runtimeConfig', async (t) => {
    const runtimeConfig = {
      ips: ['10.5.1.7/24'],
      mac: '02:00:00:00:00:07',
      portMappings: [{ hostPort: 80 }],
      bandwidth: {},
    };
    const own = flannel({ runtimeConfig });
    t.strictSame(own.ipam?.requested, ['10.5.1.7']);
    t.equal(own.mac, '02:00:00:00:00:07');
  });
  const refused: [object, string, RegExp][] = [
    [{ delegate: { name: 'x' } }, 'invalid-config', /'delegate' dictionary must not have 'name' field/],
    [{ delegate: { ipam: {} } }, 'invalid-config', /must not have 'ipam' field/],
    [{ delegate: { type: 5 } }, 'invalid-config', /delegate: type: expected a string, got 5/],
    [{ delegate: [] }, 'invalid-config', /delegate: expected an object/],
    [{ delegate: { type: 'ptp' } }, 'unsupported-field', /unsupported field delegate.type: "ptp"/],
    [{ ipam: { routes: 'x' } }, 'invalid-config', /routes: expected a list/],
    [{ subnetFile: 5 }, 'invalid-config', /subnetFile: expected an absolute path, got 5/],
    [{ subnetFile: 'subnet.env' }, 'invalid-config', /subnetFile: expected an absolute path, got "subnet.env"/],
  ];
  for (const [config, code, message] of refused) {
    t.throws(() => flannel(config), { code, message }, JSON.stringify(config));
  }
});

t.test('plain form', async (t) => {
  const RANGES = { ranges: [[{ subnet: '10.1.2.0/24' }]] };
  t.match(plain({}), {
    network: 'cbr0',
    bridge: 'br0',
    isGateway: false,
    isDefaultGateway: false,
    forceAddress: false,
    ipMasq: false,
    mtu: undefined,
    hairpin: false,
    promiscuous: false,
    isolated: false,
    dad: false,
    up: true,
    ipam: undefined,
    mac: undefined,
  });
  t.strictSame(plain({}).directNetworks, []);
  t.equal(plain({ bridge: '' }).bridge, 'cni0');
  t.equal(plain({ isDefaultGateway: true }).isGateway, true, 'a default gateway is a gateway');
  t.equal(plain({ ipam: {} }).ipam, undefined, 'an empty ipam: no address');
  t.equal(plain({ ipam: RANGES }).ipam?.sets.length, 1, 'no type: ours');
  t.match(plain({ hairpinMode: true, portIsolation: true, enabledad: true, mtu: 1400, promiscMode: false }), {
    hairpin: true,
    isolated: true,
    dad: true,
    mtu: 1400,
  });
  t.equal(plain({ disableContainerInterface: true }).up, false);
  t.strictSame(plain({ dns: { nameservers: ['10.0.0.1'], domain: '' } }).dns, { nameservers: ['10.0.0.1'] });
  t.equal(
    plain({ vlan: 0, vlanTrunk: [], macspoofchk: false, preserveDefaultVlan: true }).bridge,
    'br0',
    'asks for nothing',
  );

  const refused: [object, string, RegExp][] = [
    [{ vlan: 100 }, 'unsupported-field', /unsupported field vlan: 100/],
    [{ vlanTrunk: [{ id: 5 }] }, 'unsupported-field', /unsupported field vlanTrunk: \[\{"id":5\}\]/],
    [{ mode: 'flat' }, 'invalid-config', /mode: expected one of bridge, routed, got "flat"/],
    [{ disableContainerInterface: true, ipam: { type: 'static' } }, 'invalid-config', /cannot use IPAM/],
    [{ ipam: { type: 5 } }, 'invalid-config', /type: expected a string, got 5/],
    [{ hairpinMode: true, promiscMode: true }, 'invalid-config', /hairpin mode and promiscuous mode/],
    [{ disableContainerInterface: true, ipam: RANGES }, 'invalid-config', /cannot use IPAM/],
    [{ vlan: 4095 }, 'invalid-config', /vlan: expected a whole number from 0 to 4094/],
    [{ mtu: -1, isGateway: 'yes' }, 'invalid-config', /isGateway: expected true or false, got "yes"; mtu: expected/],
    [{ bridge: 'a/b' }, 'invalid-config', /bridge: "a\/b": interface name contains/],
    [{ bridge: 'all' }, 'invalid-config', /bridge: "all": interface name is all, which is reserved/],
    [{ bridge: 'x'.repeat(16) }, 'invalid-config', /interface name is too long/],
    [{ ipam: { subnet: '10.1.2.3/24' } }, 'invalid-config', /./],
    [{ runtimeConfig: { mac: '03:00:00:00:00:01' } }, 'invalid-config', /mac: 03:00:00:00:00:01 is not a unicast/],
    [{ runtimeConfig: { mac: 'x' } }, 'invalid-config', /mac: expected an Ethernet address/],
  ];
  for (const [config, code, message] of refused) {
    t.throws(() => plain(config), { code, message }, JSON.stringify(config));
  }
});

t.test('docs/cni.md has every key', async (t) => {
  const text = readFileSync(new URL('../../docs/cni.md', import.meta.url), 'utf8');
  const described = new Set((text.match(/^\| .*? \|/gm) ?? []).flatMap((cell) => cell.match(/(?<=`)\w+/g) ?? []));
  t.strictSame(
    Object.keys(KEYS).filter((key) => !described.has(key)),
    [],
  );
});

t.test('who says the MAC', async (t) => {
  const [one, two, three] = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'];
  const args = { cni: { mac: two } };
  const fromArgs = { args: `MAC=${three}` };
  t.equal(plain({ runtimeConfig: { mac: one }, args }, fromArgs).mac, one);
  t.equal(plain({ args }, fromArgs).mac, two);
  t.equal(plain({}, fromArgs).mac, three);
  t.equal(plain({ RuntimeConfig: { MAC: one } }).mac, one, 'keys in any case');
  t.throws(() => plain({}, { args: 'MAC=zz' }), { code: 'invalid-environment', message: /MAC=zz/ });
});

t.test('what DEL needs', async (t) => {
  const invalid = { mtu: 'x', vlan: 7, subnetFile: 5, ipam: { type: 'gone', ranges: 'x' } };
  t.strictSame(placesOf(requestWith(invalid)), {
    records: '/var/lib/cni/flannel',
    addresses: undefined,
    bridge: 'cni0',
  });
  t.equal(placesOf(requestWith({ ...invalid, ipam: { ranges: 'x' } })).addresses, '/var/lib/cni/networks');
  const given = { dataDir: '/a', ipam: { dataDir: '/b' }, delegate: { bridge: 'br7' } };
  t.strictSame(placesOf(requestWith(given)), { records: '/a', addresses: '/b', bridge: 'br7' });
  t.equal(placesOf(requestWith({ bridge: 'br8' })).bridge, 'br8');
  t.throws(() => placesOf(requestWith({ dataDir: 'relative' })), { message: /dataDir: expected an absolute path/ });
});

t.test('whatever it is, it is read or refused by a NetError', async () => {
  const keys = ['bridge', 'mtu', 'vlan', 'ipam', 'dns', 'delegate', 'runtimeConfig', 'args', 'isGateway', 'dataDir'];
  const value = fc.oneof(fc.jsonValue(), fc.record({ type: fc.string(), mac: fc.string(), ranges: fc.jsonValue() }));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys), value), fc.boolean(), (config, withFile) => {
      try {
        const request = requestWith(config);
        subnetFileOf(request);
        placesOf(request);
        parseConfig(request, withFile ? SUBNET : undefined);
        return true;
      } catch (error) {
        return error instanceof NetError && error.code !== 'internal';
      }
    }),
    { seed, numRuns: 2000 },
  );
});
