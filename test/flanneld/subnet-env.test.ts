// /run/flannel/subnet.env: flannel's bytes, and what an agent or a person may have left there.

import t from 'tap';
import { prefix } from '../../model/ip.ts';
import { formatSubnetEnv, parseSubnetEnv, type SubnetEnv } from '../../flanneld/subnet-env.ts';

const V4 = {
  network: { 4: '10.10.0.0/16' },
  subnet: { 4: '10.10.11.0/24' },
  mtu: 1450,
  masquerade: false,
} as SubnetEnv;
const DUAL = {
  network: { 4: '10.10.0.0/16', 6: '2001:cafe:42::/56' },
  subnet: { 4: '10.10.11.0/24', 6: '2001:cafe:42::/64' },
  mtu: 1450,
  masquerade: true,
} as SubnetEnv;
const V6 = { ...DUAL, network: { 6: '2001:cafe:42::/56' }, subnet: { 6: '2001:cafe:42:7::/64' } } as SubnetEnv;

const TEXT_V4 = `FLANNEL_NETWORK=10.10.0.0/16
FLANNEL_SUBNET=10.10.11.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`;
const TEXT_DUAL = `FLANNEL_NETWORK=10.10.0.0/16
FLANNEL_SUBNET=10.10.11.1/24
FLANNEL_IPV6_NETWORK=2001:cafe:42::/56
FLANNEL_IPV6_SUBNET=2001:cafe:42::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`;
const TEXT_V6 = `FLANNEL_IPV6_NETWORK=2001:cafe:42::/56
FLANNEL_IPV6_SUBNET=2001:cafe:42:7::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`;

t.test('as flannel writes it, and back', async (t) => {
  for (const [value, text] of [
    [V4, TEXT_V4],
    [DUAL, TEXT_DUAL],
    [V6, TEXT_V6],
  ] as const) {
    t.equal(formatSubnetEnv(value), text);
    t.strictSame(parseSubnetEnv(text), value);
  }
});

t.test('destinations that see the addresses of pods have a line of ours', async (t) => {
  const value: SubnetEnv = { ...V4, unmasqueraded: [prefix('192.0.2.0/24'), prefix('2001:db8::/32')] };
  t.equal(formatSubnetEnv(value), `${TEXT_V4}FLANNEL_NON_MASQUERADE_CIDRS=192.0.2.0/24,2001:db8::/32\n`);
});

t.test('what can’t be understood is left out', async (t) => {
  const nothing = { network: {}, subnet: {}, mtu: 0, masquerade: false };
  t.strictSame(parseSubnetEnv(''), nothing);
  t.strictSame(
    parseSubnetEnv('FLANNEL_SUBNET=10.10.11.1\nFLANNEL_NETWORK=x/16\nFLANNEL_MTU=big\nFLANNEL_IPMASQ=1'),
    nothing,
  );
  t.strictSame(
    parseSubnetEnv('FLANNEL_SUBNET=fd00::1/64\nFLANNEL_IPV6_SUBNET=10.1.2.1/24\n'),
    nothing,
    'the wrong family',
  );
  t.strictSame(
    parseSubnetEnv(`# by hand\r\n${TEXT_V4.replaceAll('=', '="').replaceAll('\n', '"\r\n')}\nMORE=1`),
    V4,
    'quotes, CRLF, comments',
  );
});
