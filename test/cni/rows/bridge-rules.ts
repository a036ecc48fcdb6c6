// 2c: what the bridge plugin does to firewalls: ipMasq and macspoofchk.

import assert from 'node:assert/strict';
import { atLeast } from '../../../cni-plugin/versions.ts';
import type { CaseId } from '../catalogue.ts';
import { printed, silent } from '../expect.ts';
import { kindOf } from '../observe.ts';
import type { Json, Stage } from '../stage.ts';
import { type Defect, REFERENCE, type Row, since } from '../table.ts';
import { BRIDGE, bridgeConfig, DUAL, hostEnd, V4 } from './attached.ts';
import { withPrevious } from './bridge-attach.ts';
import { lacks } from './bridge-options.ts';
import { HOST, misses, NEIGHBOUR, neighbour, reaches } from './traffic.ts';

/** Every rule there is, of both worlds. */
export const rules = (stage: Stage): Promise<string> => stage.sh('nft --stateless list ruleset 2>/dev/null || :');

/** Traffic of a pod that its neighbour has no route back to. */
async function masquerades(stage: Stage, keys: Json): Promise<void> {
  await stage.pod();
  await neighbour(stage);
  const config = bridgeConfig(stage, DUAL, { ipMasq: true, ...keys });
  const added = printed(await stage.cni('bridge', 'ADD', config));
  assert.ok(await reaches(stage, 'pod', NEIGHBOUR.v4), 'IPv4 is masqueraded');
  assert.ok(await reaches(stage, 'pod', NEIGHBOUR.v6), 'IPv6 is masqueraded');
  assert.ok(await reaches(stage, 'pod', HOST.v4), 'the host answers');
  const after = withPrevious(stage, config, added);
  if (atLeast(stage.version, '0.4.0')) silent(await stage.cni('bridge', 'CHECK', after), 'CHECK');
  silent(await stage.cni('bridge', 'DEL', after), 'DEL');
  assert.doesNotMatch(await rules(stage), /192\.168\.0\.2\b|fd00::2\b/, "no rule speaks of the pod's addresses");
}

const masqueradeRow = (backend: string, covers: readonly CaseId[], keys: Json, more: Partial<Row> = {}): Row => ({
  id: `ipMasq, backend ${backend}`,
  covers,
  versions: since('0.3.0'),
  run: (stage) => masquerades(stage, keys),
  ...more,
});

const without: Row = {
  id: 'without ipMasq nothing is masqueraded',
  covers: ['bridge/masquerade-default'],
  async run(stage) {
    await stage.pod();
    await neighbour(stage);
    printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)));
    assert.ok(await reaches(stage, 'pod', HOST.v4), 'the host answers');
    assert.ok(await misses(stage, 'pod', NEIGHBOUR.v4), 'the neighbour knows no way back');
  },
};

const nftTable: Row = {
  id: 'ipMasqBackend nftables uses no iptables',
  covers: ['bridge/masquerade-nftables'],
  defects: [lacks('ipMasqBackend')],
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { ipMasq: true, ipMasqBackend: 'nftables' });
    printed(await stage.cni('bridge', 'ADD', config));
    const found = await rules(stage);
    assert.match(found, /10\.1\.2\./, 'a rule or an element for the address or its subnet');
    assert.doesNotMatch(found, /table ip nat|CNI-/, 'no chain of iptables');
  },
};

const LEAKS: Defect = {
  releases: REFERENCE,
  what: 'DEL without a namespace leaves the rules of ipMasq',
  cites: 'cni.md 3, problem 5 (p#810)',
};

const leaks: Row = {
  id: 'DEL without the namespace leaves no rule for the address',
  covers: ['bridge/masquerade-default', 'bridge/del-unconfigured'],
  defects: [LEAKS],
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { ipMasq: true });
    printed(await stage.cni('bridge', 'ADD', config));
    await stage.sh('ip netns delete pod');
    silent(await stage.cni('bridge', 'DEL', config, { netns: '' }), 'DEL');
    assert.doesNotMatch(await rules(stage), /10\.1\.2\.2\b/);
    assert.ok(!(await stage.observe()).links.some((link) => kindOf(link) === 'veth'));
  },
};

const ruleSpoof: Row = {
  id: 'macspoofchk: rules of the bridge family come with ADD and go with DEL',
  covers: ['bridge/macspoof'],
  versions: since('0.3.0'),
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, V4, { macspoofchk: true });
    const added = printed(await stage.cni('bridge', 'ADD', config));
    const host = await stage.observe();
    const marks = [hostEnd(host).ifname, (await stage.observe('pod')).link('eth0').address];
    const about = async () => {
      const found = await stage.sh('nft list tables bridge | while read -r _ f t; do nft list table $f $t; done');
      return marks.filter((mark) => found.includes(mark));
    };
    assert.notDeepEqual(await about(), [], 'the bridge family knows the pod');
    assert.equal(host.link(BRIDGE).ifname, BRIDGE);
    silent(await stage.cni('bridge', 'DEL', withPrevious(stage, config, added)), 'DEL');
    assert.deepEqual(await about(), [], 'and forgets it');
  },
};

const spoof: Row = {
  id: 'macspoofchk: frames with another MAC are dropped',
  covers: ['bridge/macspoof'],
  async run(stage) {
    await stage.pod();
    printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4, { macspoofchk: true })));
    assert.ok(await reaches(stage, 'pod', '10.1.2.1'), 'with its own');
    await stage.sh('ip -n pod link set eth0 address 02:00:00:00:00:99; ip neigh flush dev br0');
    assert.ok(await misses(stage, 'pod', '10.1.2.1'), 'with another');
  },
};

export const BRIDGE_RULE_ROWS: readonly Row[] = [
  masqueradeRow('by default', ['bridge/masquerade-default'], {}),
  masqueradeRow(
    'iptables',
    ['bridge/masquerade-iptables'],
    { ipMasqBackend: 'iptables' },
    {
      versions: since('1.0.0'),
      differs: 'ours has one way to masquerade, whatever backend is named',
    },
  ),
  masqueradeRow(
    'nftables',
    ['bridge/masquerade-nftables'],
    { ipMasqBackend: 'nftables' },
    { versions: since('1.0.0') },
  ),
  without,
  nftTable,
  leaks,
  ruleSpoof,
  spoof,
];
