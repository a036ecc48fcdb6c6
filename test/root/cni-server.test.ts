// The resident agent and the C client on the real kernel, in a machine of namespaces: what a runtime gets, and who gets
// it. What becomes of those that die is in cni-crash.test.ts.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compilePrograms, makeHost, SOCKET } from '../support/cni-host.ts';
import { failures, isClean, onEach, pods, until, vethOf } from '../support/cni-host-checks.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const client = join(bin, 'flannel');

t.test('ADD, CHECK, DEL', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  await host.addPods(['pod1', 'pod2']);
  const added = await host.one('ADD', 'pod1');
  t.match(added, {
    status: 0,
    output: { ips: [{ address: '10.5.16.2/20' }], interfaces: [{ name: 'cni0' }, { name: vethOf('pod1') }, {}] },
  });
  t.match((await host.one('ADD', 'pod2')).output.ips, [{ address: '10.5.16.3/20' }]);
  await host.machine.must('ip', ['netns', 'exec', 'pod1', 'ping', '-c1', '-W1', '10.5.16.3']);
  const config = { prevResult: added.output };
  t.match(await host.one('CHECK', 'pod1', { config }), { status: 0, output: {} });
  await host.machine.must('ip', ['-n', 'pod1', 'address', 'flush', 'dev', 'eth0']);
  t.match(await host.one('CHECK', 'pod1', { config }), { status: 1, output: { code: 101 } });
  t.match(await host.one('DEL', 'pod1'), { status: 0, output: {} });
  t.match(await host.one('DEL', 'pod1'), { status: 0 }, 'again');
  t.match(await host.one('DEL', 'pod2', { netns: '' }), { status: 0 }, 'without a namespace');
  await isClean(t, host, 'after DEL');
  const status = await host.status();
  t.match(status, { ready: true, cni: { running: 0, waiting: 0, problems: [] } });
  t.strictSame(status.cni.requests, {
    ADD: { succeeded: 2, failed: 0, undone: 0 },
    CHECK: { succeeded: 1, failed: 1, undone: 0 },
    DEL: { succeeded: 3, failed: 0, undone: 0 },
  });
  t.match(await host.machine.must(...host.flanneld('status')), /CNI clients: served on \/run\/flannel\/cni.sock/);
  t.equal(await agent.stop(), 0);
  t.notOk(existsSync(host.path(SOCKET)), 'the socket goes with the agent');
});

t.test('the flows of an address are forgotten when it is given back', async (t) => {
  const host = await makeHost(t, bin);
  await host.startAgent();
  await host.addPods(['pod1', 'pod2']);
  await host.machine.must('nft', ['add table inet x; add chain inet x y { type filter hook input priority 0; }']);
  await host.machine.must('nft', ['add rule inet x y ct state established accept']);
  for (const id of ['pod1', 'pod2']) {
    const { output } = await host.one('ADD', id);
    await host.machine.must('ip', ['netns', 'exec', id, 'ping', '-c1', '-W1', '10.5.16.1']);
    await host.machine.must('ping', ['-c1', '-W1', String(output.ips[0]?.address.split('/')[0])]);
  }
  const ends = async () => new Set((await host.machine.must('conntrack', ['-L'])).match(/(?<=src=)10\.5\.\S+/g));
  t.strictSame(await ends(), new Set(['10.5.16.2', '10.5.16.1', '10.5.16.3']));
  await host.one('DEL', 'pod1');
  t.strictSame(await ends(), new Set(['10.5.16.1', '10.5.16.3']), 'and no other’s');
});

t.test('64 at once: each interface is gone when its DEL returns', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.startAgent();
  const ids = pods(64);
  await host.addPods(ids);
  const added = await host.run(onEach('ADD', ids), 64);
  t.strictSame(failures(added), []);
  t.equal(new Set(added.map(({ output }) => output.ips[0]?.address)).size, 64, 'as many addresses');
  const gone = '"$0" && ! ip link show dev "$1" 2>/dev/null';
  const outcomes = await Promise.all(
    ids.map((id) => {
      const { environment: env, input } = host.call({ command: 'DEL', id });
      return host.machine.run('sh', ['-c', gone, client, vethOf(id)], { env, input });
    }),
  );
  t.ok(
    outcomes.every(({ code }) => code === 0),
    JSON.stringify(outcomes.find(({ code }) => code !== 0)),
  );
  await isClean(t, host, 'after DEL');
});

t.test('two agents on one host', async (t) => {
  const host = await makeHost(t, bin, 60);
  const first = await host.startAgent();
  await host.addPods(['pod1']);
  const second = await host.startAgent({ flags: ['--cni-only', '--subnet-file=/run/flannel/b.env'], serving: false });
  await until(() => second.log().includes('another agent of this host serves it'), second.log);
  t.match(await host.one('ADD', 'pod1'), { status: 0 });
  const other = await host.machine.must(...host.flanneld('status', '--subnet-file=/run/flannel/b.env'));
  t.match(
    other,
    /: ready\n(.*\n)*CNI clients: not served on \/run\/flannel\/cni.sock: another agent of this host serves it/,
  );
  await first.kill();
  await until(() => second.log().includes('serving CNI clients'), second.log);
  t.match(await host.one('DEL', 'pod1'), { status: 0 });
  await isClean(t, host, 'by the second one');
  t.equal(second.log().split('another agent').length, 2, 'said once');
});

t.test('who may use the socket', async (t) => {
  const host = await makeHost(t, bin);
  await host.startAgent();
  await host.addPods(['pod1']);
  t.equal(statSync(host.path(SOCKET)).mode & 0o777, 0o600);
  const { environment: env, input } = host.call({ command: 'ADD', id: 'pod1' });
  const asUser = async () => {
    const words = ['--reuid=12345', '--regid=12345', '--clear-groups', client];
    const { code, stdout } = await host.machine.run('setpriv', words, { env, input });
    return { code, ...JSON.parse(stdout) };
  };
  await host.machine.must('chmod', ['755', join(client, '..')]);
  t.match(await asUser(), { code: 5, msg: /Permission denied/ });
  await host.machine.must('chmod', ['666', SOCKET]);
  t.match(await asUser(), { code: 5, msg: /user 12345 may not use flanneld's socket/ });
  t.match(host.files(), []);
  const elsewhere = await host.machine.run('unshare', ['--net', client], { env, input });
  t.match(JSON.parse(elsewhere.stdout), {
    code: 8,
    msg: /the runtime is in the network namespace \d+:\d+, flanneld in/,
  });
});

t.test('where the socket may be', async (t) => {
  const host = await makeHost(t, bin);
  await host.machine.must('chmod', ['777', '/run/flannel']);
  const agent = await host.startAgent({ serving: false });
  await until(() => agent.log().includes('is no directory that only its owner can write to'), agent.log);
  t.notOk(existsSync(host.path(SOCKET)));
  await host.machine.must('chmod', ['755', '/run/flannel']);
  await until(() => agent.log().includes('serving CNI clients'), agent.log);

  await host.machine.must('rm', [SOCKET]);
  await until(() => existsSync(host.path(SOCKET)));
  await host.addPods(['pod1']);
  t.match(await host.one('ADD', 'pod1'), { status: 0 }, 'put back where somebody took it away');
  await agent.kill();
  const second = await host.startAgent();
  t.match(await host.one('DEL', 'pod1'), { status: 0 }, 'and over what a dead agent has left');
  await second.stop();
  await host.machine.must('touch', [SOCKET]);
  const third = await host.startAgent({ serving: false });
  await until(() => third.log().includes('is in the way of a socket'), third.log);
  t.match(await host.status(), { ready: false, reason: /in the way/ });
});

t.test('an agent in a container', async (t) => {
  const host = await makeHost(t, bin, 60);
  const netns = '/var/run/netns/pod1';
  await host.machine.must('ln', ['-sfn', '/run', '/run/var-run']);

  await t.test('that sees no new namespaces looks through the client’s eyes', async (t) => {
    const agent = await host.startAgent({ through: ['unshare', '--mount', '--propagation', 'private'] });
    await host.addPods(['pod1']);
    const added = await host.one('ADD', 'pod1', { netns });
    t.match(added, { status: 0, output: { interfaces: [{}, {}, { sandbox: netns }] } });
    const config = { prevResult: added.output };
    t.match(await host.one('CHECK', 'pod1', { netns, config }), { status: 0 });
    t.match(await host.one('DEL', 'pod1', { netns }), { status: 0 });
    await isClean(t, host, 'after DEL');
    await agent.stop();
  });

  await t.test('with directories of its own', async (t) => {
    const own = 'mount -t tmpfs tmpfs /var/lib && exec "$@"';
    const agent = await host.startAgent({ through: ['unshare', '--mount', 'sh', '-c', own, 'sh'] });
    t.match(await host.one('ADD', 'pod1'), {
      status: 1,
      output: {
        code: 7,
        msg: "/var/lib/cni/flannel is another directory for flanneld than for the runtime: mount it into flanneld's container",
      },
    });
    await agent.stop();
  });
});

t.test('pods that end without a DEL', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  await host.addPods(['pod1', 'pod2']);
  await host.one('ADD', 'pod1');
  await host.one('ADD', 'pod2', { config: { dataDir: '/var/lib/elsewhere' } });
  await host.machine.must('ip', ['netns', 'delete', 'pod1']);
  await until(async () => !(await host.links()).includes(vethOf('pod1')));
  t.match(await host.one('CHECK', 'pod2'), { status: 1 }, 'after a failure it looks');
  await until(async () => (await host.status()).cni.reclaimed === 1);
  t.match(await host.status(), { cni: { lastReclaimed: ['eth0 of pod1 in network cbr0: its interface is gone'] } });
  await host.machine.must('ip', ['netns', 'delete', 'pod2']);
  await agent.stop();
  await until(async () => !(await host.links()).includes(vethOf('pod2')));
  await host.startAgent();
  t.match(await host.status(), { cni: { lastReclaimed: [/pod2/], problems: [] } }, 'in any directory, at the start');
  t.notOk(existsSync(host.path('/var/lib/elsewhere/cbr0/pod2:eth0.json')));
  t.strictSame(host.files(), ['.directories']);
});

t.test('without a subnet manager’s answer, pods can go and come all the same', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent({ flags: ['--etcd-endpoints=http://127.0.0.1:1', '--healthz-port=8471'] });
  await host.addPods(['pod1']);
  t.match(await host.one('ADD', 'pod1'), { status: 0 });
  t.match(await host.one('DEL', 'pod1'), { status: 0 });
  t.match(await host.status(), { ready: false, reason: /waiting for the network configuration/, cni: { running: 0 } });
  t.equal(await agent.stop(), 0);
});
