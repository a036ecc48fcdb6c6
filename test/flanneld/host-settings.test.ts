// The host's settings as /status tells them.

import t from 'tap';
import { hostLines, type HostFacts, type HostSetting, hostSettings } from '../../flanneld/host-settings.ts';
import { printStatus } from '../../flanneld/status.ts';
import { merge } from '../../model/state.ts';
import { rig } from './fixtures/agent.ts';
import { peerLease } from './fixtures/world.ts';

const FACTS: HostFacts = {
  have: merge({
    links: [
      { name: 'cni0', kind: 'bridge', bridge: { nfCallIptables: false, nfCallIp6tables: false } },
      { name: 'flannel.1', kind: 'vxlan', txChecksum: true },
    ],
    sysctls: [
      { key: 'net/ipv4/ip_forward', value: '1' },
      { key: 'net/ipv4/conf/all/rp_filter', value: '0' },
      { key: 'net/ipv4/conf/eth0/rp_filter', value: '0' },
      { key: 'net/bridge/bridge-nf-call-iptables', value: '1' },
    ],
  }),
  families: [4],
  held: [{ key: 'net/ipv4/ip_forward', value: '1' }],
  devices: ['flannel.1'],
  txChecksum: undefined,
  underlay: ['eth0'],
  symmetric: true,
  pods: { 4: 'cni0' },
  policed: false,
};

const withSysctls = (values: Readonly<Record<string, string | undefined>>): HostFacts => {
  const others = FACTS.have.sysctls.filter(({ key }) => !(key in values));
  const sysctls = Object.entries(values).flatMap(([key, value]) => (value === undefined ? [] : [{ key, value }]));
  return { ...FACTS, have: { ...FACTS.have, sysctls: [...others, ...sysctls] } };
};
const named = (settings: readonly HostSetting[], name: string) => settings.find((each) => each.name === name);

t.test('each with its value, and who sees to it', async (t) => {
  t.strictSame(hostSettings(FACTS), [
    { name: 'net/ipv4/ip_forward', value: '1', right: true, done: 'held' },
    { name: 'net/ipv4/conf/eth0/rp_filter', value: '0', right: true, done: 'reported' },
    {
      name: 'cni0 nf_call_iptables',
      value: '0',
      right: true,
      done: 'reported',
      note: 'net/bridge/bridge-nf-call-iptables is 1',
    },
    { name: 'flannel.1 tx-checksum', value: 'on', right: true, done: 'reported' },
  ]);
  t.same(hostLines(hostSettings(FACTS)), ['host: 4 settings are right']);
  t.same(hostLines([]), []);
});

t.test('what is not right', async (t) => {
  const forward = hostSettings(withSysctls({ 'net/ipv4/ip_forward': '0' }));
  t.match(named(forward, 'net/ipv4/ip_forward'), { right: false, note: 'should be 1' });
  t.same(hostLines(forward), ['host: 3 settings are right, 1 not:', '  net/ipv4/ip_forward is 0: should be 1']);

  const rp = 'net/ipv4/conf/eth0/rp_filter';
  for (const [all, own, symmetric, right, note] of [
    ['1', '0', true, true, /^strict, and .* this device alone$/],
    ['1', '0', false, false, /sysctl -w net\.ipv4\.conf\.eth0\.rp_filter=2$/],
    ['0', '1', false, false, /dropped here/],
    ['1', '2', false, true, undefined],
    ['0', '0', false, true, undefined],
  ] as const) {
    const facts = { ...withSysctls({ 'net/ipv4/conf/all/rp_filter': all, [rp]: own }), symmetric };
    const found = named(hostSettings(facts), rp);
    t.equal(found?.right, right, `${all} ${own} ${symmetric}`);
    if (note === undefined) t.equal(found?.note, undefined);
    else t.match(found?.note, note);
  }

  const key = 'net/bridge/bridge-nf-call-iptables';
  t.match(
    named(hostSettings(withSysctls({ [key]: '0' })), 'cni0 nf_call_iptables')?.note,
    /sysctl -w net\.bridge\.bridge-nf-call-iptables=1/,
  );
  t.match(
    named(hostSettings(withSysctls({ [key]: undefined })), 'cni0 nf_call_iptables')?.note,
    /modprobe br_netfilter/,
  );

  const policed = { ...FACTS, policed: true };
  t.match(named(hostSettings(policed), 'cni0 nf_call_iptables'), { right: false, done: 'held', note: /should be 1/ });
  const without = { ...withSysctls({ [key]: undefined }), policed: true };
  t.match(named(hostSettings(without), 'cni0 nf_call_iptables'), { right: false, note: /modprobe br_netfilter/ });
  const on = [{ name: 'cni0', kind: 'bridge', bridge: { nfCallIptables: true, nfCallIp6tables: true } }] as const;
  t.strictSame(named(hostSettings({ ...policed, have: { ...FACTS.have, links: on } }), 'cni0 nf_call_iptables'), {
    name: 'cni0 nf_call_iptables',
    value: '1',
    right: true,
    done: 'held',
  });

  t.match(named(hostSettings({ ...FACTS, txChecksum: false }), 'flannel.1 tx-checksum'), {
    right: false,
    done: 'held',
  });
});

t.test('of an agent at work', async (t) => {
  const node = rig(t, {
    Network: '10.244.0.0/16',
    EnableIPv6: true,
    IPv6Network: 'fd00:244::/48',
    Backend: { Type: 'vxlan' },
  });
  node.store.put(peerLease([4, 6], 2));
  const { agent } = node.start(['--iptables-resync=600']);
  t.equal(agent.status().host, undefined);
  await node.pass(0);
  const { host = [] } = agent.status();
  t.same(
    host.map(({ name, value }) => `${name}=${value}`),
    [
      'net/ipv6/conf/flannel.1/accept_ra=0',
      'net/ipv4/conf/flannel.1/rp_filter=2',
      'net/ipv6/conf/flannel-v6.1/accept_ra=0',
      'net/ipv4/ip_forward=1',
      'net/ipv6/conf/all/forwarding=1',
      'net/ipv4/conf/eth0/rp_filter=0',
      'flannel.1 tx-checksum=on',
      'flannel-v6.1 tx-checksum=on',
    ],
  );
  t.ok(host.every(({ right }) => right));
  t.match(printStatus(agent.status(), 0), 'host: 8 settings are right\n');
  node.kernel.apply(node.kernel.host, [
    { verb: 'change', item: { type: 'sysctl', value: { key: 'net/ipv4/ip_forward', value: '0' } } },
  ]);
  t.match(named(agent.status().host ?? [], 'net/ipv4/ip_forward'), { value: '0', right: false });
  await node.pass(600_000);
  t.match(named(agent.status().host ?? [], 'net/ipv4/ip_forward'), { value: '1', right: true }, 'held');
});
