// Ours with other plugins, Debian's and some of the test's own, as libcni calls lists: alone and with the agent.

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { laneOf } from '../cni/lane.ts';
import { type Container, type NetworkList, type Runtime, runtimeOf } from '../cni/libcni.ts';
import { addressesOf, kindOf } from '../cni/observe.ts';
import { container } from '../cni/rows/runtime.ts';
import { ask, HOST, neighbour, OUTSIDE, reaches, serve } from '../cni/rows/traffic.ts';
import { CACHE, type Json, NETWORK, PLUGINS, type Stage } from '../cni/stage.ts';
import { DEBIAN_BIN, OWN_BIN, openTarget } from '../cni/target.ts';
import { compilePrograms, makeHost, SPOOL } from '../support/cni-host.ts';
import { isClean as isCleanHost, until } from '../support/cni-host-checks.ts';

const VERSION = '1.0.0';

/** A runtime for the list; each program is looked for among ours, then among the test's own, then among Debian's. */
function runtimeOn({ machine }: Stage, plugins: readonly Json[], keys: Partial<NetworkList> = {}): Runtime {
  const directoryOf = (type: string): string => {
    if (type.startsWith('flannel')) return OWN_BIN;
    return existsSync(join(DEBIAN_BIN, type)) ? DEBIAN_BIN : PLUGINS;
  };
  const list = { cniVersion: VERSION, name: NETWORK, plugins, ...keys } as const;
  return runtimeOf(list, (verb, config, { containerId = '', netns = '', ifname = '' } = {}) =>
    machine.run(join(directoryOf(String(config.type)), String(config.type)), [], {
      env: {
        ...CACHE,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: containerId,
        CNI_NETNS: netns,
        CNI_IFNAME: ifname,
        CNI_PATH: `${OWN_BIN}:${DEBIAN_BIN}:${PLUGINS}`,
      },
      input: JSON.stringify(config),
    }),
  );
}

const SUBNET_FILE = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`;
const SUBNET_PATH = '/run/subnet.env';

const subnetFile = (stage: Stage) => stage.sh(`printf '${SUBNET_FILE.replaceAll('\n', '\\n')}' > ${SUBNET_PATH}`);

const bridge = (keys: Json = {}): Json => ({ type: 'flannel', bridge: 'br0', isDefaultGateway: true, ...keys });
const flannel = (delegate: Json, keys: Json = {}): Json => ({
  type: 'flannel',
  subnetFile: SUBNET_PATH,
  delegate,
  ...keys,
});
const RANGE = { ranges: [[{ subnet: '10.1.2.0/24' }]] };

/** A plugin of the test's own: a shell script. */
const install = (stage: Stage, name: string, script: string) =>
  stage.sh(`mkdir -p ${PLUGINS}; cat > ${PLUGINS}/${name} <<'END'
#!/bin/sh
${script}
END
chmod +x ${PLUGINS}/${name}`);

const copy = (stage: Stage, program: string, name: string) =>
  stage.sh(`mkdir -p ${PLUGINS}; cp ${DEBIAN_BIN}/${program} ${PLUGINS}/${name}`);

/** Nothing is left of any attachment: no device but bridges, no record, no reservation. */
async function isClean(stage: Stage, ...devices: readonly string[]): Promise<void> {
  const { links } = await stage.observe();
  const others = links.filter((link) => kindOf(link) !== 'bridge' && link.ifname !== 'lo').map(({ ifname }) => ifname);
  assert.deepEqual(others, devices, 'interfaces');
  const files = await stage.sh('find /var/lib/cni -type f -name "*[0-9a-f:]*" 2>/dev/null || :');
  const left = files.split('\n').filter((path) => /\.json$|\/[0-9.]+$/.test(path) && path !== '');
  assert.deepEqual(left, [], 'files');
}

const pair = async (stage: Stage): Promise<[Container, Container]> => [
  await container(stage, 'one'),
  await container(stage, 'two'),
];

/** Both pods come, reach each other, and go, twice. */
async function wholeLife(stage: Stage, runtime: Runtime, addresses: readonly string[], length = 24): Promise<void> {
  const pods = await pair(stage);
  for (const pod of pods) await runtime.add(pod);
  const seen = await Promise.all(pods.map(({ containerId }) => stage.observe(containerId)));
  assert.deepEqual(
    seen.flatMap((pod) => addressesOf(pod.link('eth0'))),
    addresses.map((address) => `${address}/${length}`),
  );
  for (const pod of pods) await runtime.check(pod);
  assert.ok(await reaches(stage, 'one', addresses[1] as string), 'one reaches the other');
  for (const pod of pods) await runtime.del(pod);
  for (const pod of pods) {
    assert.deepEqual(
      (await stage.observe(pod.containerId)).links.map(({ ifname }) => ifname),
      ['lo'],
    );
    await runtime.del({ ...pod, netns: '' });
  }
}

type Scenario = (stage: Stage) => Promise<void>;

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'host-local under another name manages the addresses': async (stage) => {
    await copy(stage, 'host-local', 'other-local');
    const runtime = runtimeOn(stage, [bridge({ ipMasq: true, ipam: { type: 'other-local', ...RANGE } })]);
    await neighbour(stage);
    const pod = await container(stage, 'masqueraded');
    await runtime.add(pod);
    assert.ok(await reaches(stage, 'masqueraded', '192.0.2.2'), 'the neighbour, which knows no way back to the pod');
    await runtime.del(pod);
    await wholeLife(stage, runtime, ['10.1.2.3', '10.1.2.4']);
    await isClean(stage, 'out0');
  },

  'another plugin manages the addresses of pods without a bridge': async (stage) => {
    await copy(stage, 'host-local', 'other-local');
    const routed = { type: 'flannel', mode: 'routed', ipMasq: true, ipam: { type: 'other-local', ...RANGE } };
    const runtime = runtimeOn(stage, [routed]);
    await neighbour(stage);
    const pod = await container(stage, 'masqueraded');
    await runtime.add(pod);
    assert.ok(await reaches(stage, 'masqueraded', '192.0.2.2'), 'the neighbour, which knows no way back to the pod');
    await runtime.del(pod);
    await wholeLife(stage, runtime, ['10.1.2.3', '10.1.2.4'], 32);
    await isClean(stage, 'out0');
    assert.equal(await stage.sh('ip route show proto 251'), '', 'routes to pods');
  },

  'another plugin manages the addresses of pods whose MAC is looked at': async (stage) => {
    await copy(stage, 'host-local', 'other-local');
    const guarded = bridge({ macspoofchk: true, ipam: { type: 'other-local', ...RANGE } });
    const runtime = runtimeOn(stage, [guarded]);
    await wholeLife(stage, runtime, ['10.1.2.2', '10.1.2.3']);
    const pod = { containerId: 'one', ifname: 'eth0', netns: '/run/netns/one' };
    await runtime.add(pod);
    assert.ok(await reaches(stage, 'one', '10.1.2.1'), 'with its own MAC');
    await stage.sh('ip -n one link set eth0 address 02:00:00:00:00:77');
    assert.equal(await reaches(stage, 'one', '10.1.2.1'), false, 'with another');
    await runtime.del(pod);
    await isClean(stage);
    assert.doesNotMatch(await stage.sh('nft list table bridge flannel'), /elements/, 'guards');
  },

  'the delegate macvlan, with its own host-local': async (stage) => {
    await subnetFile(stage);
    await stage.sh('ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up');
    const runtime = runtimeOn(stage, [flannel({ type: 'macvlan', master: 'up0', mode: 'bridge' })]);
    await wholeLife(stage, runtime, ['10.5.1.2', '10.5.1.3']);
    await isClean(stage, 'up1', 'up0');
    const pod = { containerId: 'one', ifname: 'eth0', netns: '/run/netns/one' };
    await runtime.add(pod);
    runtime.forget(pod);
    await stage.sh(`rm ${SUBNET_PATH}`);
    await runtime.del(pod);
    await isClean(stage, 'up1', 'up0');
  },

  'a delegate that fails: its error, and nothing is left': async (stage) => {
    await subnetFile(stage);
    const runtime = runtimeOn(stage, [flannel({ type: 'macvlan', master: 'none' })]);
    const pod = await container(stage, 'pod');
    await assert.rejects(runtime.add(pod), /Link not found|failed to lookup master/);
    await runtime.del(pod);
    await isClean(stage);
    const missing = runtimeOn(stage, [flannel({ type: 'no-such-plugin' })]);
    await assert.rejects(missing.add(pod), /failed to find plugin "no-such-plugin"/);
    await missing.del(pod);
    await isClean(stage);
  },

  'a delegate that has flannel-ipam manage addresses of the same attachment': async (stage) => {
    await subnetFile(stage);
    await copy(stage, 'bridge', 'go-bridge');
    const delegate = { type: 'go-bridge', bridge: 'br7', isGateway: true };
    const runtime = runtimeOn(stage, [flannel(delegate, { ipam: { type: 'flannel-ipam' } })]);
    await wholeLife(stage, runtime, ['10.5.1.2', '10.5.1.3']);
    await isClean(stage);
  },

  'a delegate that executes flannel for the same attachment': async (stage) => {
    await subnetFile(stage);
    const inner = JSON.stringify({ cniVersion: VERSION, name: NETWORK, ...bridge({ ipam: RANGE }) });
    await install(stage, 'outer', `cat > /dev/null; echo '${inner}' | exec ${OWN_BIN}/flannel`);
    const runtime = runtimeOn(stage, [flannel({ type: 'outer' })], { disableCheck: true });
    await wholeLife(stage, runtime, ['10.1.2.2', '10.1.2.3']);
    await isClean(stage);
  },

  'address management that is a wrapper of flannel-ipam': async (stage) => {
    await install(stage, 'wrapper', `sed 's/"wrapper"/"flannel-ipam"/' | ${OWN_BIN}/flannel-ipam`);
    const runtime = runtimeOn(stage, [bridge({ ipam: { type: 'wrapper', ...RANGE } })]);
    await wholeLife(stage, runtime, ['10.1.2.2', '10.1.2.3']);
    await isClean(stage);
  },

  'a plugin that executes flannel with itself without end': async (stage) => {
    await install(stage, 'circle', `exec ${OWN_BIN}/flannel`);
    const runtime = runtimeOn(stage, [bridge({ ipam: { type: 'circle' } })]);
    const pod = await container(stage, 'pod');
    await assert.rejects(runtime.add(pod), /plugins execute each other over 4 deep/);
    await isClean(stage);
  },

  'what a plugin says on standard error reaches the runtime': async (stage) => {
    const result = { cniVersion: VERSION, ips: [{ address: '10.1.2.9/24' }] };
    await install(
      stage,
      'talker',
      `echo "$CNI_COMMAND: words" >&2; [ $CNI_COMMAND != ADD ] || echo '${JSON.stringify(result)}'`,
    );
    await stage.pod();
    const config = { cniVersion: VERSION, name: NETWORK, ...bridge({ ipam: { type: 'talker' } }) };
    assert.equal((await stage.cni('bridge', 'ADD', config)).stderr, 'ADD: words\n');
    assert.equal((await stage.cni('bridge', 'DEL', config)).stderr, 'DEL: words\n');
  },

  'ours, then bandwidth, tuning, firewall and portmap': async (stage) => {
    await neighbour(stage);
    const list = [
      bridge({ ipMasq: true, hairpinMode: true, ipam: RANGE }),
      {
        type: 'bandwidth',
        ingressRate: 80_000_000,
        ingressBurst: 8_000_000,
        egressRate: 80_000_000,
        egressBurst: 8_000_000,
      },
      { type: 'tuning', mtu: 1300, sysctl: { 'net.core.somaxconn': '500' } },
      { type: 'firewall', backend: 'iptables' },
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    ];
    const runtime = runtimeOn(stage, list);
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
    const pod = await container(stage, 'pod', { capabilityArgs: { portMappings } });
    await runtime.add(pod);
    await serve(stage, 'pod', 80);
    assert.equal((await stage.observe('pod')).link('eth0').mtu, 1300);
    assert.match((await ask(stage, { to: '10.1.2.2', port: 80 })) ?? '', /^pod /, 'directly');
    assert.match((await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 })) ?? '', /^pod /, 'by the host port');
    assert.ok(await reaches(stage, 'pod', '192.0.2.2'), 'outwards');
    const unchecked = await runtime.check(pod).catch((error: Error) => error.message);
    // The last one's: Debian's looks for the rules of one family among those of the other (p#819).
    if (unchecked !== undefined) assert.match(unchecked, /^plugin portmap failed: could not check ipv6 dnat/);
    await runtime.del(pod);
    assert.equal(await ask(stage, { from: OUTSIDE, to: HOST.v4, port: 8080 }), undefined, 'after DEL');
    await runtime.del(pod);
    await isClean(stage, 'out0');
    await runtime.add(pod);
    runtime.forget(pod);
    await runtime.del(pod);
    await runtime.del({ ...pod, netns: '' });
  },

  'the last of a list fails: DEL without a result': async (stage) => {
    await copy(stage, 'host-local', 'other-local');
    const failing = { type: 'tuning', sysctl: { 'net.no.such.key': '1' } };
    const runtime = runtimeOn(stage, [bridge({ ipam: { type: 'other-local', ...RANGE } }), failing]);
    const pod = await container(stage, 'pod');
    await assert.rejects(runtime.add(pod), /plugin tuning failed/);
    await runtime.del(pod);
    await isClean(stage);
    await runtime.del(pod);
  },
};

/** The words of a failure, which a rejected test would not print. */
const failureOf = (run: Promise<void>): Promise<string> =>
  run.then(
    () => '',
    (error: unknown) => String(error instanceof Error ? error.stack : error),
  );

/** Notes its verbs; its first ADD lasts until somebody makes the file `go`. */
const NOTING = `echo $CNI_COMMAND >> ${PLUGINS}/calls
[ $CNI_COMMAND = ADD ] || exit 0
mkdir ${PLUGINS}/first 2>/dev/null && until [ -e ${PLUGINS}/go ]; do sleep 0.05; done
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.5.17.9/20"}]}'`;

t.test('the agent is killed while a plugin runs, and away for DEL', async (t) => {
  const host = await makeHost(t, compilePrograms(t), 60);
  const { machine } = host;
  await machine.must('sh', ['-ec', `mkdir ${PLUGINS}; printf '#!/bin/sh\n%s\n' "$0" > ${PLUGINS}/noting`, NOTING]);
  await machine.must('chmod', ['755', `${PLUGINS}/noting`]);
  const calls = () => machine.must('cat', [`${PLUGINS}/calls`]);
  await host.addPods(['pod1']);
  const verb = { config: { ipam: { type: 'noting' } }, environment: { CNI_PATH: PLUGINS } };
  let agent = await host.startAgent();

  const adding = host.one('ADD', 'pod1', verb);
  await until(() => existsSync(host.path(`${PLUGINS}/first`)));
  await agent.kill();
  await machine.must('touch', [`${PLUGINS}/go`]);
  agent = await host.startAgent();
  const { status, output } = await adding;
  t.equal(status, 0, JSON.stringify(output));
  t.equal(await calls(), 'ADD\nDEL\nADD\n', 'what the first one may have reserved is given back');

  await agent.kill();
  t.match(await host.one('DEL', 'pod1', { ...verb, netns: '' }), { status: 0 });
  t.equal(readdirSync(host.path(SPOOL)).length, 1);
  agent = await host.startAgent();
  t.equal(await calls(), 'ADD\nDEL\nADD\nDEL\n', 'executed by the agent itself');
  await isCleanHost(t, host, 'at the end');
  await agent.stop();
});

t.setTimeout(0);
for (const agent of [false, true]) {
  t.test(agent ? 'with the agent' : 'alone', async (t) => {
    const lane = laneOf(openTarget(OWN_BIN, { agent }));
    t.teardown(() => lane.close());
    for (const [name, scenario] of Object.entries(SCENARIOS)) {
      t.test(name, async (t) => t.equal(await failureOf(lane.run(VERSION, scenario)), ''));
    }
  });
}
