// /run/flannel/subnet.env: flannel's bytes, and what an agent or a person may have left there.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { prefix } from '../../model/ip.ts';
import { readSubnetEnv, type SubnetEnvReading } from '../../model/subnet-env.ts';
import { formatSubnetEnv, type SubnetEnv } from '../../flanneld/subnet-env.ts';
import { readPrevious } from '../../flanneld/subnet-file.ts';
import { temporaryDirectory } from '../support/temporary.ts';

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

/** What is read of a file that says this. */
const readingOf = ({ network, subnet, mtu, masquerade }: SubnetEnv): SubnetEnvReading => ({
  networks: [network[4], network[6]].filter((each) => each !== undefined),
  subnets: [subnet[4], subnet[6]].filter((each) => each !== undefined),
  mtu,
  masquerade,
  unmasqueraded: [],
  problems: [],
});

t.test('as flannel writes it, and back', async (t) => {
  for (const [value, text] of [
    [V4, TEXT_V4],
    [DUAL, TEXT_DUAL],
    [V6, TEXT_V6],
  ] as const) {
    t.equal(formatSubnetEnv(value), text);
    t.strictSame(readSubnetEnv(text), readingOf(value));
  }
});

t.test('destinations that see the addresses of pods have a line of ours', async (t) => {
  const value: SubnetEnv = { ...V4, unmasqueraded: [prefix('192.0.2.0/24'), prefix('2001:db8::/32')] };
  t.equal(formatSubnetEnv(value), `${TEXT_V4}FLANNEL_NON_MASQUERADE_CIDRS=192.0.2.0/24,2001:db8::/32\n`);
});

t.test('quotes, CRLF and comments are read over', async (t) => {
  const text = `# by hand\r\n${TEXT_V4.replaceAll('=', '="').replaceAll('\n', '"\r\n')}\nMORE=1`;
  t.strictSame(readSubnetEnv(text), readingOf(V4));
});

t.test('what a restarted agent knows: a prefix of each family, where there is but one', async (t) => {
  const path = join(temporaryDirectory(t), 'subnet.env');
  t.strictSame(readPrevious(path), { networks: [], subnet: {} }, 'no file');
  writeFileSync(path, TEXT_DUAL);
  t.strictSame(readPrevious(path), { networks: ['10.10.0.0/16', '2001:cafe:42::/56'], subnet: DUAL.subnet });
  writeFileSync(path, 'FLANNEL_NETWORK=10.10.0.0/16,10.11.0.0/16\nFLANNEL_SUBNET=x\nFLANNEL_IPV6_SUBNET=fd00::1/64\n');
  t.strictSame(readPrevious(path), { networks: [], subnet: { 6: 'fd00::/64' } });
  writeFileSync(path, TEXT_DUAL.replace('FLANNEL_NETWORK=10.10.0.0/16', 'FLANNEL_NETWORK=10.77.0.0/16'));
  t.strictSame(
    readPrevious(path),
    { networks: ['10.77.0.0/16', '2001:cafe:42::/56', '10.10.11.0/24'], subnet: DUAL.subnet },
    'a subnet that pods kept when the Network became another',
  );
});
