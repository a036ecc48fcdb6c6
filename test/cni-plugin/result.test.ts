// One result in every version: exactly that version's keys and types, no key of a later one.

import fc from 'fast-check';
import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { ip, prefix } from '../../model/ip.ts';
import { parseResult, type Result, resultFor } from '../../cni-plugin/result.ts';
import { type CniVersion, VERSIONS } from '../../cni-plugin/versions.ts';
import { seed } from '../support/seed.ts';

/** Everything that the newest version knows, once. */
const FULL: Result = {
  interfaces: [
    { name: 'cni0', mac: '02:00:00:00:00:01', mtu: 1450 },
    { name: 'veth1', mac: '02:00:00:00:00:02', mtu: 1450, socketPath: '/run/s', pciID: '0000:00:01.0' },
    { name: 'eth0', mac: '02:00:00:00:00:03', mtu: 1450, sandbox: '/run/netns/a' },
  ],
  ips: [
    { address: prefix('10.5.1.2/24'), gateway: ip('10.5.1.1'), interface: 2 },
    { address: prefix('10.5.2.2/24'), interface: 0 },
    { address: prefix('fd00::2/64'), gateway: ip('fd00::1'), interface: 2 },
  ],
  routes: [
    { dst: prefix('0.0.0.0/0'), gw: ip('10.5.1.1'), mtu: 1400, advmss: 1360, priority: 5, table: 0, scope: 0 },
    { dst: prefix('::/0') },
  ],
  dns: { nameservers: ['10.5.0.10'], domain: 'cluster.local', search: ['svc'], options: ['ndots:5'] },
};
const EMPTY: Result = { interfaces: [], ips: [], routes: [], dns: {} };

const keysOf = (value: unknown): string =>
  Array.isArray(value)
    ? value.map(keysOf).join(' ')
    : Object.keys(value as object)
        .sort()
        .join(',');

type Keys = { top: string; interface?: string; ip?: string; route: string };
const OLD: Keys = { top: 'cniVersion,dns,ip4,ip6', route: 'dst,gw' };
const RICH: Keys = {
  top: 'cniVersion,dns,interfaces,ips,routes',
  interface: 'mac,name,sandbox',
  ip: 'address,gateway,interface,version',
  route: 'dst,gw',
};
const EXPECTED: Record<CniVersion, Keys> = {
  '0.1.0': OLD,
  '0.2.0': OLD,
  '0.3.0': RICH,
  '0.3.1': RICH,
  '0.4.0': RICH,
  '1.0.0': { ...RICH, ip: 'address,gateway,interface' },
  '1.1.0': {
    top: RICH.top,
    interface: 'mac,mtu,name,sandbox',
    ip: 'address,gateway,interface',
    route: 'advmss,dst,gw,mtu,priority,scope,table',
  },
};

for (const version of VERSIONS) {
  t.test(`${version}: key sets`, async (t) => {
    const value = JSON.parse(JSON.stringify(resultFor(version, FULL)));
    const expected = EXPECTED[version];
    t.equal(keysOf(value), expected.top);
    t.equal(value.cniVersion, version);
    const routes = value.routes ?? value.ip4.routes;
    t.equal(keysOf(routes[0]), expected.route);
    if (expected.interface !== undefined) t.equal(keysOf(value.interfaces[2]), expected.interface);
    if (expected.ip !== undefined) t.equal(keysOf(value.ips[0]), expected.ip);
  });

  t.test(`${version}: read back`, async (t) => {
    const printed = resultFor(version, FULL);
    const read = parseResult(JSON.parse(JSON.stringify(printed)));
    if (version === '1.1.0') t.strictSame(JSON.parse(JSON.stringify(read)), JSON.parse(JSON.stringify(FULL)));
    t.strictSame(resultFor(version, read), printed, 'prints the same again');
    t.strictSame(read.dns, FULL.dns);
  });
}

t.test('exact values', async (t) => {
  t.strictSame(resultFor('0.2.0', FULL), {
    cniVersion: '0.2.0',
    ip4: { ip: '10.5.1.2/24', gateway: '10.5.1.1', routes: [{ dst: '0.0.0.0/0', gw: '10.5.1.1' }] },
    ip6: { ip: 'fd00::2/64', gateway: 'fd00::1', routes: [{ dst: '::/0' }] },
    dns: FULL.dns,
  });
  t.strictSame(resultFor('0.4.0', FULL).ips, [
    { version: '4', interface: 2, address: '10.5.1.2/24', gateway: '10.5.1.1' },
    { version: '4', interface: 0, address: '10.5.2.2/24' },
    { version: '6', interface: 2, address: 'fd00::2/64', gateway: 'fd00::1' },
  ]);
  t.strictSame((resultFor('1.1.0', FULL).routes as object[])[0], FULL.routes[0], 'table 0 and scope 0 are said');
  t.match(resultFor('1.1.0', FULL).interfaces, [{}, { socketPath: '/run/s', pciID: '0000:00:01.0' }, {}]);
});

t.test('what is empty', async (t) => {
  for (const version of ['0.3.0', '0.4.0'] as const)
    t.strictSame(resultFor(version, EMPTY), { cniVersion: version, dns: {} });
  for (const version of ['1.0.0', '1.1.0'] as const) t.strictSame(resultFor(version, EMPTY), { cniVersion: version });
  for (const version of ['0.1.0', '0.2.0'] as const) {
    t.throws(() => resultFor(version, EMPTY), { message: 'cannot convert: no valid IP addresses' }, version);
    const only6 = { ...EMPTY, ips: [{ address: prefix('fd00::2/64') }] };
    t.strictSame(resultFor(version, only6), { cniVersion: version, ip6: { ip: 'fd00::2/64' }, dns: {} }, version);
  }
});

t.test('prevResult as Go writes it', async (t) => {
  const read = parseResult({
    CNIVersion: '1.0.0',
    Interfaces: [{ Name: 'eth0', Mac: '', Sandbox: '/x' }],
    IPs: [{ Address: '10.5.1.2/24', Gateway: '', Interface: 0 }],
    DNS: {},
  });
  t.strictSame(read.interfaces[0]?.sandbox, '/x');
  t.strictSame(read.ips, [{ address: '10.5.1.2/24', gateway: undefined, interface: 0 }]);
  t.strictSame(read.dns, {});
  t.throws(() => parseResult({ ips: [{ address: 'x' }], routes: [{ dst: 5 }] }), {
    code: 'decoding',
    message:
      'prevResult: ips[0].address: expected an address with prefix length, got "x"; routes[0].dst: expected an address with prefix length, got 5',
  });
});

t.test('whatever prevResult is, it is read or refused by a NetError', async () => {
  const part = fc.oneof(
    fc.jsonValue(),
    fc.array(fc.record({ address: fc.oneof(fc.ipV4(), fc.string()), name: fc.string() })),
  );
  fc.assert(
    fc.property(
      fc.record({ interfaces: part, ips: part, routes: part, dns: part, ip4: part }, { requiredKeys: [] }),
      (value) => {
        try {
          parseResult(value);
          return true;
        } catch (error) {
          return error instanceof NetError && error.code === 'decoding';
        }
      },
    ),
    { seed, numRuns: 1000 },
  );
});
