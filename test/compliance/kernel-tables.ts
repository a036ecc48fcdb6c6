// Tables, chains and rules of nftables.

import { comment, deviceName, rule as words } from '../../model/ruleset.ts';
import type { Case } from './kernel-subject.ts';
import {
  ADDRESSES,
  rule,
  chain,
  contents,
  create,
  declare,
  drop,
  dropChain,
  dropSet,
  flush,
  FORWARD,
  fresh,
  put,
  TABLE,
  table,
  take,
  transactions,
  VERDICTS,
} from './kernel-nft.ts';

export const TABLE_CASES: Readonly<Record<string, Case>> = {
  'a table comes and goes': (t, s) => {
    t.equal(table(s), undefined);
    transactions(t, s, [
      ['delete what is not there', 'ENOENT', drop],
      ['a chain of no table', 'ENOENT', chain('a')],
      ['add', 'ok', create],
      ['add again', 'ok', create],
      ['nothing', 'ok'],
    ]);
    t.strictSame(table(s), { family: 'inet', name: TABLE, chains: [], sets: [] });
    transactions(t, s, [
      [
        'with contents',
        'ok',
        chain('a'),
        chain('b', FORWARD),
        rule('b', 'jump a'),
        declare(ADDRESSES),
        put(ADDRESSES, '10.0.0.1'),
      ],
      ['delete', 'ok', drop],
      ['there and gone at once', 'ok', create, chain('a'), drop],
    ]);
    t.equal(table(s), undefined);
  },

  'chains and rules are read as they were written': fresh((t, s) => {
    const rules = [
      'ip saddr 10.0.0.0/16 accept',
      'iifname "x{;\'" counter packets 0 bytes 0 drop',
      'ip daddr 10.0.0.1 accept comment "hello; jump nowhere @nothing"',
    ];
    transactions(t, s, [
      [
        'fill',
        'ok',
        chain('b', { ...FORWARD, priority: 'filter - 10' }),
        chain('a'),
        ...rules.map((text) => rule('a', text)),
        rule('b', 'jump a'),
      ],
    ]);
    t.strictSame(table(s)?.chains, [
      { name: 'b', base: { ...FORWARD, priority: 'filter - 10' }, rules: ['jump a'] },
      { name: 'a', rules },
    ]);
  }),

  'whatever may be a device name or a comment is one word': fresh((t, s) => {
    const names = [
      'x;{}$(a)`',
      "'",
      '#',
      '%s',
      '@m',
      '$x',
      'jump',
      'eth0}',
      'é',
      'a\u2028b',
      '\u00a0',
      '-',
      '<|>',
      '0',
      '12345678901234',
    ];
    const rules = names.map((name) => words`iifname ${deviceName(name)} drop comment ${comment(`for ${name};`)}`);
    transactions(t, s, [['fill', 'ok', chain('a'), ...rules.map((text) => rule('a', text))]]);
    t.strictSame(table(s)?.chains, [{ name: 'a', rules }]);
  }),

  'chains: again, elsewhere, gone': fresh((t, s) => {
    transactions(t, s, [
      ['two chains', 'ok', chain('a'), chain('b', FORWARD), rule('a', 'accept')],
      ['again', 'ok', chain('a'), chain('b', FORWARD), chain('b')],
      ['another priority', 'ENOTSUP', chain('b', { ...FORWARD, priority: '5' })],
      ['a hook for a chain without', 'ENOTSUP', chain('a', FORWARD)],
      ['another policy', 'ok', chain('b', { ...FORWARD, policy: 'drop' })],
      ['flush what is not there', 'ENOENT', flush('nope')],
      ['delete what is not there', 'ENOENT', dropChain('nope')],
      ['a rule of no chain', 'ENOENT', rule('nope', 'accept')],
      ['delete with rules in it', 'ok', dropChain('a')],
    ]);
    t.strictSame(table(s)?.chains, [{ name: 'b', base: { ...FORWARD, policy: 'drop' }, rules: [] }]);
  }),

  'rules refer to what is there': fresh((t, s) => {
    transactions(t, s, [
      ['chains', 'ok', chain('a'), chain('b', FORWARD), declare(ADDRESSES)],
      ['a jump nowhere', 'ENOENT', rule('a', 'jump nope')],
      ['a goto nowhere', 'ENOENT', rule('a', 'goto nope')],
      ['a set that is not there', 'ENOENT', rule('a', 'ip saddr @nope accept')],
      ['a jump to a hook', 'ENOTSUP', rule('a', 'jump b')],
      ['all right', 'ok', rule('b', 'jump a'), rule('a', 'ip saddr @s accept')],
    ]);
  }),

  'what is referred to stays': fresh((t, s) => {
    transactions(t, s, [
      ['a web', 'ok', chain('a'), chain('c'), chain('b', FORWARD), declare(ADDRESSES), declare(VERDICTS)],
      [
        'of references',
        'ok',
        rule('b', 'jump a'),
        rule('a', 'ip saddr @s accept'),
        put(VERDICTS, '10.0.0.1 : jump c'),
        rule('b', 'ip daddr vmap @m'),
      ],
      ['a chain that is jumped to', 'EBUSY', dropChain('a')],
      ['a chain that a map jumps to', 'EBUSY', dropChain('c')],
      ['a set in use', 'EBUSY', dropSet(ADDRESSES)],
      ['a map in use', 'EBUSY', dropSet(VERDICTS)],
      ['freed too late', 'EBUSY', dropChain('a'), flush('b')],
      ['freed first', 'ok', flush('b'), dropChain('a'), dropSet(ADDRESSES)],
      ['its element first', 'ok', take(VERDICTS, '10.0.0.1'), dropChain('c'), dropSet(VERDICTS)],
    ]);
    t.strictSame(contents(s), { chains: [{ name: 'b', base: FORWARD, rules: [] }], sets: [] });
  }),

  'a chain may call itself only where no packet comes': fresh((t, s) => {
    const names = Array.from({ length: 16 }, (_, at) => `c${at}`);
    transactions(t, s, [
      ['chains', 'ok', chain('a'), chain('c'), chain('b', FORWARD), declare(VERDICTS), rule('a', 'jump c')],
      ['a circle', 'ok', rule('c', 'goto a')],
      ['entered', 'EMLINK', rule('b', 'jump a')],
      ['broken and entered', 'ok', flush('c'), rule('b', 'jump a')],
      ['closed again', 'EMLINK', rule('c', 'jump a')],
      ['closed by a map', 'EMLINK', rule('c', 'ip saddr vmap @m'), put(VERDICTS, '10.0.0.1 : jump a')],
      [
        'deep',
        'ok',
        ...names.map((name) => chain(name)),
        ...names.slice(1).map((name, at) => rule(`c${at}`, `jump ${name}`)),
      ],
      ['too deep', 'EMLINK', rule('b', 'jump c0')],
      ['less deep', 'ok', rule('b', 'jump c1')],
    ]);
  }),

  'a set that counts': fresh((t, s) => {
    const counting = { name: 'counting', type: 'ipv4_addr', counted: true };
    transactions(t, s, [['declared and filled', 'ok', declare(counting), put(counting, '10.0.0.1', '10.0.0.2')]]);
    t.strictSame(contents(s), { chains: [], sets: [{ ...counting, elements: ['10.0.0.1', '10.0.0.2'] }] });
    transactions(t, s, [['one less', 'ok', take(counting, '10.0.0.2')]]);
    t.strictSame(contents(s), { chains: [], sets: [{ ...counting, elements: ['10.0.0.1'] }] });
  }),

  'all or nothing': fresh((t, s) => {
    transactions(t, s, [
      ['a good one', 'ok', chain('a'), declare(ADDRESSES)],
      [
        'undone by its last command',
        'ENOENT',
        chain('c', FORWARD),
        rule('c', 'accept'),
        put(ADDRESSES, '10.0.0.1'),
        dropChain('a'),
        flush('nope'),
      ],
    ]);
    t.strictSame(contents(s), { chains: [{ name: 'a', rules: [] }], sets: [{ ...ADDRESSES, elements: [] }] });
  }),

  'tables of other names and families are others': fresh((t, s) => {
    t.teardown(() => s.kernel.commit({ family: 'ip', table: TABLE, commands: [create, drop] }));
    s.kernel.commit({ family: 'ip', table: TABLE, commands: [create, chain('a')] });
    t.match(s.kernel.readTable('ip', TABLE), { family: 'ip', chains: [{ name: 'a' }] });
    t.strictSame(contents(s), { chains: [], sets: [] });
    t.equal(s.kernel.readTable('inet', `${TABLE}2`), undefined);
  }),
};
