// Tables as text in nft's words; and that nothing from outside becomes nft text unquoted.

import fc from 'fast-check';
import t from 'tap';
import { type Ip, ip, prefix } from '../../model/ip.ts';
import {
  comment,
  deviceName,
  identifier,
  type NftCommand,
  ownerKey,
  printTable,
  printTransaction,
  type Quoted,
  type Rule,
  rule,
  type Table,
} from '../../model/ruleset.ts';
import { holds } from './holds.ts';

const TABLE: Table = {
  family: 'inet',
  name: 'flannel',
  chains: [
    {
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority: 'filter - 10', policy: 'accept' },
      rules: [
        rule`ip saddr ${prefix('10.5.0.0/16')} accept`,
        rule`iifname ${deviceName('eth0;"'.replace('"', ''))} drop`,
      ],
    },
    { name: 'empty', rules: [] },
  ],
  sets: [
    { name: 'subnets', type: 'ipv4_addr', flags: ['interval', 'constant'], elements: ['10.5.1.0/24', '10.5.2.0/24'] },
    {
      name: 'ports',
      type: 'inet_proto . inet_service',
      gives: 'ipv4_addr . inet_service',
      elements: ['tcp . 80 : 10.5.1.2 . 8080'],
    },
    { name: 'bare', type: 'ipv6_addr', flags: [], elements: [] },
  ],
};

t.test('a table reads as nft lists it', async (t) => {
  t.equal(
    printTable(TABLE),
    `table inet flannel {
	set subnets {
		type ipv4_addr
		flags interval,constant
		elements = { 10.5.1.0/24, 10.5.2.0/24 }
	}

	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 80 : 10.5.1.2 . 8080 }
	}

	set bare {
		type ipv6_addr
	}

	chain forward {
		type filter hook forward priority filter - 10; policy accept;
		ip saddr 10.5.0.0/16 accept
		iifname "eth0;" drop
	}

	chain empty {
	}
}
`,
  );
  t.equal(printTable({ family: 'ip6', name: 'x', chains: [], sets: [] }), 'table ip6 x {\n}\n');
});

t.test('a transaction is one command a line', async (t) => {
  const set = { name: 's', type: 'ipv4_addr', flags: ['interval'] };
  const map = { name: 'm', type: 'ipv4_addr', gives: 'verdict' };
  const base = { type: 'nat', hook: 'postrouting', priority: 'srcnat', policy: 'accept' } as const;
  const commands: readonly (readonly [NftCommand, string])[] = [
    [{ verb: 'add', type: 'table' }, 'add table inet t'],
    [{ verb: 'delete', type: 'table' }, 'delete table inet t'],
    [{ verb: 'add', type: 'chain', chain: { name: 'c' } }, 'add chain inet t c'],
    [
      { verb: 'add', type: 'chain', chain: { name: 'c', base } },
      'add chain inet t c { type nat hook postrouting priority srcnat; policy accept; }',
    ],
    [{ verb: 'flush', type: 'chain', chain: { name: 'c' } }, 'flush chain inet t c'],
    [{ verb: 'delete', type: 'chain', chain: { name: 'c' } }, 'delete chain inet t c'],
    [{ verb: 'add', type: 'rule', chain: 'c', rule: rule`accept` }, 'add rule inet t c accept'],
    [{ verb: 'add', type: 'set', set }, 'add set inet t s { type ipv4_addr; flags interval; }'],
    [{ verb: 'add', type: 'set', set: map }, 'add map inet t m { type ipv4_addr : verdict; }'],
    [{ verb: 'flush', type: 'set', set }, 'flush set inet t s'],
    [{ verb: 'delete', type: 'set', set: map }, 'delete map inet t m'],
    [
      { verb: 'add', type: 'element', set, elements: ['10.0.0.0/24', '10.1.0.1'] },
      'add element inet t s { 10.0.0.0/24, 10.1.0.1 }',
    ],
    [{ verb: 'delete', type: 'element', set: map, elements: ['10.0.0.1'] }, 'delete element inet t m { 10.0.0.1 }'],
  ];
  const transaction = { family: 'inet', table: 't', commands: commands.map(([command]) => command) } as const;
  t.strictSame(printTransaction(transaction).split('\n'), [...commands.map(([, line]) => line), '']);
});

t.test('a rule from typed parts', async (t) => {
  t.equal(
    rule`ip saddr ${prefix('10.5.0.0/16')} ip daddr != ${ip('10.5.1.1')} accept`,
    'ip saddr 10.5.0.0/16 ip daddr != 10.5.1.1 accept',
  );
  t.equal(
    rule`ip6 saddr ${ip('FD00::0:1')} tcp dport ${80} jump ${identifier('pod-1.x')}`,
    'ip6 saddr fd00::1 tcp dport 80 jump pod-1.x',
  );
  t.equal(
    rule`  oifname ${deviceName('flannel.1')}
       counter   comment ${comment('why;')}  `,
    'oifname "flannel.1" counter comment "why?"',
  );
  t.equal(rule`iifname ${deviceName('a\u2028b')} drop`, 'iifname "a\u2028b" drop', 'a part stays as it is');
  t.equal(rule`${prefix('::/0')}${1}`, '::/01', 'parts stand where they are put');
});

t.test('what is no typed part is refused, whatever TypeScript was told', async (t) => {
  const hostile = [
    'x; flush ruleset',
    'a b',
    '',
    '10.0.0.1; drop',
    '10.0.0.1\n',
    '"a"b"',
    '"a',
    '"a\nb"',
    '@set',
    '$x',
    'x{',
    '1.5',
    '-1',
    'é',
    'a'.repeat(128),
    '10.0.0.0-10.0.0.9',
  ];
  for (const text of hostile)
    t.throws(() => rule`ip saddr ${text as Ip} accept`, { name: 'NetError', code: 'internal' }, JSON.stringify(text));
  for (const value of [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, undefined, null, {}, ['x; y']]) {
    if (
      String(value) === 'undefined' ||
      String(value) === 'null' ||
      String(value) === 'NaN' ||
      String(value) === 'Infinity'
    )
      continue;
    t.throws(() => rule`tcp dport ${value as number}`, { code: 'internal' }, String(value));
  }
});

t.test('identifiers', async (t) => {
  for (const text of ['a', '_', 'flannel.10.5.0.0-16', 'a/b', 'A9', 'x'.repeat(127)]) t.equal(identifier(text), text);
  for (const text of ['', '9a', '-a', '.a', 'a b', 'a;', 'a"', 'a\n', '\na', 'ä', 'x'.repeat(128)])
    t.throws(() => identifier(text), { name: 'NetError', code: 'internal' }, JSON.stringify(text));
  t.equal(ownerKey(prefix('10.5.0.0/16')), '10.5.0.0-16');
  t.equal(ownerKey(prefix('fd00:1::/56')), 'fd00_1__-56');
  for (const network of ['10.5.0.0/16', 'fd00:1::/56', '::/0'])
    t.equal(identifier(`subnets-${ownerKey(prefix(network))}`), `subnets-${ownerKey(prefix(network))}`);
});

t.test('device names the kernel allows are quoted or refused, never anything else', async (t) => {
  for (const name of ['eth0', 'flannel.1', "x;{}$(a)`'", 'é', 'a@b', '#', '%s', 'a\u2028\u00a0b', '123456789012345'])
    t.equal(deviceName(name), `"${name}"`);
  for (const name of [
    '',
    'a"',
    '"',
    'a b',
    'a\tb',
    'a\nb',
    'a\0',
    '\x7f',
    '\x1b[0m',
    'a/b',
    'eth*',
    'a\\',
    'x'.repeat(16),
  ]) {
    t.throws(() => deviceName(name), { name: 'NetError', code: 'invalid-config', subject: name }, JSON.stringify(name));
  }
});

/** Where nft would see the quoted text end. */
const closes = (quoted: Quoted): boolean => /^"[^"\\\n\r\0]*"$/.test(quoted);

t.test('hostile text stays inside its quotes', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('"', '\\', '\n', ';', '{', '}', '#', '$', '@', '*', ' ', 'a', '\0', '\u2028', '”'),
    }),
  );
  holds(
    t,
    fc.property(text, (hostile) => {
      const quoted = comment(hostile);
      if (!closes(quoted) || quoted.length > 129) throw new Error(`comment ${quoted}`);
      if (rule`accept comment ${quoted}` !== `accept comment ${quoted}`) throw new Error(`rule with ${quoted}`);
      let name: Quoted | undefined;
      try {
        name = deviceName(hostile);
      } catch (error) {
        if ((error as { code?: string }).code !== 'invalid-config') throw error;
      }
      if (name !== undefined && (!closes(name) || rule`iifname ${name} drop` !== `iifname "${hostile}" drop`))
        throw new Error(`device ${name}`);
      try {
        const found = rule`jump ${hostile as Ip}`;
        if (!/^jump ([A-Za-z_][\w./-]*|[0-9a-f:.]+(\/\d+)?|"[^"\n]*")$/.test(found)) throw new Error(`rule ${found}`);
      } catch (error) {
        if ((error as { code?: string }).code !== 'internal') throw error;
      }
    }),
  );
});

t.test('comments keep what can be kept', async (t) => {
  t.equal(comment('ns/pod-1: a@b, 10.0.0.1/24 +x=_'), '"ns/pod-1: a@b, 10.0.0.1/24 +x=_"');
  t.equal(comment('a"; drop; #\n'), '"a?? drop? ??"');
  t.equal(comment('x'.repeat(200)).length, 129);
});

t.test('rules are words, kept as they are', async (t) => {
  const words = 'ct state 0x2,0x4 accept' as Rule;
  t.equal(
    printTransaction({ family: 'ip', table: 't', commands: [{ verb: 'add', type: 'rule', chain: 'c', rule: words }] }),
    `add rule ip t c ${words}\n`,
  );
});
