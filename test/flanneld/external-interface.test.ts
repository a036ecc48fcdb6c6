// Which interface and which address: flannel's matrix (pkg/ipmatch), and families that are independent of each other.

import t from 'tap';
import { chooseUnderlay, type UnderlayChoice } from '../../flanneld/external-interface.ts';
import { NetError } from '../../model/errors.ts';
import { type Family, type Ip, ip, prefix } from '../../model/ip.ts';
import type { PerFamily } from '../../model/lease.ts';
import { type Address, merge, type Route, type State } from '../../model/state.ts';

const address = (
  device: string,
  text: string,
  scope: Address['scope'] = 'global',
  flags: Address['flags'] = [],
): Address => ({
  device,
  address: prefix(text),
  scope,
  flags,
});

/** eth0: NAT network with the IPv4 default route. eth1: cluster network. wan0: the IPv6 default route. down0: MTU 0. */
const HOST: State = merge({
  links: [
    { name: 'lo', kind: 'device', mtu: 65_536 },
    { name: 'eth0', kind: 'device', mtu: 1500 },
    { name: 'eth1', kind: 'device', mtu: 9000 },
    { name: 'wan0', kind: 'device', mtu: 1492 },
    { name: 'down0', kind: 'device', mtu: 0 },
  ],
  addresses: [
    address('lo', '127.0.0.1/8', 'host'),
    address('lo', '::1/128', 'host'),
    address('eth0', '169.254.7.7/16', 'link'),
    address('eth0', '10.0.2.15/24', 'global', ['dynamic']),
    address('eth1', '192.168.50.1/24'),
    address('eth1', '192.168.50.101/24'),
    address('wan0', 'fe80::1/64', 'link'),
    address('wan0', '2001:db8::bad/64', 'global', ['deprecated']),
    address('wan0', '2001:db8::7e5/64', 'global', ['tentative', 'dadfailed']),
    address('wan0', '2001:db8::aaaa/64', 'global', ['dynamic', 'temporary']),
    address('wan0', '2001:db8::1/64', 'global', ['dynamic']),
    address('down0', '172.31.0.1/24'),
  ],
  routes: [
    { destination: prefix('0.0.0.0/0'), via: ip('192.168.50.254'), device: 'eth1', metric: 200 },
    { destination: prefix('0.0.0.0/0'), via: ip('10.0.2.2'), device: 'eth0', metric: 100 },
    { destination: prefix('::/0'), via: ip('fe80::ff'), device: 'wan0' },
  ],
});

interface Asked {
  readonly names?: readonly string[];
  readonly expressions?: readonly RegExp[];
  readonly canReach?: string;
  readonly publicIp?: PerFamily<Ip>;
}

const choice = ({ names = [], expressions = [], canReach, publicIp = {} }: Asked): UnderlayChoice => ({
  interface: { names, expressions, canReach: canReach === undefined ? undefined : ip(canReach) },
  publicIp,
});

/** 192.168.50.0/24 is on eth1, everything else by eth0; there is no route to TEST-NET-1. */
function routeTo(target: Ip): Route {
  if (target.startsWith('192.0.2.'))
    throw new NetError('kernel', `find the route to ${target}: ENETUNREACH`, { errno: 'ENETUNREACH' });
  return target.startsWith('192.168.50.')
    ? { destination: prefix(`${target}/32`), device: 'eth1', source: ip('192.168.50.101') }
    : { destination: prefix(`${target}/32`), device: 'eth0', via: ip('10.0.2.2') };
}

/** "device address mtu" of each family. */
function chosen(asked: Asked, families: readonly Family[] = [4], state: State = HOST): string {
  const underlay = chooseUnderlay(state, families, choice(asked), routeTo);
  return families
    .map((family) => {
      const found = underlay[family];
      return found === undefined
        ? '-'
        : `${found.device} ${found.address}${found.publicIp === found.address ? '' : ` as ${found.publicIp}`} ${found.mtu}`;
    })
    .join(', ');
}

t.test('report 18: nothing asked for', async (t) => {
  t.equal(chosen({}), 'eth0 10.0.2.15 1500', 'the default route with the lowest metric; global before link-local');
  t.equal(
    chosen({}, [4, 6]),
    'eth0 10.0.2.15 1500, wan0 2001:db8::1 1492',
    'each family by its own; not deprecated, not tentative, not temporary',
  );
  t.equal(
    chosen({ publicIp: { 4: ip('192.168.50.1') } }),
    'eth1 192.168.50.1 9000',
    '--public-ip of an interface names it',
  );
  t.equal(
    chosen({ publicIp: { 4: ip('203.0.113.7') } }),
    'eth0 10.0.2.15 as 203.0.113.7 1500',
    '--public-ip of a NAT before the node',
  );
});

t.test('by name and address', async (t) => {
  t.equal(chosen({ names: ['eth1'] }), 'eth1 192.168.50.1 9000');
  t.equal(chosen({ names: ['nope0', 'eth1', 'eth0'] }), 'eth1 192.168.50.1 9000', 'the first that is there');
  t.equal(chosen({ names: ['192.168.50.101'] }), 'eth1 192.168.50.101 9000', 'an address is itself');
  t.equal(
    chosen({ names: ['wan0', 'eth1'] }, [4, 6]),
    'eth1 192.168.50.1 9000, wan0 2001:db8::1 1492',
    'the first with an address of the family',
  );
  t.equal(chosen({ names: ['eth1'], publicIp: { 4: ip('203.0.113.7') } }), 'eth1 192.168.50.1 as 203.0.113.7 9000');
  t.equal(
    chosen({ names: ['wan0'] }, [6], merge(HOST, { addresses: [address('wan0', '2001:db8::5/64')] })),
    'wan0 2001:db8::5 1492',
    'permanent before dynamic',
  );
  const linkLocal = { ...HOST, addresses: [address('wan0', 'fe80::1/64', 'link')] };
  t.equal(chosen({ names: ['wan0'] }, [6], linkLocal), 'wan0 fe80::1 1492', 'link-local when there is no other');
});

t.test('by expression', async (t) => {
  t.equal(chosen({ expressions: [/^eth1$/] }), 'eth1 192.168.50.1 9000');
  t.equal(chosen({ expressions: [/\.101$/] }), 'eth1 192.168.50.101 9000', 'addresses');
  t.equal(chosen({ expressions: [/^10\.0/, /^eth1/] }), 'eth0 10.0.2.15 1500', 'in their order');
  t.equal(chosen({ names: ['nope0'], expressions: [/eth1/] }), 'eth1 192.168.50.1 9000', 'after names');
});

t.test('by route', async (t) => {
  t.equal(chosen({ canReach: '192.168.50.9' }), 'eth1 192.168.50.101 9000', 'with the address that the route prefers');
  t.equal(chosen({ canReach: '8.8.8.8' }), 'eth0 10.0.2.15 1500');
  t.equal(
    chosen({ canReach: '192.168.50.9' }, [4, 6]),
    'eth1 192.168.50.101 9000, wan0 2001:db8::1 1492',
    'the other family by its default route',
  );
});

t.test('refused, naming flag and value', async (t) => {
  const refused = (asked: Asked, message: RegExp, state = HOST) =>
    t.throws(() => chosen(asked, [4], state), { code: 'no-interface', message });
  refused({ names: ['nope0'] }, /--iface=nope0/);
  refused({ names: ['203.0.113.1'] }, /--iface=203\.0\.113\.1/);
  refused({ names: ['lo'] }, /--iface=lo/);
  refused({ expressions: [/^ens/] }, /--iface-regex=\^ens/);
  refused({ canReach: '192.0.2.1' }, /--iface-can-reach=192\.0\.2\.1: .*ENETUNREACH/);
  refused({ names: ['down0'] }, /--iface=down0: interface down0 has MTU 0/);
  refused({}, /no default route/, { ...HOST, routes: [] });
});
