// The subnet file: KEY=VALUE lines, as programs and people write them.

import t from 'tap';
import { parseEnvFile, readSubnetEnv } from '../../model/subnet-env.ts';

t.test('values by name', async (t) => {
  const text = 'A=1\r\n B = two \nC="x y"\nD=\'z\'\n# no\nE=a=b\nF=\nG="half\nA=last\nexport\n';
  t.strictSame(Object.fromEntries(parseEnvFile(text)), {
    A: 'last',
    B: 'two',
    C: 'x y',
    D: 'z',
    E: 'a=b',
    F: '',
    G: '"half',
  });
  t.equal(parseEnvFile('').size, 0);
});

t.test('what can’t be understood is left out, and said', async (t) => {
  const nothing = { networks: [], subnets: [], unmasqueraded: [], mtu: undefined, masquerade: undefined, problems: [] };
  t.strictSame(readSubnetEnv(''), nothing);
  t.strictSame(readSubnetEnv('FLANNEL_SUBNET=10.10.11.1\nFLANNEL_NETWORK=x/16\nFLANNEL_MTU=big\nFLANNEL_IPMASQ=1'), {
    ...nothing,
    masquerade: false,
    problems: [
      'FLANNEL_NETWORK: expected IPv4 prefixes, got "x/16"',
      'FLANNEL_SUBNET: expected IPv4 prefixes, got "10.10.11.1"',
      'FLANNEL_MTU: expected a number, got "big"',
    ],
  });
  t.strictSame(
    readSubnetEnv('FLANNEL_SUBNET=fd00::1/64\nFLANNEL_IPV6_SUBNET=10.1.2.1/24\n'),
    {
      ...nothing,
      problems: [
        'FLANNEL_SUBNET: expected IPv4 prefixes, got "fd00::1/64"',
        'FLANNEL_IPV6_SUBNET: expected IPv6 prefixes, got "10.1.2.1/24"',
      ],
    },
    'the wrong family',
  );
});
