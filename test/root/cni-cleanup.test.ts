// What is taken away on purpose: by GC, and by `flanneld cleanup` on a host whose agent only served pods. And what the
// runtime is told while that agent is being replaced.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compilePrograms, fullChain, makeHost, NODE, SOCKET, SPOOL } from '../support/cni-host.ts';
import { failures, isClean, onEach, pods, until } from '../support/cni-host-checks.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const MAIN = join(import.meta.dirname, '../../cni-plugin/main.ts');

const FULL = { ...fullChain(), delegate: { isDefaultGateway: true, ipMasq: true, macspoofchk: true } };

t.test('GC takes 100 stale attachments away', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.startAgent();
  const ids = pods(101);
  await host.addPods(ids);
  const added = await host.run(onEach('ADD', ids), 16);
  t.strictSame(failures(added), []);
  const config = { 'cni.dev/valid-attachments': [{ containerID: 'pod100', ifname: 'eth0' }] };
  t.match(await host.one('GC', '', { config }), { status: 0 });
  t.equal((await host.links()).length, 3, 'the valid one, the bridge and lo');
  t.equal(host.files().length, 3, 'its record, its reservation and the file that was linked to it');
  await host.one('DEL', 'pod100');
  await isClean(t, host, 'after DEL');
});

t.test('GC of the program that works without an agent, in groups as well', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.startAgent();
  const ids = pods(21);
  await host.addPods(ids);
  const added = await host.run(onEach('ADD', ids), 16);
  t.strictSame(failures(added), []);
  const monitor = host.machine.start('ip', ['-o', 'monitor', 'link']);
  let seen = '';
  monitor.stdout?.on('data', (chunk) => (seen += chunk));
  await until(async () => {
    await host.machine.must('sh', ['-ec', 'ip link add name watched type bridge; ip link delete watched']);
    return /^Deleted .* watched:/m.test(seen);
  });
  const config = { 'cni.dev/valid-attachments': [{ containerID: 'pod20', ifname: 'eth0' }] };
  const { environment, input } = host.call({ command: 'GC', id: '', config });
  const env = { ...environment, FLANNEL_ARGV0: 'flannel', FLANNEL_CNI_SOCKET: '' };
  t.match(await host.machine.run(NODE, [MAIN], { env, input }), { code: 0, stdout: '' });
  t.equal((await host.links()).length, 3, 'the valid one, the bridge and lo');
  const groups = () => [...seen.matchAll(/^Deleted \d+: veth.* group (\S+)/gm)].map(([, group]) => group);
  await until(() => groups().length === 20);
  t.match([...new Set(groups())], [/^\d+$/], 'all of one group');
  await host.one('DEL', 'pod20');
  await isClean(t, host, 'after DEL');
});

t.test('cleanup leaves nothing but attachments of pods that are there', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  await host.addPods(['pod1']);
  t.match(await host.one('ADD', 'pod1', { config: FULL }), { status: 0 });
  t.match(await host.machine.run(...host.flanneld('cleanup')), { code: 1, stderr: /flanneld is running/ });
  await agent.kill();
  t.match(await host.machine.must(...host.flanneld('cleanup')), /1 attachments of pods stay/);
  t.match(await host.machine.must('nft', ['list', 'ruleset']), /8080/, 'with their ports');
  t.match(await host.one('DEL', 'pod1', { config: FULL }), { status: 0 });
  t.equal(readdirSync(host.path(SPOOL)).length, 1);
  t.match(await host.machine.must(...host.flanneld('cleanup', '--dry-run')), /1 deletions that clients kept/);
  t.equal(readdirSync(host.path(SPOOL)).length, 1);
  const said = await host.machine.must(...host.flanneld('cleanup'));
  t.match(said, /^nft delete table inet flannel\nnft delete table bridge flannel$/m);
  await isClean(t, host, 'after it');
  t.notMatch(await host.machine.must('nft', ['list', 'ruleset']), /flannel/);
  t.strictSame(readdirSync(host.path('/run/flannel')), []);
  t.strictSame(readdirSync(host.path('/var/lib/cni/flannel')), ['cbr0']);
  t.match(await host.machine.must(...host.flanneld('cleanup')), /nothing to clean up/);
});

t.test('cleanup beside rules of others', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  await host.addPods(['pod1']);
  await host.one('ADD', 'pod1', { config: FULL });
  await host.one('DEL', 'pod1', { config: FULL });
  await host.machine.must('nft', ['add chain inet flannel masquerade-10.99.0.0-16']);
  t.equal(await agent.stop(), 0);
  await host.machine.must(...host.flanneld('cleanup'));
  const left = await host.machine.must('nft', ['list', 'ruleset']);
  t.equal(left.replace(/\s+/g, ' ').trim(), 'table inet flannel { chain masquerade-10.99.0.0-16 { } }');
});

t.test('STATUS while the agent of a host without a pod network is replaced', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.machine.must('rm', ['/run/flannel/subnet.env']);
  const config = { delegate: undefined, bridge: 'cni0', ipam: { ranges: [[{ subnet: '10.5.16.0/24' }]] } };
  const status = () => host.one('STATUS', '', { config });
  t.match(await status(), { status: 1, output: { code: 50 } }, 'it has never been here');
  const agent = await host.startAgent();
  t.match(await status(), { status: 0 });
  await agent.kill();
  t.match(await status(), { status: 0 }, 'it comes back');
  await host.machine.must('sh', ['-c', 'echo 0 > /etc/cni/net.d/.flannel-agent']);
  t.match(await status(), { status: 1, output: { code: 50 } }, 'it has not come back in time');
  await host.startAgent();
  t.match(await status(), { status: 0 });
  t.ok(existsSync(host.path(`${SOCKET}.alone`)));
});
