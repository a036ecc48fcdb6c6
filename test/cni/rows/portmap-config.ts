// 2e: portmap's configuration. What would open a port to more than it was asked for must be refused or obeyed.

import assert from 'node:assert/strict';
import type { CaseId } from '../catalogue.ts';
import { printed, refused } from '../expect.ts';
import { PluginError } from '../libcni.ts';
import type { Json, Stage } from '../stage.ts';
import { type Defect, OWN_CODES, type Row, since } from '../table.ts';
import { bridgeConfig, V4 } from './attached.ts';
import { mapped, podWith, WEB } from './portmap.ts';
import { ask, askInVain, HOST, neighbour, OUTSIDE, serve } from './traffic.ts';

/** Keys of later releases: 1.1.1 takes them for something else, or ignores them. */
const lacksKey = (what: string): Defect => ({
  releases: ['1.1.1'],
  what,
  cites: 'cni.md 1b, portmap: "backend (iptables default if usable, nftables), … masqAll", of later releases',
});

const REFUSES =
  'ours has no raw match arguments: text of a configuration never becomes rules (DESIGN.md 6.7); it says so by code 2';

async function direct(stage: Stage, mapping: Json): Promise<void> {
  await stage.pod();
  const prevResult = printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)));
  const config = stage.config('portmap', { prevResult, runtimeConfig: { portMappings: [mapping] } });
  const zero = 'hostPort' in mapping && mapping.hostPort === 0 ? 'host' : 'container';
  const msg = stage.target.ours ? new RegExp(`${zero}Port`) : new RegExp(`Invalid ${zero} port number: 0$`);
  refused(stage, await stage.cni('portmap', 'ADD', config), { ownCode: 7, msg });
}

const invalid = (id: string, covers: CaseId, mapping: Json): Row => ({
  id,
  covers: [covers],
  versions: since('0.3.0'),
  differs: OWN_CODES,
  run: (stage) => direct(stage, mapping),
});

/** A list with these keys lets the neighbour in, by the address it shows. */
async function letsIn(stage: Stage, keys: Json, seen = /^pod 192\.0\.2\.2$/): Promise<void> {
  await neighbour(stage);
  await mapped(stage, keys, V4).add(await podWith(stage, 'pod', WEB));
  await serve(stage, 'pod', 80);
  assert.match((await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 })) ?? 'nothing', seen);
}

/** ADD of a list with these keys is refused. */
async function refusesKeys(stage: Stage, keys: Json, msg: RegExp): Promise<void> {
  await assert.rejects(mapped(stage, keys, V4).add(await podWith(stage, 'pod', WEB)), (error) => {
    assert.ok(error instanceof PluginError);
    assert.match(error.message, msg);
    if (stage.target.ours) assert.equal(error.code, 2, 'unsupported field');
    return true;
  });
}

const nftables: Row = {
  id: 'the backend nftables',
  covers: ['portmap/config-nftables', 'portmap/nftables-rules'],
  async run(stage) {
    await letsIn(stage, { backend: 'nftables' });
  },
};

const conditions: Row = {
  id: 'conditions of nftables: the neighbour is let in, others are not',
  covers: ['portmap/config-nftables-conditions', 'portmap/nftables-conditions'],
  differs: REFUSES,
  defects: [lacksKey('takes the conditions for arguments of iptables')],
  async run(stage) {
    const keys = { backend: 'nftables', conditionsV4: ['ip', 'saddr', '192.0.2.2'] };
    if (stage.target.ours) return refusesKeys(stage, keys, /conditionsV4/);
    await letsIn(stage, keys);
    assert.equal(await askInVain(stage, { to: HOST.v4, port: 8080 }), undefined, 'the host is not');
  },
};

const iptablesConditions: Row = {
  id: 'conditions of iptables: the neighbour is let in, others are not',
  covers: ['portmap/config-add', 'portmap/rules-standard'],
  differs: REFUSES,
  async run(stage) {
    const keys = { conditionsV4: ['-s', '192.0.2.2'] };
    if (stage.target.ours) return refusesKeys(stage, keys, /conditionsV4/);
    await letsIn(stage, keys);
    assert.equal(await askInVain(stage, { to: HOST.v4, port: 8080 }), undefined, 'the host is not');
  },
};

const mixed: Row = {
  id: 'conditions of one backend with the other',
  covers: ['portmap/config-wrong-iptables', 'portmap/config-wrong-nftables'],
  differs: REFUSES,
  defects: [lacksKey('knows no backend')],
  async run(stage) {
    const wrong = (backend: string) =>
      new RegExp(stage.target.ours ? 'conditionsV4' : `${backend} backend was requested`);
    const nft = { backend: 'iptables', conditionsV4: ['ip', 'saddr', '1.2.3.4'] };
    await refusesKeys(stage, nft, wrong('iptables'));
    await stage.sh('ip netns delete pod');
    const ipt = { backend: 'nftables', conditionsV4: ['-s', '1.2.3.4'] };
    const pod = { ...(await podWith(stage, 'pod', WEB)), containerId: 'other' };
    await assert.rejects(mapped(stage, ipt, V4).add(pod), { message: wrong('nftables') });
  },
};

const noIndex: Row = {
  id: 'addresses of prevResult without an interface index',
  covers: ['portmap/config-no-index'],
  versions: since('0.3.0'),
  async run(stage) {
    await neighbour(stage);
    await stage.pod();
    const result = printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4))) as { ips: readonly Json[] };
    const ips = result.ips.map(({ interface: _, ...rest }) => rest);
    const keys = { prevResult: { ...result, ips }, runtimeConfig: { portMappings: [WEB] } };
    const added = printed(await stage.cni('portmap', 'ADD', stage.config('portmap', keys)));
    assert.deepEqual(added.ips, ips, 'and they are handed on without one');
    await serve(stage, 'pod', 80);
    assert.match((await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 })) ?? 'nothing', /^pod /);
  },
};

const externalMark: Row = {
  id: 'externalSetMarkChain, as Kubernetes sets it',
  covers: ['portmap/rules-external-mark'],
  differs: 'ours needs no mark to masquerade and takes the key as it is',
  async run(stage) {
    const chain = 'KUBE-MARK-MASQ';
    await stage.sh(`iptables -t nat -N ${chain}; iptables -t nat -A ${chain} -j MARK --set-xmark 0x4000/0x4000`);
    await letsIn(stage, { externalSetMarkChain: chain });
    if (stage.target.ours) return;
    assert.match(await stage.sh('iptables-save -t nat'), new RegExp(`--dport 8080 -j ${chain}`));
  },
};

const markBit: Row = {
  id: 'markMasqBit',
  covers: ['portmap/rules-mark'],
  differs: 'ours needs no mark to masquerade and takes the key as it is',
  async run(stage) {
    await letsIn(stage, { markMasqBit: 5 });
    assert.match((await ask(stage, { to: '127.0.0.1', port: 8080 })) ?? 'nothing', /^pod /);
    if (!stage.target.ours) assert.match(await stage.sh('iptables-save -t nat'), /--set-xmark 0x20\/0x20/);
  },
};

const masqAll: Row = {
  id: 'masqAll: the pod sees the host instead of its caller',
  covers: ['portmap/nftables-masq-all'],
  differs: 'ours does not hide callers from pods; it says so by code 2',
  defects: [lacksKey('ignores masqAll')],
  async run(stage) {
    const keys = { backend: 'iptables', masqAll: true };
    if (stage.target.ours) return refusesKeys(stage, keys, /masqAll/);
    await letsIn(stage, keys, /^pod 10\.1\.2\.1$/);
  },
};

const snatOff: Row = {
  id: 'snat off: callers from outside come through, localhost and the pod itself do not',
  covers: ['portmap/nftables-snat-off', 'portmap/rules-standard'],
  async run(stage) {
    await letsIn(stage, { snat: false });
    assert.equal(await askInVain(stage, { to: '127.0.0.1', port: 8080 }), undefined, 'localhost');
    assert.equal(await askInVain(stage, { from: 'pod', to: HOST.v4, port: 8080 }), undefined, 'the pod itself');
  },
};

const capitals: Row = {
  id: 'mappings with capital letters, as containerd writes them',
  covers: ['portmap/config-add'],
  async run(stage) {
    await neighbour(stage);
    await stage.pod();
    const prevResult = printed(await stage.cni('bridge', 'ADD', bridgeConfig(stage, V4)));
    const portMappings = [{ HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }];
    printed(
      await stage.cni('portmap', 'ADD', stage.config('portmap', { prevResult, runtimeConfig: { portMappings } })),
    );
    await serve(stage, 'pod', 80);
    assert.match((await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 })) ?? 'nothing', /^pod /);
  },
};

export const PORTMAP_CONFIG_ROWS: readonly Row[] = [
  invalid('hostPort 0', 'portmap/config-host-port', { hostPort: 0, containerPort: 80, protocol: 'tcp' }),
  invalid('a mapping without containerPort', 'portmap/config-container-port', { hostPort: 8080, protocol: 'tcp' }),
  nftables,
  conditions,
  iptablesConditions,
  mixed,
  noIndex,
  externalMark,
  markBit,
  masqAll,
  snatOff,
  capitals,
];
