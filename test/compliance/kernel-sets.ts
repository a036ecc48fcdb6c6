// Sets and maps of nftables.

import type { Case } from './kernel-subject.ts';
import {
  ADDRESSES,
  chain,
  contents,
  declare,
  dropSet,
  flushSet,
  fresh,
  PORTS,
  put,
  SUBNETS,
  TABLE,
  take,
  transactions,
  VERDICTS,
} from './kernel-nft.ts';

export const SET_CASES: Readonly<Record<string, Case>> = {
  'sets: again, of another type, gone': fresh((t, s) => {
    transactions(t, s, [
      ['add', 'ok', declare(ADDRESSES), put(ADDRESSES, '10.0.0.1', '10.0.0.2')],
      ['again', 'ok', declare(ADDRESSES), put(ADDRESSES, '10.0.0.1')],
      ['another type', 'EEXIST', declare({ ...ADDRESSES, type: 'ipv6_addr' })],
      ['other flags', 'EEXIST', declare({ ...ADDRESSES, flags: ['interval'] })],
      ['a map', 'EEXIST', declare({ ...ADDRESSES, gives: 'verdict' })],
      ['elements of no set', 'ENOENT', put(SUBNETS, '10.0.0.0/24')],
      ['deleted elements of no set', 'ENOENT', take(SUBNETS, '10.0.0.0/24')],
      ['flush what is not there', 'ENOENT', flushSet(SUBNETS)],
      ['delete what is not there', 'ENOENT', dropSet(SUBNETS)],
      ['an element that is not there', 'ENOENT', take(ADDRESSES, '10.0.0.9')],
      ['one that is and one that is not', 'ENOENT', take(ADDRESSES, '10.0.0.1', '10.0.0.9')],
      ['one that is', 'ok', take(ADDRESSES, '10.0.0.1')],
    ]);
    t.strictSame(contents(s), { chains: [], sets: [{ ...ADDRESSES, elements: ['10.0.0.2'] }] });
    transactions(t, s, [['flush', 'ok', flushSet(ADDRESSES)]]);
    t.strictSame(contents(s), { chains: [], sets: [{ ...ADDRESSES, elements: [] }] });
    transactions(t, s, [['delete', 'ok', dropSet(ADDRESSES)]]);
    t.strictSame(contents(s), { chains: [], sets: [] });
  }),

  'a set that is not there, beside one of a similar name': fresh((t, s) => {
    const [there, missing] = [
      { ...ADDRESSES, name: 'cni-direct-v4' },
      { ...ADDRESSES, name: 'cni-hairpin-v4' },
    ];
    transactions(t, s, [
      ['the one', 'ok', declare(there)],
      ['elements of the other', 'ENOENT', put(missing, '10.0.0.1')],
      ['deleted elements of the other', 'ENOENT', take(missing, '10.0.0.1')],
      ['flush the other', 'ENOENT', flushSet(missing)],
      ['delete the other', 'ENOENT', dropSet(missing)],
    ]);
  }),

  'maps give one thing for a key': fresh((t, s) => {
    transactions(t, s, [
      ['add', 'ok', chain('a'), declare(VERDICTS), put(VERDICTS, '10.0.0.1 : jump a', '10.0.0.2 : accept')],
      ['the same', 'ok', put(VERDICTS, '10.0.0.1 : jump a')],
      ['something else', 'EEXIST', put(VERDICTS, '10.0.0.1 : accept')],
      ['a jump nowhere', 'ENOENT', put(VERDICTS, '10.0.0.3 : jump nope')],
      ['exchanged', 'ok', take(VERDICTS, '10.0.0.1'), put(VERDICTS, '10.0.0.1 : drop')],
      ['host ports', 'ok', declare(PORTS), put(PORTS, 'tcp . 80 : 10.0.0.1 . 8080', 'udp . 53 : 10.0.0.2 . 53')],
      ['taken by their key', 'ok', take(PORTS, 'udp . 53')],
    ]);
    t.match(contents(s), {
      sets: [
        { ...VERDICTS, elements: ['10.0.0.1 : drop', '10.0.0.2 : accept'] },
        { ...PORTS, elements: ['tcp . 80 : 10.0.0.1 . 8080'] },
      ],
    });
  }),

  'elements of every type, one by one and many at once': fresh((t, s) => {
    const sets: readonly (readonly [type: string, elements: readonly string[]])[] = [
      ['ipv4_addr', ['10.0.0.1', '10.0.0.2', '255.255.255.255']],
      ['ipv6_addr', ['::', 'fd00::1', 'fd00:1:2:3:4:5:6:7']],
      ['inet_proto', ['tcp', 'udp', 'sctp']],
      ['inet_service', ['1', '80', '65535']],
      ['ifname', ['"eth0"', '"veth0123456789a"', '"a.b-c_d@e"']],
      ['ifname . ether_addr', ['"a" . 02:00:00:00:00:01', '"b" . 02:00:00:00:00:02']],
      ['ifname . ether_addr . ipv6_addr', ['"a" . 02:00:00:00:00:01 . fd00::1', '"b" . 02:00:00:00:00:02 . fd00::2']],
      ['ipv4_addr . inet_proto . inet_service', ['10.0.0.1 . tcp . 80', '10.0.0.1 . udp . 80']],
    ];
    for (const [type, elements] of sets) {
      const set = { name: 'e', type };
      transactions(t, s, [
        [`${type}`, 'ok', declare(set), ...elements.map((each) => put(set, each))],
        ['again', 'ok', put(set, ...elements)],
        ['all but the first go', 'ok', ...elements.slice(1).map((each) => take(set, each))],
        ['one that is gone, after one that is there', 'ENOENT', ...elements.slice(0, 2).map((each) => take(set, each))],
        ['come and gone', 'ok', put(set, ...elements), take(set, ...elements.slice(1))],
      ]);
      t.match(contents(s), { sets: [{ ...set, elements: elements.slice(0, 1) }] }, type);
      transactions(t, s, [['the set goes', 'ok', dropSet(set)]]);
    }
  }),

  'of maps, elements that give something else, in both families': fresh((t, s) => {
    for (const [type, ours, other] of [
      ['ipv4_addr', '10.0.0.1 . 8080', '10.0.0.2 . 8080'],
      ['ipv6_addr', 'fd00::1 . 8080', 'fd00::2 . 8080'],
    ] as const) {
      const map = { name: 'g', type: 'inet_proto . inet_service', gives: `${type} . inet_service` };
      transactions(t, s, [
        ['one', 'ok', declare(map), put(map, `tcp . 80 : ${ours}`)],
        ['the same', 'ok', put(map, `tcp . 80 : ${ours}`)],
        ['another value, beside what could be added', 'EEXIST', put(map, `udp . 80 : ${ours}`, `tcp . 80 : ${other}`)],
        ['the same in two commands', 'EEXIST', put(map, `tcp . 80 : ${other}`), put(map, `udp . 80 : ${ours}`)],
        ['taken over', 'ok', take(map, 'tcp . 80'), put(map, `tcp . 80 : ${other}`)],
        ['in a map that is not there', 'ENOENT', put({ ...map, name: 'nope' }, `tcp . 80 : ${ours}`)],
      ]);
      t.match(contents(s), { sets: [{ ...map, elements: [`tcp . 80 : ${other}`] }] });
      transactions(t, s, [['the map goes', 'ok', dropSet(map)]]);
    }
  }),

  'intervals do not overlap': fresh((t, s) => {
    transactions(t, s, [['add', 'ok', declare(SUBNETS), put(SUBNETS, '10.0.0.0/24', '10.2.0.0/16', '10.9.0.1')]]);
    for (const command of [
      put(SUBNETS, '10.0.0.0/16'),
      put(SUBNETS, '10.2.3.0/24'),
      put(SUBNETS, '10.9.0.0/30'),
      take(SUBNETS, '10.3.0.0/24'),
      take(SUBNETS, '10.0.0.0/25'),
    ]) {
      const before = contents(s);
      t.throws(
        () => s.kernel.commit({ family: 'inet', table: TABLE, commands: [command] }),
        { code: 'kernel' },
        JSON.stringify(command),
      );
      t.strictSame(contents(s), before);
    }
    transactions(t, s, [
      ['the same', 'ok', put(SUBNETS, '10.0.0.0/24')],
      ['wider', 'ok', take(SUBNETS, '10.0.0.0/24'), put(SUBNETS, '10.0.0.0/16')],
      ['in two halves', 'ok', take(SUBNETS, '10.0.0.0/16'), put(SUBNETS, '10.0.0.0/25', '10.0.0.128/25')],
    ]);
    t.match(contents(s), {
      sets: [{ ...SUBNETS, elements: ['10.0.0.0/25', '10.0.0.128/25', '10.2.0.0/16', '10.9.0.1'] }],
    });
  }),
};
