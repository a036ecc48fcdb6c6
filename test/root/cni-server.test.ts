// The resident agent and the C client on the real kernel, in a machine of namespaces: what a runtime gets, however the
// two of them come and go.

import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { hostVethName } from '../../cni-plugin/names.ts';
import { lockBriefly } from '../../kernel/lock.ts';
import { type CniHost, compilePrograms, makeHost, type Outcome, SOCKET, SPOOL, until } from '../support/cni-host.ts';
import { count } from '../support/count.ts';
import { below, random } from '../support/seed.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const client = join(bin, 'flannel');
const CLEAN = ['cni0', 'lo'];

const pods = (number: number): string[] => Array.from({ length: number }, (_, n) => `pod${n}`);
const vethOf = (containerId: string): string => hostVethName({ network: 'cbr0', containerId, ifname: 'eth0' }, 0);

/** Nothing is left of any attachment, on disk or in the kernel. */
async function isClean(t: Test, host: CniHost, when: string): Promise<void> {
  t.strictSame(
    (await host.links()).filter((name) => name !== 'cni0' && name !== 'lo'),
    [],
    `${when}: interfaces`,
  );
  t.strictSame(host.files(), [], `${when}: files`);
}

const failures = (outcomes: readonly Outcome[]): unknown[] =>
  outcomes.filter(({ status }) => status !== 0).map(({ output }) => output);

const median = (outcomes: readonly Outcome[]): string =>
  (outcomes.map(({ ms }) => ms).sort((a, b) => a - b)[Math.floor(outcomes.length / 2)] ?? 0).toFixed(2);

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
  const added = await host.run(
    ids.map((id) => ({ command: 'ADD', id })),
    64,
  );
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

t.test('what a client takes that is killed in the middle of ADD', async (t) => {
  const host = await makeHost(t, bin, 60);
  await host.startAgent();
  await host.addPods(['pod1']);
  await host.one('ADD', 'pod1');
  await host.one('DEL', 'pod1');
  const { environment: env, input } = host.call({ command: 'ADD', id: 'pod1' });

  /** A client whose ADD waits for the attachment's lock, and the function that lets go of that. */
  const waitingClient = async () => {
    const unlock = await lockBriefly(host.path('/var/lib/cni/flannel/cbr0/pod1:eth0.lock'), 0);
    const child = host.machine.start(client, [], { env });
    child.stdin?.end(input);
    await until(async () => (await host.status()).cni.running === 1);
    return { child, unlock: () => unlock?.() };
  };
  /** How many ADDs have been taken back, once nothing runs any more. */
  const undone = async (): Promise<number> => {
    const { running, requests } = (await host.status()).cni;
    return running > 0 ? 0 : (requests.ADD?.undone ?? 0);
  };

  await t.test('while its ADD waits', async (t) => {
    const { child, unlock } = await waitingClient();
    child.kill('SIGKILL');
    await sleep(100);
    unlock();
    await until(async () => (await undone()) === 1);
    await isClean(t, host, 'taken back');
  });

  await t.test('with the result unread', async (t) => {
    const { child, unlock } = await waitingClient();
    child.kill('SIGSTOP');
    unlock();
    await until(() => host.files().some((name) => name.startsWith('cbr0/10.5.')));
    await sleep(200);
    t.equal((await host.status()).cni.running, 1, 'it waits for its client to take the result');
    child.kill('SIGKILL');
    await until(async () => (await undone()) === 2);
    await isClean(t, host, 'taken back');
  });

  const rounds = count(400);
  await t.test(`at a random moment, ${rounds} times`, async (t) => {
    const next = random('cni-server-killed');
    for (let round = 0; round < rounds; round++) {
      const child = host.machine.start(client, [], { env });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
      await sleep(5 + below(20, next));
      child.kill('SIGKILL');
      t.match(await host.one('DEL', 'pod1'), { status: 0 });
      await until(async () => (await host.status()).cni.running === 0);
      await isClean(t, host, `round ${round}`);
    }
  });
});

t.test('the agent is killed', async (t) => {
  const host = await makeHost(t, bin, 60);
  let agent = await host.startAgent();
  const ids = pods(32);
  await host.addPods(ids);
  const all = (command: string) => ids.map((id) => ({ command, id }));

  await t.test('DELs are kept, and made up for before anyone is served', async (t) => {
    t.strictSame(failures(await host.run(all('ADD'), 16)), []);
    await agent.kill();
    t.strictSame(failures(await host.run(all('DEL'), 16)), []);
    t.equal(readdirSync(host.path(SPOOL)).length, ids.length);
    t.equal((await host.links()).length, CLEAN.length + ids.length);
    agent = await host.startAgent();
    await isClean(t, host, 'at the first answer');
    t.strictSame(readdirSync(host.path(SPOOL)), []);
    t.match(await host.status(), { cni: { spool: { done: ids.length, waiting: 0, aside: 0 } } });
  });

  await t.test('a kept DEL spares what has been added since', async (t) => {
    await host.one('ADD', 'pod0');
    await agent.kill();
    await host.one('DEL', 'pod0');
    const [entry = ''] = readdirSync(host.path(SPOOL));
    await host.machine.must('mv', [`${SPOOL}/${entry}`, '/run/kept']);
    agent = await host.startAgent();
    await host.one('DEL', 'pod0');
    await host.one('ADD', 'pod0');
    await agent.kill();
    await host.machine.must('mv', ['/run/kept', `${SPOOL}/${entry}`]);
    agent = await host.startAgent();
    t.strictSame(readdirSync(host.path(SPOOL)), []);
    t.ok((await host.links()).includes(vethOf('pod0')));
    await host.one('DEL', 'pod0');
    await isClean(t, host, 'at the end');
  });

  const rounds = count(100);
  await t.test(`in the middle of ${ids.length} ADDs or DELs, ${rounds} times`, async (t) => {
    const next = random('cni-server-crash');
    for (let round = 0; round < rounds; round++) {
      const command = round % 2 === 0 ? 'ADD' : 'DEL';
      if (command === 'DEL') await host.run(all('ADD'), 16);
      const running = host.run(all(command), 16);
      await sleep(20 + below(120, next));
      await agent.kill();
      agent = await host.startAgent();
      const outcomes = await running;
      const codes = new Set(outcomes.filter(({ status }) => status !== 0).map(({ output }) => output.code));
      // An ADD whose answer died with the agent is there already when its client asks again.
      codes.delete(104);
      t.strictSame([...codes], [], `${command}: every client is served in the end`);
      t.strictSame(failures(await host.run(all('DEL'), 16)), [], 'what the runtime does then');
      await isClean(t, host, `round ${round}`);
    }
  });

  await t.test('and does not come back', async (t) => {
    await host.one('ADD', 'pod0');
    await agent.kill();
    await host.machine.must('sh', ['-c', 'echo 0 > /etc/cni/net.d/.flannel-agent']);
    t.match(await host.one('ADD', 'pod1'), { status: 1, output: { code: 11 } });
    t.match(await host.one('DEL', 'pod0'), { status: 0 });
    agent = await host.startAgent();
    await isClean(t, host, 'at last');
  });
});

t.test('a restart while pods come and go: nobody notices', async (t) => {
  const host = await makeHost(t, bin, 60);
  let agent = await host.startAgent();
  const ids = pods(40);
  await host.addPods(ids);
  for (let round = 0; round < count(60); round++) {
    for (const command of ['ADD', 'DEL']) {
      const running = host.run(
        ids.map((id) => ({ command, id })),
        8,
      );
      await sleep(30);
      t.equal(await agent.stop(), 0);
      agent = await host.startAgent();
      t.strictSame(failures(await running), [], `${command}, round ${round}`);
    }
    await isClean(t, host, `round ${round}`);
  }
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

t.test('1,000 ADDs: no thread is in a pod’s namespace, and how long they take', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  const ids = pods(200);
  await host.addPods(ids);
  const all = (command: string) => ids.map((id) => ({ command, id }));
  await host.run(all('ADD'), 16);
  await host.run(all('DEL'), 64);
  const [adds, dels] = [await host.run(all('ADD')), await host.run(all('DEL'))];
  t.strictSame(failures([...adds, ...dels]), []);
  t.comment(
    `one after another, through client and agent: ADD ${median(adds)} ms, DEL ${median(dels)} ms (median of 200)`,
  );
  for (let round = 0; round < 3; round++) {
    t.strictSame(failures(await host.run(all('ADD'), 16)), []);
    t.strictSame(failures(await host.run(all('DEL'), 64)), []);
  }
  const home = readlinkSync(`/proc/${host.machine.pid}/ns/net`);
  const tasks = readdirSync(`/proc/${agent.pid}/task`);
  t.ok(tasks.length >= 8, `${tasks.length} threads`);
  for (const task of tasks) t.equal(readlinkSync(`/proc/${agent.pid}/task/${task}/ns/net`), home);
  const descriptors = readdirSync(`/proc/${agent.pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${agent.pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  t.strictSame(
    descriptors.filter((target) => target.startsWith('net:') && target !== home),
    [],
    'and no pod’s namespace is held',
  );
  t.match(readFileSync(`/proc/${agent.pid}/status`, 'utf8'), /VmRSS/);
});
