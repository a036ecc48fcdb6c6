// Rules of ours in the FORWARD chain of iptables: where they are needed, where they stand, and that any state leads to the
// same one.

import fc from 'fast-check';
import t from 'tap';
import { acceptChange, acceptOptions, acceptRules, type Change, markOf } from '../../../flanneld/firewall/accepts.ts';
import type { Chains } from '../../../flanneld/firewall/filter.ts';
import { nftTransaction } from '../../../flanneld/firewall/hold.ts';
import { parseIptables } from '../../../flanneld/firewall/iptables-rule.ts';
import { legacyCommands } from '../../../flanneld/firewall/legacy.ts';
import type { Site } from '../../../flanneld/firewall/traffic.ts';
import { ip, prefix } from '../../../model/ip.ts';
import { printTransaction } from '../../../model/ruleset.ts';

const SITE: Site = {
  family: 4,
  network: prefix('10.244.0.0/16'),
  subnet: prefix('10.244.1.0/24'),
  pods: 'cni0',
  overlay: 'flannel.1',
  address: ip('192.168.50.1'),
  underlay: 'eth0',
  port: 8472,
};
const NETWORKS = [SITE.network];
const [FROM, TO] = acceptOptions(SITE.network).map((words) =>
  words.map((word) => (word.includes(' ') ? `"${word}"` : word)).join(' '),
) as [string, string];
const OTHER = acceptOptions(prefix('10.99.0.0/16')).map((words) =>
  words.join(' ').replace(/(flanneld forward \S+)/, '"$1"'),
) as [string, string];

interface Table {
  policy: 'ACCEPT' | 'DROP';
  forward: string[];
  /** Undefined: there is no such chain. */
  docker?: string[] | undefined;
}

const chainsOf = ({ policy, forward, docker }: Table): Chains =>
  parseIptables(
    [
      `-P FORWARD ${policy}`,
      ...(docker === undefined ? [] : ['-N DOCKER-USER']),
      ...forward.map((rule) => `-A FORWARD ${rule}`),
      ...(docker ?? []).map((rule) => `-A DOCKER-USER ${rule}`),
    ].join('\n'),
  );

/** The table after the change's command lines. */
function changed(table: Table, change: Change): Table {
  const after: Table = { ...table, forward: [...table.forward], ...(table.docker && { docker: [...table.docker] }) };
  for (const [, , , , verb, chain, place, ...rule] of legacyCommands(change)) {
    const rules = (chain === 'FORWARD' ? after.forward : after.docker) as string[];
    const words = rule.map((word) => (word.includes(' ') ? `"${word}"` : word)).join(' ');
    if (verb === '-D') rules.splice(Number(place) - 1, 1);
    else rules.unshift(words);
  }
  return after;
}

const settled = (table: Table, sites: readonly Site[] = [SITE]): Table => {
  const change = acceptChange(chainsOf(table), sites[0], NETWORKS);
  return change === undefined ? table : changed(table, change);
};

t.test('where they go', async (t) => {
  const cases: readonly (readonly [string, Table, Partial<Table>])[] = [
    ['nothing drops', { policy: 'ACCEPT', forward: [] }, {}],
    ['a policy', { policy: 'DROP', forward: ['-j LOG'] }, { forward: [FROM, TO, '-j LOG'] }],
    ['a rule', { policy: 'ACCEPT', forward: ['-j REJECT'] }, { forward: [FROM, TO, '-j REJECT'] }],
    ['a rule for somebody else', { policy: 'ACCEPT', forward: ['-s 10.1.0.0/16 -j DROP'] }, {}],
    ['accepted by others', { policy: 'DROP', forward: ['-s 10.0.0.0/8 -j ACCEPT', '-d 10.0.0.0/8 -j ACCEPT'] }, {}],
    [
      'accepted one way only',
      { policy: 'DROP', forward: ['-d 10.244.0.0/16 -j ACCEPT'] },
      { forward: [FROM, TO, '-d 10.244.0.0/16 -j ACCEPT'] },
    ],
    [
      'Docker',
      { policy: 'DROP', forward: ['-j DOCKER-USER', '-o docker0 -j DOCKER'], docker: ['-j RETURN'] },
      { docker: [FROM, TO, '-j RETURN'] },
    ],
    [
      'a chain of Docker that nothing leads to',
      { policy: 'DROP', forward: [], docker: ['-j RETURN'] },
      { forward: [FROM, TO] },
    ],
    [
      'a drop before Docker',
      { policy: 'DROP', forward: ['-j DROP', '-j DOCKER-USER'], docker: [] },
      { forward: [FROM, TO, '-j DROP', '-j DOCKER-USER'] },
    ],
    ['one of them is missing', { policy: 'DROP', forward: [TO] }, { forward: [FROM, TO] }],
    ['one of them twice', { policy: 'DROP', forward: [FROM, TO, TO] }, { forward: [FROM, TO] }],
    ['one of them altered', { policy: 'DROP', forward: [FROM, TO.replace('ACCEPT', 'DROP')] }, { forward: [FROM, TO] }],
    ['behind a drop', { policy: 'DROP', forward: ['-j DROP', FROM, TO] }, { forward: [FROM, TO, '-j DROP'] }],
    ['behind rules of the operator', { policy: 'DROP', forward: ['-s 10.244.1.9 -j DROP', FROM, TO] }, {}],
    [
      'in the wrong chain',
      { policy: 'DROP', forward: ['-j DOCKER-USER', FROM, TO], docker: [] },
      { forward: ['-j DOCKER-USER'], docker: [FROM, TO] },
    ],
    ['not needed any more', { policy: 'ACCEPT', forward: ['-j LOG', FROM, TO] }, { forward: ['-j LOG'] }],
    ['of another network', { policy: 'ACCEPT', forward: OTHER }, {}],
    ['besides another network', { policy: 'DROP', forward: OTHER }, { forward: [FROM, TO, ...OTHER] }],
  ];
  for (const [what, table, expected] of cases) {
    const after = settled(table);
    t.strictSame(after, { ...table, ...expected }, what);
    t.equal(acceptChange(chainsOf(after), SITE, NETWORKS), undefined, `${what}: then it is settled`);
  }
  t.strictSame(settled({ policy: 'DROP', forward: ['-j LOG', FROM, TO] }, []).forward, ['-j LOG'], 'not wanted');
});

t.test('in the words of nft', async (t) => {
  const change = acceptChange(chainsOf({ policy: 'DROP', forward: [TO] }), SITE, NETWORKS) as Change;
  t.equal(
    printTransaction(nftTransaction('ip', change)),
    [
      'delete rule ip filter FORWARD handle 1',
      'insert rule ip filter FORWARD ip daddr 10.244.0.0/16 counter accept comment "flanneld forward 10.244.0.0/16"',
      'insert rule ip filter FORWARD ip saddr 10.244.0.0/16 counter accept comment "flanneld forward 10.244.0.0/16"',
      '',
    ].join('\n'),
  );
  t.match(acceptRules(prefix('fd00:244::/48')), [/^ip6 saddr fd00:244::\/48 counter accept comment/, /^ip6 daddr/]);
  t.equal(markOf(prefix('fd00:244::/48')), 'flanneld forward fd00:244::/48');
});

t.test('from any table, one change is enough, and nothing of others is touched', async (t) => {
  const line = fc.constantFrom(
    FROM,
    TO,
    ...OTHER,
    '-j DROP',
    '-j LOG',
    '-i docker0 -j ACCEPT',
    '-s 10.244.0.0/16 -j ACCEPT',
    '-j DOCKER-USER',
    '-m set --match-set x src -j ACCEPT',
  );
  const table = fc.record({
    policy: fc.constantFrom('ACCEPT' as const, 'DROP' as const),
    forward: fc.array(line, { maxLength: 6 }),
    docker: fc.option(
      fc.array(
        line.filter((rule) => !rule.includes('DOCKER')),
        { maxLength: 4 },
      ),
      { nil: undefined },
    ),
  });
  fc.assert(
    fc.property(table, (before) => {
      const valid =
        before.docker === undefined
          ? { ...before, forward: before.forward.filter((rule) => !rule.includes('DOCKER')) }
          : before;
      const after = settled(valid);
      const others = ({ forward, docker = [] }: Table) =>
        [forward, docker].map((rules) => rules.filter((rule) => rule !== FROM && rule !== TO));
      t.strictSame(others(after), others(valid));
      return acceptChange(chainsOf(after), SITE, NETWORKS) === undefined;
    }),
  );
});
