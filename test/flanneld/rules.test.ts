// The agent's chains, and whose they are. That nft prints them in these very words: test/root/rules.test.ts.

import t from 'tap';
import { ownsChains, removeRules, type RuleSettings, rulesTable } from '../../flanneld/rules/table.ts';
import { prefix } from '../../model/ip.ts';
import { diffTable, printTable, type Rule, type Table } from '../../model/ruleset.ts';
import { NETWORKS, OTHER_NETWORK, ourLease } from './fixtures/world.ts';

const ALL: RuleSettings = { masquerade: true, masqueradeFullyRandom: true };
const ours = (settings = ALL): Table => rulesTable(NETWORKS, ourLease([4, 6]).subnet, settings);
const others = (): Table => rulesTable({ 4: OTHER_NETWORK }, { 4: prefix('10.99.1.0/24') }, ALL);

const chain = (table: Table, name: string): readonly Rule[] | undefined =>
  table.chains.find((each) => each.name === name)?.rules;

t.test('report 17: masquerade', async (t) => {
  t.same(chain(ours(), 'masquerade-10.244.0.0-16'), [
    'meta mark & 0x00004000 == 0x00004000 return',
    'ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 return',
    'ip daddr 10.244.1.0/24 return',
    'ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random',
    'ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random',
  ]);
  t.same(chain(ours({ ...ALL, masqueradeFullyRandom: false }), 'masquerade-fd00_244__-48'), [
    'meta mark & 0x00004000 == 0x00004000 return',
    'ip6 saddr fd00:244::/48 ip6 daddr fd00:244::/48 return',
    'ip6 daddr fd00:244:0:1::/64 return',
    'ip6 saddr fd00:244::/48 ip6 daddr != ff00::/8 masquerade',
    'ip6 saddr != fd00:244::/48 ip6 daddr fd00:244::/48 masquerade',
  ]);
  t.equal(chain(ours({ ...ALL, masquerade: false }), 'masquerade-10.244.0.0-16'), undefined);
  const unmasqueraded = [prefix('10.0.0.0/8'), prefix('2001:db8::/32'), prefix('192.0.2.9/32')];
  const exempting = ours({ ...ALL, unmasqueraded });
  t.same(chain(exempting, 'masquerade-10.244.0.0-16')?.slice(2, 6), [
    'ip daddr 10.244.1.0/24 return',
    'ip saddr 10.244.0.0/16 ip daddr 10.0.0.0/8 return',
    'ip saddr 10.244.0.0/16 ip daddr 192.0.2.9 return',
    'ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random',
  ]);
  t.same(chain(exempting, 'masquerade-fd00_244__-48')?.[3], 'ip6 saddr fd00:244::/48 ip6 daddr 2001:db8::/32 return');
});

t.test('a subnet outside of the Network, which pods keep: they are masqueraded too', async (t) => {
  const kept = rulesTable(
    { 4: OTHER_NETWORK },
    { 4: prefix('10.244.1.0/24') },
    { ...ALL, unmasqueraded: [prefix('10.0.0.0/8')] },
  );
  t.same(kept.chains[0]?.rules, [
    'meta mark & 0x00004000 == 0x00004000 return',
    'ip saddr 10.99.0.0/16 ip daddr 10.99.0.0/16 return',
    'ip saddr 10.244.1.0/24 ip daddr 10.99.0.0/16 return',
    'ip daddr 10.244.1.0/24 return',
    'ip saddr 10.99.0.0/16 ip daddr 10.0.0.0/8 return',
    'ip saddr 10.244.1.0/24 ip daddr 10.0.0.0/8 return',
    'ip saddr 10.99.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random',
    'ip saddr 10.244.1.0/24 ip daddr != 224.0.0.0/4 masquerade fully-random',
    'ip saddr != 10.99.0.0/16 ip daddr 10.99.0.0/16 masquerade fully-random',
  ]);
});

t.test('nothing is in the way of forwarded packets', async (t) => {
  t.same(new Set(ours().chains.map(({ base }) => base?.hook)), new Set(['postrouting']));
  t.same(ours({ ...ALL, masquerade: false }).chains, []);
});

/** What two agents and the CNI plugin have put into the table. */
const SHARED: Table = {
  ...ours(),
  chains: [...ours().chains, ...others().chains, { name: 'cni-hostports', rules: [] }],
  sets: [{ name: 'cni-masqueraded', type: 'ipv4_addr', elements: [] }],
};

t.test('what others have in the table stays', async (t) => {
  const owns = ownsChains([NETWORKS[4], NETWORKS[6]]);
  t.equal(diffTable(SHARED, ours(), owns), undefined, 'what others have there is no difference');
  const off = diffTable(SHARED, ours({ ...ALL, masquerade: false }), owns);
  t.same(
    new Set(off?.commands.map((command) => (command.type === 'chain' ? command.chain.name : command.type))),
    new Set(ours().chains.map(({ name }) => name)),
    'switched off: only ours go',
  );
});

t.test('removal takes our chains, and the table with the last of them', async (t) => {
  t.equal(removeRules(undefined, ownsChains([NETWORKS[4]])), undefined);
  t.same(
    removeRules(ours(), ownsChains([NETWORKS[4], NETWORKS[6]]))?.commands,
    [{ verb: 'delete', type: 'table' }],
    'the table goes when nothing is left',
  );
  const one = removeRules(SHARED, ownsChains([NETWORKS[4]]));
  t.same(
    one?.commands.map((command) => (command.type === 'chain' ? `${command.verb} ${command.chain.name}` : command.type)),
    ['flush masquerade-10.244.0.0-16', 'delete masquerade-10.244.0.0-16'],
  );
  t.equal(removeRules(others(), ownsChains([NETWORKS[4]])), undefined);
  t.match(printTable(others()), /10\.99\.0\.0/);
});
