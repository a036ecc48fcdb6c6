// The network configuration: flannel's defaults and limits for both families, and one clear line for every fault.

import fc from 'fast-check';
import t from 'tap';
import { type NetworkConfig, parseNetworkConfig } from '../../flanneld/network-config.ts';
import { NetError } from '../../model/errors.ts';
import { seed } from '../support/seed.ts';

fc.configureGlobal({ seed });

const parse = (config: object): NetworkConfig => parseNetworkConfig(JSON.stringify(config));
const V6 = { EnableIPv4: false, EnableIPv6: true };

t.test('defaults', async (t) => {
  t.strictSame(parse({ Network: '10.5.0.0/16' }), {
    families: {
      4: { network: '10.5.0.0/16', subnetLength: 24, subnetMin: '10.5.1.0/24', subnetMax: '10.5.255.0/24' },
    },
    backend: { type: 'udp', options: {} },
  });
  t.strictSame(parse({ ...V6, IPv6Network: 'FC00::/48' }).families, {
    6: { network: 'fc00::/48', subnetLength: 64, subnetMin: 'fc00:0:0:1::/64', subnetMax: 'fc00:0:0:ffff::/64' },
  });
});

t.test('every key, dual stack', async (t) => {
  const text = `{"EnableIPv4":true,"EnableIPv6":true,"EnableNFTables":true,"Network":"10.5.9.9/16","SubnetLen":26,
    "SubnetMin":"10.5.8.64","SubnetMax":"10.5.9.192","IPv6Network":"fc00::/56","IPv6SubnetLen":64,
    "IPv6SubnetMin":"fc00:0:0:2::","IPv6SubnetMax":"fc00:0:0:7::","Backend":{"Type":"VXLAN","VNI":7},"Other":[1]}`;
  const expected = {
    families: {
      4: { network: '10.5.0.0/16', subnetLength: 26, subnetMin: '10.5.8.64/26', subnetMax: '10.5.9.192/26' },
      6: { network: 'fc00::/56', subnetLength: 64, subnetMin: 'fc00:0:0:2::/64', subnetMax: 'fc00:0:0:7::/64' },
    },
    backend: { type: 'vxlan', options: { Type: 'VXLAN', VNI: 7 } },
  };
  t.strictSame(parseNetworkConfig(text), expected);
  const lower = text.replace(/"(\w+)":/g, (_, key: string) => `"${key.toLowerCase()}":`);
  t.strictSame(
    parseNetworkConfig(lower),
    { ...expected, backend: { type: 'vxlan', options: { type: 'VXLAN', vni: 7 } } },
    'keys in any case',
  );
});

t.test('zero and null are absent, as in Go', async (t) => {
  const plain = parse({ Network: '10.5.0.0/16' });
  const empty = {
    SubnetLen: 0,
    SubnetMin: '0.0.0.0',
    SubnetMax: '',
    EnableIPv6: null,
    EnableIPv4: null,
    IPv6SubnetMin: '::',
  };
  t.strictSame(parse({ Network: '10.5.0.0/16', ...empty }), plain);
  t.strictSame(parse({ Network: '10.5.0.0/16', IPv6Network: 'fc00::/48' }), plain, 'IPv6 only where it is enabled');
});

t.test('subnet length by network', async (t) => {
  const lengths = [
    [8, 24],
    [22, 24],
    [23, 25],
    [24, 26],
    [28, 30],
  ] as const;
  for (const [network, subnet] of lengths)
    t.equal(parse({ Network: `10.0.0.0/${network}` }).families[4]?.subnetLength, subnet);
  const lengths6 = [
    [32, 64],
    [62, 64],
    [63, 65],
    [124, 126],
  ] as const;
  for (const [network, subnet] of lengths6) {
    t.equal(parse({ ...V6, IPv6Network: `fc00::/${network}` }).families[6]?.subnetLength, subnet);
  }
});

t.test('each fault is named with its key and value', async (t) => {
  const N = { Network: '10.5.0.0/16' };
  const N6 = { ...V6, IPv6Network: 'fc00::/48' };
  const faults: readonly (readonly [object | string, string])[] = [
    ['{"Network": "10.1', 'not JSON: '],
    ['[]', 'expected an object, got []'],
    ['null', 'expected an object, got null'],
    [{}, 'Network: expected an IPv4 network, got nothing'],
    [{ Network: 'ten/8' }, 'Network: expected an IPv4 network, got "ten/8"'],
    [{ Network: '10.0.0.0' }, 'Network: expected an IPv4 network, got "10.0.0.0"'],
    [{ Network: 'fc00::/48' }, 'Network: expected an IPv4 network, got "fc00::/48"'],
    [{ Network: 10 }, 'Network: expected a string, got 10'],
    [{ ...N, EnableIPv4: 'no' }, 'EnableIPv4: expected true or false, got "no"'],
    [{ ...N, EnableIPv4: false }, 'EnableIPv4: expected true where EnableIPv6 is false, got false'],
    [{ ...N, EnableIPv6: true }, 'IPv6Network: expected an IPv6 network, got nothing'],
    [{ ...V6, IPv6Network: '10.0.0.0/8' }, 'IPv6Network: expected an IPv6 network, got "10.0.0.0/8"'],
    [{ Network: '10.5.0.0/29' }, 'Network: expected a prefix length of at most 28, got "10.5.0.0/29"'],
    [{ ...V6, IPv6Network: 'fc00::/125' }, 'IPv6Network: expected a prefix length of at most 124, got "fc00::/125"'],
    [{ ...N, SubnetLen: 31 }, 'SubnetLen: expected 18 to 30 in 10.5.0.0/16, got 31'],
    [{ ...N, SubnetLen: 17 }, 'SubnetLen: expected 18 to 30 in 10.5.0.0/16, got 17'],
    [{ ...N, SubnetLen: -1 }, 'SubnetLen: expected a whole number from 0 to 128, got -1'],
    [{ ...N, SubnetLen: '24' }, 'SubnetLen: expected a whole number from 0 to 128, got "24"'],
    [{ ...N6, IPv6SubnetLen: 127 }, 'IPv6SubnetLen: expected 50 to 126 in fc00::/48, got 127'],
    [{ ...N6, IPv6SubnetLen: 49 }, 'IPv6SubnetLen: expected 50 to 126 in fc00::/48, got 49'],
    [{ ...N, SubnetMin: '10.6.0.0' }, 'SubnetMin: expected an address in 10.5.0.0/16, got "10.6.0.0"'],
    [{ ...N, SubnetMax: '10.4.0.0' }, 'SubnetMax: expected an address in 10.5.0.0/16, got "10.4.0.0"'],
    [{ ...N, SubnetMin: '10.5.1.1' }, 'SubnetMin: expected the first address of a /24, got 10.5.1.1'],
    [{ ...N, SubnetMax: '10.5.9.128' }, 'SubnetMax: expected the first address of a /24, got 10.5.9.128'],
    [{ ...N, SubnetMin: 'low' }, 'SubnetMin: expected an address in 10.5.0.0/16, got "low"'],
    [
      { ...N, SubnetMin: '10.5.9.0', SubnetMax: '10.5.8.0' },
      'SubnetMin: expected at most SubnetMax (10.5.8.0), got 10.5.9.0',
    ],
    [{ ...N6, IPv6SubnetMin: 'fd00::' }, 'IPv6SubnetMin: expected an address in fc00::/48, got "fd00::"'],
    [{ ...N6, IPv6SubnetMax: 'fc00::1' }, 'IPv6SubnetMax: expected the first address of a /64, got fc00::1'],
    [{ ...N, Backend: 'vxlan' }, 'Backend: expected an object, got "vxlan"'],
    [{ ...N, Backend: {} }, 'Backend.Type: expected the name of a backend, got nothing'],
    [{ ...N, Backend: { Type: 1 } }, 'Backend.Type: expected the name of a backend, got 1'],
  ];
  for (const [config, problem] of faults) {
    const text = typeof config === 'string' ? config : JSON.stringify(config);
    const message = `etcd key /net/config: ${problem}`;
    t.throws(
      () => parseNetworkConfig(text, 'etcd key /net/config'),
      { code: 'invalid-network-config', message: problem.endsWith(': ') ? new RegExp(`^${message}`) : message },
      text,
    );
  }
});

t.test('whatever the text, a configuration or one named fault', async () => {
  const key = fc.constantFrom(
    'Network',
    'SubnetLen',
    'SubnetMin',
    'Backend',
    'EnableIPv4',
    'EnableIPv6',
    'IPv6Network',
    'x',
  );
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(key, fc.jsonValue()).map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(text, (input) => {
      try {
        return typeof parseNetworkConfig(input).backend.type === 'string';
      } catch (error) {
        return error instanceof NetError && error.code === 'invalid-network-config';
      }
    }),
  );
});
