// 2b, 2c: address management by a foreign plugin, which must be executed with every verb; and ours executed by a foreign
// main plugin.

import assert from 'node:assert/strict';
import { atLeast, VERSIONS } from '../../../cni-plugin/versions.ts';
import { printed, refused, silent } from '../expect.ts';
import { addressesOf } from '../observe.ts';
import { type Json, PLUGINS, type Stage } from '../stage.ts';
import { type Row, since } from '../table.ts';
import { BRIDGE, bridgeConfig, NONE, reserved } from './attached.ts';
import { withPrevious } from './bridge-attach.ts';
import { NO_GC } from './collect.ts';

const NAME = 'noting-ipam';
const CALLS = `${PLUGINS}/calls`;
const ADDRESS = '10.1.2.77/24';

/** Address management that notes what it is called with, and fails with what is in the file `fail`. */
async function install(stage: Stage): Promise<void> {
  const { version } = stage;
  const family = atLeast(version, '1.0.0') ? {} : { version: '4' };
  const result = { cniVersion: version, ips: [{ ...family, address: ADDRESS, gateway: '10.1.2.1' }] };
  await stage.sh(`mkdir -p ${PLUGINS}; cat > ${PLUGINS}/${NAME} <<'END'
#!/bin/sh
echo "$CNI_COMMAND" >> ${CALLS}
cat > ${PLUGINS}/$CNI_COMMAND
[ ! -e ${PLUGINS}/fail ] || { cat ${PLUGINS}/fail; exit 1; }
[ "$CNI_COMMAND" != ADD ] || echo '${JSON.stringify(result)}'
END
chmod +x ${PLUGINS}/${NAME}`);
}

const calls = async (stage: Stage): Promise<string> => (await stage.sh(`cat ${CALLS}`)).trim().replaceAll('\n', ' ');
const given = async (stage: Stage, verb: string): Promise<Json> => JSON.parse(await stage.sh(`cat ${PLUGINS}/${verb}`));
const failing = (stage: Stage, error: Json) => stage.sh(`echo '${JSON.stringify(error)}' > ${PLUGINS}/fail`);

const withForeign = (stage: Stage, keys: Json = {}): Json =>
  bridgeConfig(stage, NONE, { isGateway: true, ipam: { type: NAME, some: 'key' }, ...keys });

const verbs: Row = {
  id: 'foreign address management: ADD, CHECK and DEL with the configuration as it came',
  covers: ['bridge/pod-addresses', 'bridge/check', 'bridge/del', 'libcni/prev-result-chaining'],
  versions: since('0.3.0'),
  async run(stage) {
    await stage.pod();
    await install(stage);
    const config = withForeign(stage);
    const result = printed(await stage.cni('bridge', 'ADD', config));
    assert.deepEqual(addressesOf((await stage.observe('pod')).link('eth0')), [ADDRESS]);
    assert.deepEqual(addressesOf((await stage.observe()).link(BRIDGE)), ['10.1.2.1/24']);
    assert.deepEqual(await given(stage, 'ADD'), config);
    const after = withPrevious(stage, config, result);
    const checks = atLeast(stage.version, '0.4.0');
    if (checks) silent(await stage.cni('bridge', 'CHECK', after), 'CHECK');
    silent(await stage.cni('bridge', 'DEL', after), 'DEL');
    assert.equal(await calls(stage), checks ? 'ADD CHECK DEL' : 'ADD DEL');
    assert.deepEqual(await given(stage, 'DEL'), after);
  },
};

const bareDel: Row = {
  id: 'foreign address management: DEL without a namespace reaches it',
  covers: ['bridge/del-unconfigured', 'skel/del-optional-netns'],
  async run(stage) {
    await install(stage);
    silent(await stage.cni('bridge', 'DEL', withForeign(stage), { netns: '' }), 'DEL');
    assert.equal(await calls(stage), 'DEL');
  },
};

const late: Row = {
  id: 'foreign address management: a late failure of ADD is followed by its DEL',
  covers: ['bridge/release-on-error'],
  async run(stage) {
    await stage.pod();
    await install(stage);
    await stage.sh(`ip link add ${BRIDGE} type bridge; ip addr add 192.0.2.1/24 dev ${BRIDGE}`);
    const msg = /already has an IP address different from 10\.1\.2\.1\/24/;
    refused(stage, await stage.cni('bridge', 'ADD', withForeign(stage)), { msg });
    assert.equal(await calls(stage), 'ADD DEL');
  },
};

const error: Row = {
  id: 'foreign address management: its error is the answer',
  covers: ['skel/typed-error'],
  async run(stage) {
    await stage.pod();
    await install(stage);
    await failing(stage, { code: 11, msg: 'no address at this moment' });
    refused(stage, await stage.cni('bridge', 'ADD', withForeign(stage)), {
      code: 11,
      msg: /no address at this moment/,
    });
  },
};

const status: Row = {
  id: 'foreign address management: STATUS reaches it, and its code the runtime',
  covers: ['libcni/status-code', 'skel/status-calls'],
  versions: ['1.1.0'],
  async run(stage) {
    await install(stage);
    silent(await stage.cni('bridge', 'STATUS', withForeign(stage)), 'STATUS');
    await failing(stage, { code: 51, msg: 'limited connectivity' });
    refused(stage, await stage.cni('bridge', 'STATUS', withForeign(stage)), { code: 51, msg: /limited connectivity/ });
  },
};

const gc: Row = {
  id: 'foreign address management: GC reaches it',
  covers: ['libcni/gc', 'skel/gc-calls'],
  versions: ['1.1.0'],
  defects: [NO_GC],
  async run(stage) {
    await install(stage);
    const config = withForeign(stage, { 'cni.dev/valid-attachments': [] });
    silent(await stage.cni('bridge', 'GC', config), 'GC');
    assert.deepEqual(await given(stage, 'GC'), config);
  },
};

const missing: Row = {
  id: 'foreign address management that is not there',
  covers: ['bridge/release-on-error', 'skel/untyped-error'],
  async run(stage) {
    await stage.pod();
    const config = bridgeConfig(stage, NONE, { ipam: { type: 'no-such-ipam' } });
    refused(stage, await stage.cni('bridge', 'ADD', config), { msg: /failed to find plugin "no-such-ipam"/ });
  },
};

/** Debian's main plugins and static end at 1.0.0. */
const FOREIGN_VERSIONS = VERSIONS.filter((version) => atLeast(version, '0.3.0') && version !== '1.1.0');

const staticIpam: Row = {
  id: 'the foreign plugin static: ADD, CHECK, DEL',
  covers: ['bridge/pod-addresses', 'bridge/check'],
  versions: FOREIGN_VERSIONS,
  async run(stage) {
    await stage.pod();
    const addresses = [
      { address: ADDRESS, gateway: '10.1.2.1' },
      { address: 'fd00::77/64', gateway: 'fd00::1' },
    ];
    const routes = [{ dst: '198.51.100.0/24', gw: '10.1.2.1' }];
    const config = bridgeConfig(stage, NONE, { isGateway: true, ipam: { type: 'static', addresses, routes } });
    const result = printed(await stage.cni('bridge', 'ADD', config));
    const pod = await stage.observe('pod');
    assert.deepEqual(addressesOf(pod.link('eth0')).sort(), [ADDRESS, 'fd00::77/64']);
    assert.ok(pod.routes.some(({ dst, gateway }) => dst === '198.51.100.0/24' && gateway === '10.1.2.1'));
    const after = withPrevious(stage, config, result);
    if (atLeast(stage.version, '0.4.0')) silent(await stage.cni('bridge', 'CHECK', after), 'CHECK');
    silent(await stage.cni('bridge', 'DEL', after), 'DEL');
  },
};

const underPtp: Row = {
  id: 'executed by the foreign main plugin ptp: ADD, CHECK, DEL',
  covers: ['host-local/add-addresses', 'host-local/del-files'],
  versions: FOREIGN_VERSIONS,
  async run(stage) {
    await stage.pod();
    const ipam = { type: stage.target.programs.ipam, subnet: '10.1.2.0/24', routes: [{ dst: '0.0.0.0/0' }] };
    const config = stage.config('ptp', { ipam });
    const result = printed(await stage.cni('ptp', 'ADD', config));
    assert.deepEqual(addressesOf((await stage.observe('pod')).link('eth0')), ['10.1.2.2/24']);
    const after = withPrevious(stage, config, result);
    if (atLeast(stage.version, '0.4.0')) silent(await stage.cni('ptp', 'CHECK', after), 'CHECK');
    silent(await stage.cni('ptp', 'DEL', after), 'DEL');
    assert.deepEqual(await reserved(stage), []);
  },
};

export const DELEGATE_ROWS: readonly Row[] = [verbs, bareDel, late, error, status, gc, missing, staticIpam, underPtp];
