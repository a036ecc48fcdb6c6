// The transaction from one table to another, as text. That it leads there, from anywhere, is
// test/compliance/kernel-rulesets.ts.

import t, { type Test } from 'tap';
import {
  type BaseChain,
  type Chain,
  diffTable,
  type NftSet,
  type OwnsName,
  printTransaction,
  type Rule,
  type Table,
} from '../../model/ruleset.ts';

const BASE: BaseChain = { type: 'filter', hook: 'forward', priority: 'filter', policy: 'accept' };
const table = (chains: readonly Chain[] = [], sets: readonly NftSet[] = []): Table => ({
  family: 'inet',
  name: 't',
  chains,
  sets,
});
const chain = (name: string, rules: readonly string[] = [], base?: BaseChain): Chain => ({
  name,
  rules: rules as Rule[],
  ...(base && { base }),
});
const set = (name: string, elements: readonly string[], more: Partial<NftSet> = {}): NftSet => ({
  name,
  type: 'ipv4_addr',
  elements,
  ...more,
});
const ours: OwnsName = (name) => !name.startsWith('theirs');

function plans(
  t: Test,
  title: string,
  have: Table | undefined,
  want: Table,
  lines: readonly string[],
  owns = ours,
): void {
  const transaction = diffTable(have, want, owns);
  t.strictSame(transaction === undefined ? [] : printTransaction(transaction).split('\n').slice(0, -1), lines, title);
}

t.test('nothing, where nothing differs', async (t) => {
  const same = table(
    [chain('a', ['accept']), chain('b', ['jump a'], BASE)],
    [set('s', ['10.0.0.1', '10.0.0.2'], { flags: ['interval', 'constant'] })],
  );
  t.equal(diffTable(same, same, ours), undefined);
  const other = table(
    [
      chain('b', ['jump a'], { policy: 'accept', priority: 'filter', hook: 'forward', type: 'filter' }),
      chain('a', ['accept']),
    ],
    [set('s', ['10.0.0.2', '10.0.0.1'], { flags: ['constant', 'interval'] })],
  );
  t.equal(diffTable(same, other, ours), undefined, 'no order but that of rules counts');
  t.equal(diffTable(table([], [set('s', [])]), table([], [set('s', [], { flags: [] })]), ours), undefined);
});

t.test('a new table: whatever is referred to is there first', async (t) => {
  plans(
    t,
    'whole',
    undefined,
    table(
      [chain('b', ['jump a', 'ip daddr vmap @m'], BASE), chain('a', ['ip saddr @s accept'])],
      [set('m', ['10.0.0.1 : jump a'], { gives: 'verdict' }), set('s', ['10.0.0.1'])],
    ),
    [
      'add table inet t',
      'add chain inet t b { type filter hook forward priority filter; policy accept; }',
      'add chain inet t a',
      'add map inet t m { type ipv4_addr : verdict; }',
      'add element inet t m { 10.0.0.1 : jump a }',
      'add set inet t s { type ipv4_addr; }',
      'add element inet t s { 10.0.0.1 }',
      'add rule inet t b jump a',
      'add rule inet t b ip daddr vmap @m',
      'add rule inet t a ip saddr @s accept',
    ],
  );
  plans(t, 'empty', undefined, table(), ['add table inet t']);
});

t.test('what goes is let go of first', async (t) => {
  const have = table(
    [chain('b', ['jump a'], BASE), chain('a', ['ip saddr @s accept']), chain('theirs')],
    [set('m', ['10.0.0.1 : jump a'], { gives: 'verdict' }), set('s', []), set('theirs', [])],
  );
  plans(t, 'all of it', have, table(), [
    'flush chain inet t b',
    'flush chain inet t a',
    'delete map inet t m',
    'delete set inet t s',
    'delete chain inet t b',
    'delete chain inet t a',
  ]);
  plans(t, 'nothing of ours', have, table(), [], () => false);
  plans(
    t,
    'the map stays, its element goes',
    have,
    {
      ...have,
      chains: [have.chains[0] as Chain, chain('theirs')].map((one) => ({ ...one, rules: [] })),
      sets: have.sets.map((one) => ({ ...one, elements: [] })),
    },
    ['flush chain inet t a', 'flush chain inet t b', 'delete element inet t m { 10.0.0.1 }', 'delete chain inet t a'],
  );
});

t.test('a chain is filled anew when any rule differs', async (t) => {
  const have = table([chain('a', ['accept', 'drop'])]);
  for (const rules of [['drop', 'accept'], ['accept'], ['accept', 'drop', 'return'], ['accept', 'drop counter']]) {
    plans(t, rules.join(), have, table([chain('a', rules)]), [
      'flush chain inet t a',
      ...rules.map((rule) => `add rule inet t a ${rule}`),
    ]);
  }
  plans(t, 'no rules', have, table([chain('a')]), ['flush chain inet t a']);
});

t.test('a chain that hangs elsewhere is made anew, its callers letting go of it first', async (t) => {
  const have = table([chain('a', ['jump b']), chain('b', ['drop'])]);
  plans(t, 'to a hook', have, table([chain('a', ['accept']), chain('b', ['drop'], BASE)]), [
    'flush chain inet t b',
    'flush chain inet t a',
    'delete chain inet t b',
    'add chain inet t b { type filter hook forward priority filter; policy accept; }',
    'add rule inet t b drop',
    'add rule inet t a accept',
  ]);
  for (const change of [{ priority: '5' }, { policy: 'drop' }, { hook: 'input' }, { type: 'nat' }] as const) {
    plans(t, JSON.stringify(change), table([chain('b', [], BASE)]), table([chain('b', [], { ...BASE, ...change })]), [
      'flush chain inet t b',
      'delete chain inet t b',
      printTransaction({
        family: 'inet',
        table: 't',
        commands: [{ verb: 'add', type: 'chain', chain: { name: 'b', base: { ...BASE, ...change } } }],
      }).trim(),
    ]);
  }
});

t.test('elements come and go one by one, those that go first', async (t) => {
  plans(t, 'a set', table([], [set('s', ['10.0.0.1', '10.0.0.2'])]), table([], [set('s', ['10.0.0.2', '10.0.0.3'])]), [
    'delete element inet t s { 10.0.0.1 }',
    'add element inet t s { 10.0.0.3 }',
  ]);
  const map = { gives: 'verdict' };
  plans(
    t,
    'a map, by key',
    table([], [set('m', ['10.0.0.1 : drop'], map)]),
    table([], [set('m', ['10.0.0.1 : accept'], map)]),
    ['delete element inet t m { 10.0.0.1 }', 'add element inet t m { 10.0.0.1 : accept }'],
  );
  plans(t, 'one that is wanted twice', table([], [set('s', [])]), table([], [set('s', ['10.0.0.1', '10.0.0.1'])]), [
    'add element inet t s { 10.0.0.1 }',
  ]);
});

t.test('a set of another type is in the way', async (t) => {
  for (const more of [{ type: 'ipv6_addr' }, { gives: 'verdict' }, { flags: ['interval'] }]) {
    t.throws(
      () => diffTable(table([], [set('s', [])]), table([], [set('s', [], more)]), ours),
      { name: 'NetError', code: 'foreign-object', subject: 's' },
      JSON.stringify(more),
    );
  }
});

t.test('many elements take no long time', async (t) => {
  const many = (from: number) =>
    Array.from(
      { length: 20_000 },
      (_, at) => `10.${(from + at) >> 16}.${((from + at) >> 8) & 255}.${(from + at) & 255}`,
    );
  const start = performance.now();
  const transaction = diffTable(table([], [set('s', many(0))]), table([], [set('s', many(10_000))]), ours);
  t.strictSame(
    transaction?.commands.map((command) => command.type === 'element' && command.elements.length),
    [10_000, 10_000],
  );
  t.ok(performance.now() - start < 1000);
});
