// What host-local does about requests, one case each (reference: its own test suite).

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Case } from './ipam-store.ts';

const ONE = { ranges: [[{ subnet: '10.1.2.0/24' }]] };
const TWO = { ranges: [[{ subnet: '10.1.2.0/24' }, { subnet: '10.2.2.0/24' }], [{ subnet: '2001:db8:1::/64' }]] };

export const BEHAVIOUR: readonly Case[] = [
  [
    'two range sets, routes and resolv.conf: exact result, files, and nothing left after DEL',
    (t, world) => {
      const resolvConf = join(world.root, 'resolv.conf');
      writeFileSync(resolvConf, '# comment\nnameserver 192.0.2.3\nsearch example.org example.com\noptions ndots:5\n');
      const routes = [
        { dst: '0.0.0.0/0' },
        { dst: '::/0' },
        { dst: '192.168.0.0/16', gw: '1.1.1.1' },
        { dst: '2001:db8:2::/64', gw: '2001:db8:3::1' },
      ];
      const request = world.request('dummy', { ...TWO, routes, resolvConf });
      t.strictSame(world.ipam('ADD', request), {
        ok: true,
        ips: [
          { address: '10.1.2.2/24', gateway: '10.1.2.1' },
          { address: '2001:db8:1::2/64', gateway: '2001:db8:1::1' },
        ],
        routes,
        dns: { nameservers: ['192.0.2.3'], search: ['example.org', 'example.com'], options: ['ndots:5'] },
      });
      const last = { 'last_reserved_ip.0': '10.1.2.2', 'last_reserved_ip.1': '2001:db8:1::2' };
      t.strictSame(world.files(), { '10.1.2.2': 'dummy\r\neth0', '2001:db8:1::2': 'dummy\r\neth0', ...last });
      t.match(world.ipam('CHECK', request), { ok: true });
      t.match(world.ipam('DEL', request), { ok: true });
      t.strictSame(world.files(), last);
    },
  ],
  [
    'two interfaces of one container: DEL of one keeps the other',
    (t, world) => {
      t.strictSame(world.add(t, 'dummy', ONE), ['10.1.2.2/24']);
      t.strictSame(world.add(t, 'dummy', ONE, { ifname: 'eth1' }), ['10.1.2.3/24']);
      world.del(t, 'dummy', ONE);
      t.strictSame(world.files(), { '10.1.2.3': 'dummy\r\neth1', 'last_reserved_ip.0': '10.1.2.3' });
    },
  ],
  [
    'a second ADD of an attachment is refused; another interface is not',
    (t, world) => {
      t.strictSame(world.add(t, 'dummy', ONE), ['10.1.2.2/24']);
      t.strictSame(world.add(t, 'other', ONE), ['10.1.2.3/24']);
      world.refuses(
        t,
        'ADD',
        'duplicate-attachment',
        '10.1.2.2 has been allocated to dummy, duplicate allocation is not allowed',
        'dummy',
        ONE,
      );
      t.strictSame(world.add(t, 'dummy', ONE, { ifname: 'eth1' }), ['10.1.2.4/24']);
      world.del(t, 'dummy', ONE);
      t.strictSame(world.add(t, 'dummy', ONE), ['10.1.2.5/24']);
    },
  ],
  [
    'DEL frees a file of the old form, and files with white space around their text',
    (t, world) => {
      world.put({ '10.1.2.7': 'dummy', '10.1.2.8': ' other\r\neth0\n', '10.1.2.9': 'third\n', '10.1.2.10': 'dummy2' });
      for (const id of ['dummy', 'other', 'third']) world.del(t, id, ONE);
      t.strictSame(world.files(), { '10.1.2.10': 'dummy2' });
    },
  ],
  [
    'DEL prefers the exact text to the old form',
    (t, world) => {
      world.put({ '10.1.2.7': 'dummy', '10.1.2.8': 'dummy\r\neth0' });
      world.del(t, 'dummy', ONE);
      t.strictSame(world.files(), { '10.1.2.7': 'dummy' });
      world.del(t, 'dummy', ONE);
      t.strictSame(world.files(), {});
    },
  ],
  [
    'DEL of an unknown container succeeds, twice, and where nothing was ever added',
    (t, world) => {
      world.del(t, 'nobody', ONE);
      world.add(t, 'dummy', ONE);
      world.del(t, 'nobody', ONE);
      world.del(t, 'nobody', ONE);
      t.strictSame(world.files(), { '10.1.2.2': 'dummy\r\neth0', 'last_reserved_ip.0': '10.1.2.2' });
    },
  ],
  [
    'CHECK fails when the reservation file is gone or names another container',
    (t, world) => {
      world.add(t, 'dummy', ONE);
      world.put({ '10.1.2.2': 'somebody\r\neth0' });
      world.refuses(t, 'CHECK', 'check-failed', 'dummy', 'dummy', ONE);
      rmSync(join(world.directory, '10.1.2.2'));
      world.refuses(t, 'CHECK', 'check-failed', 'dummy', 'dummy', ONE);
    },
  ],
  [
    'requested addresses: args.cni.ips, runtimeConfig.ips and CNI_ARGS, one per set, either family',
    (t, world) => {
      const args = (...ips: string[]) => ({ config: { args: { cni: { ips } } } });
      t.strictSame(world.add(t, 'a', TWO, args('10.2.2.88')), ['10.2.2.88/24', '2001:db8:1::2/64']);
      t.strictSame(world.add(t, 'b', TWO, args('2001:db8:1::999', '10.1.2.88')), [
        '10.1.2.88/24',
        '2001:db8:1::999/64',
      ]);
      const runtimeConfig = { ips: ['10.1.2.99/24', '2001:db8:1::77/64'] };
      t.strictSame(world.add(t, 'c', TWO, { config: { runtimeConfig } }), ['10.1.2.99/24', '2001:db8:1::77/64']);
      t.strictSame(world.add(t, 'd', TWO, { cniArgs: 'IgnoreUnknown=1;IP=10.1.2.66' }), [
        '10.1.2.66/24',
        '2001:db8:1::78/64',
      ]);
      t.strictSame(
        world.add(t, 'e', TWO),
        ['10.1.2.67/24', '2001:db8:1::79/64'],
        'round robin goes on after a requested one',
      );
    },
  ],
  [
    'a requested address that is taken, a gateway or in no range: refused, nothing reserved',
    (t, world) => {
      const args = (...ips: string[]) => ({ config: { args: { cni: { ips } } } });
      world.add(t, 'a', TWO, args('10.1.2.88'));
      const before = Object.keys(world.files()).filter((name) => !name.startsWith('last'));
      world.refuses(
        t,
        'ADD',
        'address-taken',
        'requested IP address 10.1.2.88 is not available in range set 10.1.2.1-10.1.2.254,10.2.2.1-10.2.2.254',
        'b',
        TWO,
        args('10.1.2.88'),
      );
      world.refuses(t, 'ADD', 'address-taken', 'gateway', 'b', TWO, args('2001:db8:1::1'));
      world.refuses(
        t,
        'ADD',
        'invalid-config',
        'failed to allocate all requested IPs: 10.9.2.88',
        'b',
        TWO,
        args('10.9.2.88'),
      );
      world.refuses(
        t,
        'ADD',
        'invalid-config',
        'failed to allocate all requested IPs: 10.',
        'b',
        TWO,
        args('10.1.2.70', '10.2.2.71'),
      );
      t.strictSame(
        Object.keys(world.files()).filter((name) => !name.startsWith('last')),
        before,
      );
    },
  ],
  [
    'runtimeConfig.ipRanges come before the configured ones, the flat form before ranges',
    (t, world) => {
      const runtimeConfig = { ipRanges: [[{ subnet: '192.168.9.0/24', rangeStart: '192.168.9.40' }]] };
      const ipam = {
        subnet: '10.1.2.0/24',
        rangeStart: '10.1.2.9',
        gateway: '10.1.2.254',
        ...{ ranges: [[{ subnet: '10.2.2.0/24' }]] },
      };
      t.strictSame(world.add(t, 'a', ipam, { config: { runtimeConfig } }), [
        '192.168.9.40/24',
        '10.1.2.9/24',
        '10.2.2.2/24',
      ]);
    },
  ],
  [
    'when a later set has none left, what earlier sets gave is given back',
    (t, world) => {
      const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.2.2.0/30' }]];
      world.put({ '10.2.2.2': 'other\r\neth0' });
      world.refuses(t, 'ADD', 'no-addresses', 'no IP addresses available in range set: 10.2.2.1-10.2.2.2', 'a', {
        ranges,
      });
      t.strictSame(Object.keys(world.files()), ['10.2.2.2', 'last_reserved_ip.0']);
    },
  ],
  [
    'every address of a range once, in order, never the gateway nor the broadcast address; then none',
    (t, world) => {
      const ranges = [[{ subnet: '10.1.2.0/29', gateway: '10.1.2.4' }]];
      const got = ['a', 'b', 'c', 'd', 'e'].flatMap((id) => world.add(t, id, { ranges }));
      t.strictSame(got, ['10.1.2.1/29', '10.1.2.2/29', '10.1.2.3/29', '10.1.2.5/29', '10.1.2.6/29']);
      world.refuses(t, 'ADD', 'no-addresses', 'no IP addresses available in range set: 10.1.2.1-10.1.2.6', 'f', {
        ranges,
      });
      world.del(t, 'b', { ranges });
      t.strictSame(world.add(t, 'f', { ranges }), ['10.1.2.2/29']);
    },
  ],
  [
    'ranges of a set follow one another and wrap around',
    (t, world) => {
      const ranges = [[{ subnet: '10.1.2.0/30' }, { subnet: '10.3.2.0/29', rangeStart: '10.3.2.5' }]];
      const got = ['a', 'b', 'c'].flatMap((id) => world.add(t, id, { ranges }));
      t.strictSame(got, ['10.1.2.2/30', '10.3.2.5/29', '10.3.2.6/29']);
      world.del(t, 'b', { ranges });
      world.del(t, 'a', { ranges });
      t.strictSame(world.add(t, 'd', { ranges }), ['10.1.2.2/30']);
      t.strictSame(world.add(t, 'e', { ranges }), ['10.3.2.5/29']);
    },
  ],
];
