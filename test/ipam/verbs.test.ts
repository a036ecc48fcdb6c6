// Verbs on a directory: what they answer and what they leave there.

import { existsSync, lstatSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { release, reservations, reserve, verify } from '../../ipam/verbs.ts';
import type { Ip } from '../../model/ip.ts';
import { addressesOf, DUAL, fresh, OTHER, OWNER, put, wanting } from '../support/ipam-directory.ts';

t.test('files and directories: modes, one file under all its names, nothing left after DEL', async (t) => {
  const umask = process.umask(0o022);
  t.teardown(() => process.umask(umask));
  const config = fresh(t, DUAL);
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.2/24', 'fd00::2/64']);
  const found = ['10.1.2.2', 'fd00::2', 'last_reserved_ip.0', 'last_reserved_ip.1'];
  t.strictSame(readdirSync(config.directory).sort(), found);
  for (const name of found) t.equal(lstatSync(join(config.directory, name)).mode & 0o7777, 0o600, name);
  t.equal(lstatSync(config.directory).mode & 0o7777, 0o755);
  t.equal(lstatSync(config.own).mode & 0o7777, 0o700);
  t.strictSame(readdirSync(config.own), ['dummy:eth0']);
  t.equal(lstatSync(join(config.own, 'dummy:eth0')).nlink, 3);
  t.strictSame(release(config, OWNER), ['10.1.2.2', 'fd00::2']);
  t.strictSame(readdirSync(config.own), []);
  t.strictSame(release(config, OWNER), []);
});

t.test('result: gateways, routes, DNS', async (t) => {
  const config = fresh(t, DUAL, { routes: [{ dst: '0.0.0.0/0' }] });
  const resolvConf = join(config.dataDir, 'link');
  put(config.dataDir, { 'resolv.conf': 'nameserver 192.0.2.1\n' });
  symlinkSync('resolv.conf', resolvConf);
  t.strictSame(reserve({ ...config, resolvConf }, OWNER), {
    ips: [
      { address: '10.1.2.2/24', gateway: '10.1.2.1' },
      { address: 'fd00::2/64', gateway: 'fd00::1' },
    ],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: { nameservers: ['192.0.2.1'] },
  });
});

t.test('a resolvConf that is not there or no file: invalid-config, and nothing is reserved', async (t) => {
  const config = fresh(t);
  for (const resolvConf of [join(config.dataDir, 'none'), config.dataDir]) {
    t.throws(() => reserve({ ...config, resolvConf }, OWNER), { code: 'invalid-config', subject: resolvConf });
  }
  t.notOk(existsSync(config.directory));
});

t.test('all or nothing: after a failure neither reservation nor file of ours is left', async (t) => {
  const config = fresh(t, [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.2.2.0/30' }], [{ subnet: 'fd00::/64' }]]);
  put(config.directory, { '10.2.2.2': 'other\r\neth0' });
  t.throws(() => reserve(config, OWNER), { code: 'no-addresses', subject: '10.2.2.1-10.2.2.2' });
  t.strictSame(readdirSync(config.directory), ['10.2.2.2', 'last_reserved_ip.0']);
  t.strictSame(readdirSync(config.own), []);
});

t.test('a duplicate is refused without host-local having been here, and names the address', async (t) => {
  const config = fresh(t);
  reserve(config, OWNER);
  reserve(config, OTHER);
  t.throws(() => reserve(config, OWNER), { code: 'duplicate-attachment', subject: '10.1.2.2' });
  t.throws(() => reserve(wanting(config, '10.1.2.2'), OWNER), { code: 'duplicate-attachment' });
  t.equal(reservations(config).length, 2);
  t.strictSame(release(config, OWNER, ['10.1.2.2' as Ip]), ['10.1.2.2']);
  t.strictSame(addressesOf(reserve(config, OWNER)), ['10.1.2.4/24']);
});

t.test('a duplicate of an attachment that host-local made is refused', async (t) => {
  const config = fresh(t);
  put(config.directory, { lock: '', '10.1.2.9': 'dummy\r\neth0', '10.1.2.10': 'old' });
  t.throws(() => reserve(config, OWNER), { code: 'duplicate-attachment', subject: '10.1.2.9' });
  t.throws(() => reserve(config, { containerId: 'old', ifname: 'eth7' }), {
    code: 'duplicate-attachment',
    subject: '10.1.2.10',
  });
  t.strictSame(addressesOf(reserve(config, OTHER)), ['10.1.2.2/24']);
});

t.test(
  'an empty file in place of a requested address is freed; one of an address in the way of none is left',
  async (t) => {
    const config = fresh(t);
    put(config.directory, { '10.1.2.2': '', '10.1.2.9': '' });
    t.strictSame(addressesOf(reserve(config, OTHER)), ['10.1.2.3/24']);
    t.ok(existsSync(join(config.directory, '10.1.2.2')));
    t.strictSame(addressesOf(reserve(wanting(config, '10.1.2.9'), OWNER)), ['10.1.2.9/24']);
    t.throws(() => reserve(wanting(config, '10.1.2.3'), { ...OWNER, ifname: 'eth1' }), {
      code: 'address-taken',
      subject: '10.1.2.3',
    });
  },
);

t.test('DEL with known addresses reads the directory only if one of them does not match', async (t) => {
  const config = fresh(t);
  put(config.directory, { '10.1.2.2': 'dummy\r\neth0', '10.1.2.3': 'dummy\r\neth0', '10.1.2.4': 'other\r\neth0' });
  t.strictSame(release(config, OWNER, ['10.1.2.2' as Ip]), ['10.1.2.2'], 'the other one is not looked for');
  put(config.directory, { '10.1.2.2': 'dummy\r\neth0' });
  t.strictSame(release(config, OWNER, ['10.1.2.2', '10.1.2.4'] as Ip[]), ['10.1.2.2', '10.1.2.3'], "never another's");
  t.strictSame(readdirSync(config.directory), ['10.1.2.4']);
});

t.test('CHECK names the file', async (t) => {
  const config = fresh(t, DUAL);
  reserve(config, OWNER);
  const all = ['10.1.2.2', 'fd00::2'] as Ip[];
  verify(config, OWNER, all);
  verify(config, OWNER, []);
  const path = join(config.directory, 'fd00::2');
  writeFileSync(path, 'other\r\neth0');
  t.throws(
    () => verify(config, OWNER, all),
    { code: 'check-failed', subject: join(config.directory, '10.1.2.2') },
    'they are one file',
  );
  release(config, OTHER);
  t.throws(() => verify(config, OWNER, ['fd00::2' as Ip]), { code: 'check-failed', subject: path });
  t.throws(() => verify(config, OWNER, []), { code: 'check-failed', subject: 'dummy' });
  t.throws(() => verify({ ...config, network: 'none' }, OWNER, all), { code: 'check-failed' });
});

t.test('reservations: whose they are, as far as the files say', async (t) => {
  const config = fresh(t);
  t.strictSame(reservations(config), []);
  put(config.directory, {
    '10.1.2.2': 'a\r\neth0',
    '10.1.2.3': ' b\r\neth1\n',
    '10.1.2.4': 'c',
    '10.1.2.5': '',
    '10.1.2.6': 'no owner at all',
    'fd00::2': 'a\r\neth0',
    'FD00::3': 'x',
    'last_reserved_ip.0': '10.1.2.2',
    lock: '',
  });
  const found = new Map(
    reservations(config).map(({ ip, owner }) => [ip as string, owner && `${owner.containerId} ${owner.ifname}`]),
  );
  t.strictSame(
    found,
    new Map([
      ['10.1.2.2', 'a eth0'],
      ['10.1.2.3', 'b eth1'],
      ['10.1.2.4', 'c '],
      ['10.1.2.5', undefined],
      ['10.1.2.6', undefined],
      ['fd00::2', 'a eth0'],
    ]),
  );
});

t.test('an allocation from 2^64 addresses around taken ones is as quick as any', async (t) => {
  const config = fresh(t, [[{ subnet: 'fd00::/64' }]]);
  put(
    config.directory,
    Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`fd00::${(n + 2).toString(16)}`, 'other\r\neth0'])),
  );
  put(config.directory, { 'last_reserved_ip.0': 'fd00::ffff:ffff:ffff:ffff' });
  const before = performance.now();
  t.strictSame(addressesOf(reserve(config, OWNER)), ['fd00::12e/64']);
  t.ok(performance.now() - before < 1000);
  t.equal(statSync(join(config.directory, 'fd00::12e')).size, 'dummy\r\neth0'.length);
});
