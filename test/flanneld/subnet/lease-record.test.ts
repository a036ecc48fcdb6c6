// Leases as flannel writes them (values copied from the wire), ours, and what nobody understands.

import fc from 'fast-check';
import t from 'tap';
import { formatLeaseValue, parseLeaseKey, parseLeaseValue } from '../../../flanneld/subnet/lease-record.ts';
import { fromNumber, networkOf, withLength } from '../../../model/ip.ts';
import { type LeaseAttributes, leaseKey } from '../../../model/lease.ts';
import { seed } from '../../support/seed.ts';

fc.configureGlobal({ seed });

/** What stands on the wire, and what it says. */
const VALUES: readonly (readonly [string, LeaseAttributes])[] = [
  [
    '{"PublicIP":"172.30.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"e2:5a:84:0d:d0:bb"}}',
    {
      publicIp: { 4: '172.30.0.2' },
      backendType: 'vxlan',
      backendData: { 4: { VNI: 1, VtepMAC: 'e2:5a:84:0d:d0:bb' } },
    } as never,
  ],
  [
    '{"PublicIP":"172.30.0.2","PublicIPv6":null,"BackendType":"host-gw"}',
    { publicIp: { 4: '172.30.0.2' }, backendType: 'host-gw', backendData: {} } as never,
  ],
  [
    '{"PublicIP":"172.30.0.3","PublicIPv6":null}',
    { publicIp: { 4: '172.30.0.3' }, backendType: '', backendData: {} } as never,
  ],
  [
    '{"PublicIP":"172.30.0.2","PublicIPv6":"fd00::2","BackendType":"vxlan","BackendData":{"VNI":1},"BackendV6Data":{"VNI":2},"NodeID":"n1"}',
    {
      publicIp: { 4: '172.30.0.2', 6: 'fd00::2' },
      backendType: 'vxlan',
      backendData: { 4: { VNI: 1 }, 6: { VNI: 2 } },
      nodeId: 'n1',
    } as never,
  ],
  [
    '{"PublicIP":null,"PublicIPv6":"fd00::2","BackendType":"extension","BackendV6Data":"text"}',
    { publicIp: { 6: 'fd00::2' }, backendType: 'extension', backendData: { 6: 'text' } } as never,
  ],
];

t.test('values, byte for byte', async (t) => {
  for (const [text, value] of VALUES) {
    t.strictSame(parseLeaseValue(text), value);
    t.equal(formatLeaseValue(value), text);
  }
});

t.test('values as others may write them', async (t) => {
  const reservation = { publicIp: { 4: '10.0.0.1' }, backendType: '', backendData: {} };
  t.strictSame(parseLeaseValue(' { "Color": 1, "PublicIP": "10.0.0.1" }\n'), reservation, 'a reservation by hand');
  t.strictSame(parseLeaseValue('{"PublicIP":"0.0.0.0","PublicIPv6":"::","BackendData":null,"NodeID":7}'), {
    ...reservation,
    publicIp: {},
  });
  const bad = [
    '',
    'null',
    '[]',
    '"x"',
    '{',
    '{"PublicIP":"x"}',
    '{"PublicIP":"fd00::1"}',
    '{"PublicIPv6":"10.0.0.1"}',
    '{"PublicIP":5}',
    '{"BackendType":5}',
  ];
  for (const text of bad) t.equal(parseLeaseValue(text), undefined, text);
});

t.test('keys tell subnets, and subnets keys', async (t) => {
  const keys = [
    ['10.5.34.0-24', { 4: '10.5.34.0/24' }],
    ['10.5.34.0-24&fc00:0:0:1::-64', { 4: '10.5.34.0/24', 6: 'fc00:0:0:1::/64' }],
    ['fc00:0:0:1::-64', { 6: 'fc00:0:0:1::/64' }],
  ] as const;
  for (const [text, subnet] of keys) {
    t.strictSame(parseLeaseKey(text), subnet);
    t.equal(leaseKey(subnet as never), text);
  }
  const bad = [
    '',
    '10.5.34.0',
    '10.5.34.0/24',
    '10.5.34.0-33',
    '10.5.34-24',
    '300.5.34.0-24',
    'x10.5.34.0-24',
    '10.5.34.0-24x',
    'fc00::-129',
  ];
  const pairs = [
    'fc00::-64&10.5.34.0-24',
    '10.5.34.0-24&10.5.35.0-24',
    '10.5.34.0-24&',
    '10.5.34.0-24&fc00::-64&fd00::-64',
    'config',
  ];
  for (const text of [...bad, ...pairs]) t.equal(parseLeaseKey(text), undefined, text);
});

t.test('flannel passes over a key of IPv6 alone', async (t) => {
  const flannel = /(\d+\.\d+.\d+.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/;
  t.match('10.5.34.0-24&fc00:0:0:1::-64', flannel);
  t.notMatch('fc00:0:0:1::-64', flannel);
});

t.test('every subnet comes back from its key', async (t) => {
  const subnet = (family: 4 | 6, bits: number) =>
    fc
      .tuple(fc.bigInt(0n, (1n << BigInt(bits)) - 1n), fc.integer({ min: 1, max: bits }))
      .map(([address, length]) => networkOf(withLength(fromNumber(family, address), length)));
  fc.assert(
    fc.property(subnet(4, 32), subnet(6, 128), fc.constantFrom(4, 6, 0), (v4, v6, only) => {
      const value = { ...(only === 6 ? {} : { 4: v4 }), ...(only === 4 ? {} : { 6: v6 }) };
      t.strictSame(parseLeaseKey(leaseKey(value)), value);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      parseLeaseKey(text);
      parseLeaseValue(text);
    }),
  );
});
