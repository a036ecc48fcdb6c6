// The masquerading table, and what it takes to get there from any other.

import t from 'tap';
import { prefix } from '../../model/ip.ts';
import { printTable, printTransaction, type Table } from '../../model/ruleset.ts';
import { establish, masqueradeTable } from '../../cni-plugin/masquerade.ts';
import { addElements, missingFrom } from '../../cni-plugin/table.ts';

const WANT = masqueradeTable(
  [prefix('10.5.1.2/24'), prefix('fd00:5:0:1::2/64')],
  [prefix('10.5.0.0/16'), prefix('10.6.0.0/16'), prefix('fd00:5::/48')],
);
const commands = (...args: Parameters<typeof establish>) =>
  printTransaction(establish(...args))
    .trimEnd()
    .split('\n');

t.test('masquerading is elements of one table', async (t) => {
  t.equal(
    printTable(WANT),
    `table inet flannel {
\tset cni-masquerade-v4 {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 10.5.1.0/24 }
\t}

\tset cni-direct-v4 {
\t\ttype ipv4_addr . ipv4_addr
\t\tflags interval
\t\telements = { 10.5.1.0/24 . 10.5.0.0/16, 10.5.1.0/24 . 10.6.0.0/16 }
\t}

\tset cni-masquerade-v6 {
\t\ttype ipv6_addr
\t\tflags interval
\t\telements = { fd00:5:0:1::/64 }
\t}

\tset cni-direct-v6 {
\t\ttype ipv6_addr . ipv6_addr
\t\tflags interval
\t\telements = { fd00:5:0:1::/64 . fd00:5::/48 }
\t}

\tchain cni-masquerade {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr . ip daddr @cni-direct-v4 return
\t\tip saddr @cni-masquerade-v4 ip daddr != 224.0.0.0/4 masquerade
\t\tip6 saddr . ip6 daddr @cni-direct-v6 return
\t\tip6 saddr @cni-masquerade-v6 ip6 daddr != ff00::/8 masquerade
\t}
}
`,
  );
  const own = masqueradeTable([prefix('10.1.2.3/24')], []);
  t.strictSame(own.sets[1]?.elements, ['10.1.2.0/24 . 10.1.2.0/24'], 'without networks: the subnet itself');
  const host = masqueradeTable([prefix('10.1.2.3/32')], []);
  t.strictSame(host.sets[0]?.elements, ['10.1.2.3'], 'as nft lists it');
});

t.test('only the elements', async (t) => {
  t.equal(
    printTransaction(addElements(masqueradeTable([prefix('10.1.2.3/24')], []))),
    'add element inet flannel cni-masquerade-v4 { 10.1.2.0/24 }\n' +
      'add element inet flannel cni-direct-v4 { 10.1.2.0/24 . 10.1.2.0/24 }\n',
  );
});

t.test('all of it, twice over', async (t) => {
  const all = commands(undefined, WANT);
  t.equal(all[0], 'add table inet flannel');
  t.ok(all.indexOf('flush chain inet flannel cni-masquerade') > all.findIndex((line) => line.startsWith('add chain')));
  t.notOk(all.some((line) => line.startsWith('delete')));
});

t.test('elements of ours that overlap give way; all others stay', async (t) => {
  const elements = (set: number, texts: string[]): Table => ({
    ...WANT,
    sets: WANT.sets.map((each, index) => (index === set ? { ...each, elements: texts } : each)),
  });
  const wider = elements(0, ['10.5.0.0/20', '10.7.0.0/24', '10.8.0.1']);
  t.ok(commands(wider, WANT).includes('delete element inet flannel cni-masquerade-v4 { 10.5.0.0/20 }'));
  const pairs = elements(1, ['10.5.1.0/24 . 10.0.0.0/8', '10.7.0.0/24 . 10.5.0.0/16', '10.5.1.0/24 . 10.6.0.0/16']);
  t.ok(commands(pairs, WANT).includes('delete element inet flannel cni-direct-v4 { 10.5.1.0/24 . 10.0.0.0/8 }'));
});

t.test('what is missing', async (t) => {
  t.strictSame(missingFrom(WANT, WANT), []);
  t.strictSame(missingFrom(undefined, WANT), ['nft table inet flannel']);
  const damaged: Table = {
    ...WANT,
    chains: [{ ...WANT.chains[0], rules: [] } as never],
    sets: WANT.sets.map((set) => (set.name === 'cni-masquerade-v4' ? { ...set, elements: ['10.9.0.0/24'] } : set)),
  };
  t.strictSame(missingFrom(damaged, WANT), [
    'the rules of nft chain cni-masquerade',
    '10.5.1.0/24 in nft set cni-masquerade-v4',
  ]);
});
