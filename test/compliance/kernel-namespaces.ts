// Namespaces, sysctls, and how steps and queries are taken as a whole.

import { NetError } from '../../model/errors.ts';
import { EMPTY_STATE } from '../../model/state.ts';
import { add, type Case, must, pair, remove, script, set, sysctl } from './kernel-subject.ts';
import { linkNames, read, sysctls } from './kernel-readings.ts';

const FORWARDING = 'net/ipv4/ip_forward';

export const NAMESPACE_CASES: Readonly<Record<string, Case>> = {
  'a namespace is opened by its path': (t, s) => {
    const again = s.kernel.openNamespace(s.path);
    t.equal(again.path, s.path);
    t.equal(again.id, s.namespace.id, 'the same namespace twice has one identity');
    t.not(s.other.id, s.namespace.id);
    must(t, s, ...pair('v0', 'v1'));
    t.strictSame(linkNames(s, again), ['lo', 'v0', 'v1']);
    again.close();
    again.close();
    t.strictSame(linkNames(s), ['lo', 'v0', 'v1'], 'closing one opening leaves the other');
    t.throws(() => s.kernel.openNamespace('/nope/nope'), {
      name: 'NetError',
      code: 'invalid-netns',
      errno: 'ENOENT',
      subject: '/nope/nope',
    });
    const file = s.notANamespace;
    if (file !== undefined)
      t.throws(() => s.kernel.openNamespace(file), { name: 'NetError', code: 'invalid-netns', subject: file });
  },

  'namespaces are apart': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), sysctl(FORWARDING, '1'));
    t.strictSame(linkNames(s, s.other), ['lo']);
    t.strictSame(s.kernel.read(s.other, { sysctls: [FORWARDING] }).sysctls, [{ key: FORWARDING, value: '0' }]);
  },

  'steps go on after one that fails, and every failure names its step': (t, s) => {
    const steps = [
      add.link({ name: 'br0', kind: 'bridge', up: true }),
      add.link({ name: 'br0', kind: 'bridge' }),
      add.address({ device: 'br0', address: '10.1.0.1/24' }),
      add.route({ destination: '10.8.0.0/16', via: '10.77.0.1' }),
      sysctl('net/ipv4/nope', '1'),
      remove.neighbour({ device: 'br0', ip: '10.1.0.9', mac: '02:00:00:00:00:99' }),
      add.neighbour({ device: 'nope', ip: '10.1.0.9', mac: '02:00:00:00:00:99' }),
      add.route({ destination: '10.9.0.0/16', via: '10.1.0.2' }),
      remove.link({ name: 'nope', kind: 'veth' }),
      set('br0', { mtu: 20 }),
    ];
    const failures = s.kernel.apply(s.namespace, steps);
    t.strictSame(
      failures.map(({ step, error }) => [steps.indexOf(step), error.errno, error.subject]),
      [
        [1, 'EEXIST', 'br0'],
        [3, 'ENETUNREACH', '10.8.0.0/16'],
        [4, 'ENOENT', 'net/ipv4/nope'],
        [5, 'ENOENT', '10.1.0.9'],
        [6, 'ENODEV', 'nope'],
        [8, 'ENODEV', 'nope'],
        [9, 'EINVAL', 'br0'],
      ],
    );
    t.ok(failures.every(({ error }) => error instanceof NetError && error.code === 'kernel'));
    const { addresses, routes } = read(s, { addresses: ['br0'], routes: { families: [4], device: 'br0' } });
    t.match(addresses[0], { address: '10.1.0.1/24' });
    t.equal(routes.length, 2);
  },

  'a name is another device from one step to the next': (t, s) => {
    must(
      t,
      s,
      add.link({ name: 'x0', kind: 'bridge', up: true }),
      add.address({ device: 'x0', address: '10.1.0.1/24' }),
      remove.link({ name: 'x0', kind: 'bridge' }),
      add.link({ name: 'x0', kind: 'veth', up: true, peer: { name: 'x1' } }),
      add.address({ device: 'x0', address: '10.2.0.1/24' }),
      remove.link({ name: 'x1', kind: 'veth' }),
      add.link({ name: 'x0', kind: 'bridge', up: true }),
      add.address({ device: 'x0', address: '10.3.0.1/24' }),
    );
    t.strictSame(
      read(s, { addresses: ['x0'] }).addresses.flatMap(({ address, scope }) => (scope === 'link' ? [] : address)),
      ['10.3.0.1/24'],
    );
  },

  'many steps travel at once': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    const steps = Array.from({ length: 2000 }, (_, n) =>
      add.route({ destination: `10.${100 + (n >> 8)}.${n & 255}.0/24`, device: 'v0' }),
    );
    t.strictSame(
      s.kernel.apply(s.namespace, [...steps, ...steps.slice(0, 700)]).map(({ error }) => error.errno),
      Array(700).fill('EEXIST'),
    );
    t.equal(read(s, { routes: { families: [4] } }).routes.length, 2000);
  },

  'only what was asked is read': (t, s) => {
    must(
      t,
      s,
      ...pair('v0', 'v1'),
      add.address({ device: 'v0', address: '10.1.0.1/24' }),
      add.route({ destination: '10.9.0.0/16', device: 'v0' }),
    );
    must(t, s, add.neighbour({ device: 'v0', ip: '10.1.0.9', mac: '02:00:00:00:00:99' }));
    t.strictSame(read(s, {}), EMPTY_STATE);
    const found = read(s, {
      links: ['v1', 'nope'],
      neighbours: ['v1', 'nope'],
      fdb: ['nope'],
      sysctls: ['net/nope'],
      addresses: ['v1', 'nope'],
    });
    t.strictSame(
      found.links.map(({ name }) => name),
      ['v1'],
    );
    t.ok(found.addresses.every(({ device }) => device === 'v1'));
    t.strictSame([found.routes, found.neighbours, found.fdb, found.sysctls], [[], [], [], []]);
    const all = read(s, { links: 'all', addresses: 'all' });
    t.strictSame(all.links.map(({ name }) => name).sort(), ['lo', 'v0', 'v1']);
    t.ok(all.addresses.some(({ device, address }) => device === 'v0' && address === ('10.1.0.1/24' as string)));
    t.strictSame(read(s, { addresses: 'all' }).links, []);
  },

  'sysctls are integers': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    const key = 'net/ipv4/conf/v0/rp_filter';
    for (const [written, value] of [
      ['2', '2'],
      ['-1', '-1'],
      [' 3 ', '3'],
      ['1 2', '1'],
      ['0x10', '16'],
      ['', '16'],
    ] as const) {
      must(t, s, sysctl(key, written));
      t.strictSame(sysctls(s, key), [`${key}=${value}`], JSON.stringify(written));
    }
    script(t, s, [
      [sysctl(key, 'one'), 'EINVAL'],
      [sysctl(key, '99999999999'), 'EINVAL'],
      [sysctl('net/ipv6/conf/v0/addr_gen_mode', '9'), 'EINVAL'],
      [sysctl('net/nope', '1'), 'ENOENT'],
      [sysctl('net/ipv4/conf/nope/rp_filter', '1'), 'ENOENT'],
      [sysctl('net/ipv4/conf/v0/constructor', '1'), 'ENOENT'],
    ]);
    t.strictSame(sysctls(s, key, 'net/nope', 'net/ipv4/conf/nope/rp_filter'), [`${key}=16`]);
  },

  'sysctls outside net/ are not touched': (t, s) => {
    for (const key of [
      'kernel/hostname',
      'net/../kernel/hostname',
      'net//ipv4/ip_forward',
      'net/./ipv4/ip_forward',
      '/net/ipv4/ip_forward',
    ]) {
      const [failure] = s.kernel.apply(s.namespace, [sysctl(key, '1')]);
      t.match(failure?.error, { code: 'invalid-config', subject: key });
      t.throws(() => read(s, { sysctls: [key] }), { code: 'invalid-config', subject: key });
    }
  },

  'forwarding for all is forwarding for each': (t, s) => {
    must(t, s, ...pair('v0', 'v1'));
    const of = (family: string, ...names: string[]) =>
      sysctls(s, ...names.map((name) => `net/${family}/conf/${name}/forwarding`)).map((line) => line.split('=')[1]);
    for (const family of ['ipv4', 'ipv6']) {
      t.strictSame(of(family, 'all', 'default', 'v0'), ['0', '0', '0']);
      must(t, s, sysctl(`net/${family}/conf/all/forwarding`, '1'), sysctl(`net/${family}/conf/v1/forwarding`, '0'));
      t.strictSame(of(family, 'all', 'default', 'v0', 'v1'), ['1', '1', '1', '0']);
    }
    t.strictSame(sysctls(s, FORWARDING), [`${FORWARDING}=1`], 'two names of one setting');
    must(t, s, ...pair('w0', 'w1', 2), sysctl(FORWARDING, '0'));
    t.strictSame([of('ipv4', 'all', 'v0', 'w0'), of('ipv6', 'w0')], [['0', '0', '0'], ['1']]);
  },

  'a new device has the defaults': (t, s) => {
    must(
      t,
      s,
      sysctl('net/ipv6/conf/default/accept_ra', '0'),
      sysctl('net/ipv4/conf/default/proxy_arp', '1'),
      ...pair('v0', 'v1'),
    );
    t.strictSame(sysctls(s, 'net/ipv6/conf/v0/accept_ra', 'net/ipv4/conf/v1/proxy_arp'), [
      'net/ipv6/conf/v0/accept_ra=0',
      'net/ipv4/conf/v1/proxy_arp=1',
    ]);
    must(t, s, sysctl('net/ipv6/conf/default/accept_ra', '1'));
    t.strictSame(sysctls(s, 'net/ipv6/conf/v0/accept_ra', 'net/ipv6/conf/lo/accept_ra'), [
      'net/ipv6/conf/v0/accept_ra=0',
      'net/ipv6/conf/lo/accept_ra=1',
    ]);
  },

  'settings the bridge module brings': (t, s) => {
    must(t, s, add.link({ name: 'br0', kind: 'bridge' }));
    const keys = [
      'net/bridge/bridge-nf-call-iptables',
      'net/bridge/bridge-nf-call-ip6tables',
      'net/bridge/bridge-nf-call-arptables',
    ];
    must(t, s, ...keys.map((key) => sysctl(key, '0')));
    t.strictSame(
      sysctls(s, ...keys),
      keys.map((key) => `${key}=0`),
    );
  },

  'IPv6 settings go with IPv6': (t, s) => {
    must(t, s, ...pair('v0', 'v1'), set('v0', { mtu: 1000 }));
    t.strictSame(sysctls(s, 'net/ipv6/conf/v0/accept_ra', 'net/ipv4/conf/v0/rp_filter'), [
      'net/ipv4/conf/v0/rp_filter=0',
    ]);
  },
};
