// host-local's cases that differ in their numbers only: where round robin goes on, which configurations are refused.

import type { Case } from './ipam-store.ts';

export const TABLES: readonly Case[] = [
  ...(
    [
      // subnet, taken, last reserved, expected
      ['10.0.0.0/29', [], '', '10.0.0.2/29'],
      ['10.0.0.0/29', [], '10.0.0.4', '10.0.0.5/29'],
      ['10.0.0.0/29', [], '10.0.0.6', '10.0.0.2/29'],
      ['10.0.0.0/29', ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6'], '10.0.0.3', '10.0.0.3/29'],
      ['10.0.0.0/29', ['10.0.0.2', '10.0.0.3'], '', '10.0.0.4/29'],
      ['10.0.0.0/29', [], '10.9.9.9', '10.0.0.2/29'],
      ['10.0.0.0/29', [], 'nonsense', '10.0.0.2/29'],
      ['2001:db8::/126', [], '2001:db8::2', '2001:db8::3/126'],
      ['2001:db8::/126', [], '2001:db8::3', '2001:db8::2/126'],
      ['2001:db8::/64', ['2001:db8::2'], '2001:db8::ffff:ffff:ffff:ffff', '2001:db8::3/64'],
    ] as const
  ).map(
    ([subnet, taken, last, expected]): Case => [
      `${subnet} with ${taken.join(' ') || 'nothing'} taken and "${last}" last gives ${expected}`,
      (t, world) => {
        const held = Object.fromEntries(taken.map((ip) => [ip, 'other\r\neth0']));
        world.put(last === '' ? held : { ...held, 'last_reserved_ip.0': last });
        t.strictSame(world.add(t, 'a', { ranges: [[{ subnet }]] }), [expected]);
        t.equal(world.files()['last_reserved_ip.0'], expected.split('/')[0]);
      },
    ],
  ),
  ...(
    [
      ['too small to allocate from', { ranges: [[{ subnet: '10.1.2.0/31' }]] }],
      ['too small to allocate from', { ranges: [[{ subnet: '2001:db8::/127' }]] }],
      ['host bits set', { ranges: [[{ subnet: '10.1.2.3/24' }]] }],
      ['not in network 10.1.2.0/24', { ranges: [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.3.1' }]] }],
      ['not in network 10.1.2.0/24', { ranges: [[{ subnet: '10.1.2.0/24', rangeEnd: '10.1.3.1' }]] }],
      ['10.1.2.9', { ranges: [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' }]] }],
      ['overlap', { ranges: [[{ subnet: '10.1.2.0/24' }, { subnet: '10.1.0.0/16' }]] }],
      ['range set 0 overlaps with 1', { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.0.0/16' }]] }],
      ['mixed address families', { ranges: [[{ subnet: '10.1.2.0/24' }, { subnet: '2001:db8::/64' }]] }],
      ['empty range set', { ranges: [[]] }],
      ['no IP ranges specified', {}],
    ] as const
  ).map(
    ([words, ipam]): Case => [
      `configuration refused: ${words} ${JSON.stringify(ipam)}`,
      (t, world) => world.refuses(t, 'ADD', 'invalid-config', words, 'a', ipam),
    ],
  ),
  [
    'before 0.3.0 there is one address of a family',
    (t, world) => {
      const ipam = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.2.2.0/24' }]] };
      const words = 'CNI version 0.2.0 does not support more than 1 address per family';
      world.refuses(t, 'ADD', 'invalid-config', words, 'a', ipam, { config: { cniVersion: '0.2.0' } });
    },
  ],
];
