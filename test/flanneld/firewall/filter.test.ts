// What becomes of traffic in other people's packet filters, as far as their words are understood.

import t from 'tap';
import type { Traffic } from '../../../flanneld/firewall/condition.ts';
import { type Chains, fateOf, type FilterChain } from '../../../flanneld/firewall/filter.ts';
import { parseIptables } from '../../../flanneld/firewall/iptables-rule.ts';
import { parseNftRule } from '../../../flanneld/firewall/nft-rule.ts';
import { prefix } from '../../../model/ip.ts';

const TRAFFIC: Traffic = {
  what: 'from pods',
  source: prefix('10.244.1.0/24'),
  destination: prefix('10.244.0.0/16'),
  in: 'cni0',
  out: 'flannel.1',
};
const VXLAN: Traffic = { ...TRAFFIC, source: prefix('0.0.0.0/0'), in: 'eth0', protocol: 'udp', port: 8472 };
const V6: Traffic = { what: '', source: prefix('fd00:244::/64'), destination: prefix('fd00:244::/48') };

/** Chains by name; the first is the one that is entered. */
const nft = (chains: Readonly<Record<string, readonly string[]>>, policy: 'accept' | 'drop' = 'accept'): Chains =>
  new Map(
    Object.entries(chains).map(([name, rules], at): [string, FilterChain] => [
      name,
      {
        name,
        handle: at + 1,
        ...(at === 0 && { policy }),
        rules: rules.map((text, number) => parseNftRule({ handle: number + 10, text })),
      },
    ]),
  );

/** "drop" or "accept" for both moods, or "hopeful/wary". */
function verdict(chains: Chains, traffic = TRAFFIC, entry = 'f'): string {
  const [hopeful, wary] = (['hopeful', 'wary'] as const).map(
    (mood) => fateOf(chains, chains.get(entry) as FilterChain, traffic, mood).verdict,
  );
  return hopeful === wary ? (wary as string) : `${hopeful}/${wary}`;
}

t.test('one rule of nft before a drop', async (t) => {
  const cases: readonly (readonly [string, string, Traffic?])[] = [
    ['accept', 'accept'],
    ['counter accept', 'accept'],
    ['counter accept comment "drop { reject"', 'accept'],
    ['log prefix "accept " level debug flags all accept', 'accept'],
    ['return', 'accept'],
    ['ip saddr 10.244.0.0/16 accept', 'accept'],
    ['ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 accept', 'accept'],
    ['ip saddr { 10.0.0.0/8, 192.168.0.0/16 } accept', 'accept'],
    ['ip saddr != 10.244.0.0/16 accept', 'drop'],
    ['ip saddr != { 10.1.0.0/16, 10.2.0.0/16 } accept', 'accept'],
    ['ip saddr 10.244.1.5 accept', 'drop'],
    ['ip saddr 10.244.1.0-10.244.1.255 accept', 'accept/drop'],
    ['ip saddr @pods accept', 'accept/drop'],
    ['ip saddr . ip daddr @pairs accept', 'accept/drop'],
    ['ip6 saddr fd00:244::/48 accept', 'drop'],
    ['ip6 saddr fd00:244::/48 accept', 'accept', V6],
    ['meta nfproto ipv6 accept', 'accept', V6],
    ['meta nfproto ipv6 accept', 'drop'],
    ['meta nfproto ipv4 accept', 'accept'],
    ['iifname "cni0" accept', 'accept'],
    ['iifname "cni*" oifname { "flannel.1", "x" } accept', 'accept'],
    ['iifname "docker0" oifname != "docker0" accept', 'drop'],
    ['iifname "docker0" accept', 'accept/drop', { ...TRAFFIC, in: undefined }],
    ['iifname "lo" accept', 'drop', { ...TRAFFIC, in: undefined }],
    ['ct state established,related accept', 'drop'],
    ['ct state { established, related, new } accept', 'accept'],
    ['ct state vmap { established : accept, related : accept, invalid : drop }', 'drop'],
    ['ct state vmap { invalid : drop, new : jump yes }', 'accept'],
    ['iifname vmap { "cni0" : goto yes, "eth0" : jump no }', 'accept'],
    ['ip saddr vmap @verdicts', 'accept/drop'],
    ['meta mark vmap { 0x1 : accept }', 'accept/drop'],
    ['ct status dnat accept', 'drop'],
    ['tcp dport 22 accept', 'drop'],
    ['meta l4proto { icmp, ipv6-icmp } accept', 'drop'],
    ['limit rate 5/second accept', 'drop'],
    ['meta mark & 0x00004000 == 0x00004000 accept', 'accept/drop'],
    ['fib daddr type local accept', 'accept/drop'],
    ['xt match "set" accept', 'accept/drop'],
    ['queue to 0', 'accept/drop'],
    ['jump yes', 'accept'],
    ['jump empty', 'drop'],
    ['goto empty', 'accept'],
    ['jump nowhere', 'accept/drop'],
    ['meta mark 0x1 jump yes', 'accept/drop'],
    ['jump deep', 'accept/drop'],
    ['udp dport 8472 accept', 'accept', VXLAN],
    ['udp dport { 53, 8000-9000 } accept', 'accept', VXLAN],
    ['udp dport 4789 accept', 'drop', VXLAN],
    ['tcp dport 8472 accept', 'drop', VXLAN],
    ['meta l4proto udp accept', 'accept', VXLAN],
    ['icmpv6 type nd-neighbor-solicit accept', 'drop', VXLAN],
    ['ip saddr 192.168.50.0/24 udp dport 8472 accept', 'drop', VXLAN],
  ];
  for (const [rule, expected, traffic = TRAFFIC] of cases) {
    const chains = nft({ f: [rule, 'counter drop'], yes: ['accept'], no: ['reject'], empty: [], deep: ['jump deep'] });
    t.equal(verdict(chains, traffic), expected, rule);
  }
});

t.test('drops that hold, and those that may', async (t) => {
  for (const [rule, expected] of [
    ['drop', 'drop'],
    ['counter reject with icmpx admin-prohibited', 'drop'],
    ['ip daddr 10.0.0.0/8 drop', 'drop'],
    ['ip daddr 10.244.9.9 drop', 'accept'],
    ['ip saddr @bad drop', 'accept'],
    ['tcp dport 25 reject with tcp reset', 'accept'],
    ['ct state invalid drop', 'accept'],
    ['iifname "eth0" drop', 'accept'],
    ['meta mark 0x1 goto no', 'accept'],
    ['goto no', 'drop'],
  ] as const) {
    t.equal(verdict(nft({ f: [rule], no: ['drop'] })), expected, rule);
  }
  const chains = nft({ f: ['jump a', 'accept'], a: ['ip saddr 10.244.1.0/24 return', 'drop'] }, 'drop');
  t.equal(verdict(chains), 'accept', 'what returns goes on behind the jump');
  const fate = fateOf(
    nft({ f: ['ct state established accept'] }, 'drop'),
    chains.get('a') as FilterChain,
    TRAFFIC,
    'wary',
  );
  t.equal(fate.verdict, 'accept');
  const dropped = nft({ f: ['jump a'], a: ['accept comment "x"', 'drop'] });
  t.match(fateOf(dropped, dropped.get('f') as FilterChain, TRAFFIC, 'wary'), {
    chain: { name: 'a' },
    rule: { handle: 10 },
  });
});

t.test('one rule of iptables before a drop', async (t) => {
  for (const [rule, expected, traffic] of [
    ['-j ACCEPT', 'accept'],
    ['-s 10.244.0.0/16 -m comment --comment "a -j \\"DROP" -j ACCEPT', 'accept'],
    ['! -s 10.244.0.0/16 -j ACCEPT', 'drop'],
    ['-s 10.9.0.0/16 -j ACCEPT', 'drop'],
    ['-i cni+ -o flannel.1 -j ACCEPT', 'accept'],
    ['-i docker0 ! -o docker0 -j ACCEPT', 'drop'],
    ['-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', 'drop'],
    ['-m state --state NEW -j ACCEPT', 'accept'],
    ['-p tcp -m tcp --dport 22 -j ACCEPT', 'drop'],
    ['-p udp -m udp --dport 8472 -j ACCEPT', 'accept', VXLAN],
    ['-p udp -m multiport --dports 53,8472 -j ACCEPT', 'accept', VXLAN],
    ['-p udp -m udp --sport 53 -j ACCEPT', 'drop', VXLAN],
    ['-m limit --limit 5/sec -j ACCEPT', 'drop'],
    ['-m set --match-set pods src -j ACCEPT', 'accept/drop'],
    ['-m addrtype --dst-type LOCAL -j ACCEPT', 'accept/drop'],
    ['-j LOG --log-prefix "ACCEPT "', 'drop'],
    ['-j YES', 'accept'],
    ['-g EMPTY', 'accept'],
    ['-j NFQUEUE --queue-num 1', 'accept/drop'],
  ] as const) {
    const text = `-P f ACCEPT\n-N YES\n-N EMPTY\n-A f ${rule}\n-A f -j REJECT --reject-with icmp-port-unreachable\n-A YES -j ACCEPT\n`;
    t.equal(verdict(parseIptables(text), traffic), expected, rule);
  }
  t.equal(verdict(parseIptables('-P f DROP\n')), 'drop');
  t.equal(parseIptables('-P f DROP\n-A f -m comment --comment "a \\"b" -j DROP\n').get('f')?.rules[0]?.comment, 'a "b');
  t.strictSame([...(parseIptables('\nnonsense\n-A nowhere -j DROP\n') as Map<string, unknown>)], []);
});
