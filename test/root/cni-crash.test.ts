// Clients and agents that die in the middle of their work, or are replaced: nothing is left, and nobody notices. At the
// end, what a thousand pods leave in the agent.

import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { lockBriefly } from '../../kernel/lock.ts';
import { type CniHost, compilePrograms, fullChain, makeHost, SPOOL } from '../support/cni-host.ts';
import { failures, isClean, median, onEach, pods, until, vethOf } from '../support/cni-host-checks.ts';
import { count } from '../support/count.ts';
import { below, random } from '../support/seed.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const client = join(bin, 'flannel');
const CLEAN = ['cni0', 'lo'];

/** Every other pod has host ports, limits and masquerading. */
function configOf(id: string): Readonly<Record<string, unknown>> {
  const number = Number(id.slice('pod'.length));
  return number % 2 === 0 ? {} : fullChain(20_000 + number);
}

/** What the interfaces in the pods have, sorted. */
async function addressesOf({ machine }: CniHost, ids: readonly string[]): Promise<string[]> {
  const script = 'for id; do ip -n "$id" -o -4 address show dev eth0 2>/dev/null || true; done';
  const listed = await machine.must('sh', ['-c', script, 'sh', ...ids]);
  return [...listed.matchAll(/ inet (\S+)/g)].map(([, address]) => address as string).sort();
}

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
  const all = (command: string) => onEach(command, ids);

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

  const rounds = count(300);
  await t.test(`at a random moment of ${ids.length} ADDs and DELs, ${rounds} times`, async (t) => {
    const next = random('cni-server-crash');
    const verb = (command: string, id: string) => ({ command, id, config: configOf(id) });
    for (let round = 0; round < rounds; round++) {
      const there = ids.filter(() => next() < 0.5);
      const added = await host.run(
        there.map((id) => verb('ADD', id)),
        16,
      );
      t.strictSame(failures(added), []);
      const running = host.run(
        ids.map((id) => verb(there.includes(id) ? 'DEL' : 'ADD', id)),
        32,
      );
      await sleep(below(200, next));
      await agent.kill();
      if (next() < 0.3) {
        const inVain = await host.startAgent({ serving: false });
        await sleep(below(600, next));
        await inVain.kill();
      }
      agent = await host.startAgent();
      const outcomes = await running;
      t.strictSame(failures(outcomes), [], 'every client is served in the end');
      const given = outcomes.flatMap(({ output }) => output.ips?.map(({ address }) => address) ?? []);
      t.equal(new Set(given).size, given.length, 'no address on two pods');
      t.strictSame(await addressesOf(host, ids), given.sort(), 'each pod has what its runtime was told');
      const retried = await host.run(
        ids.map((id) => verb('DEL', id)),
        16,
      );
      t.strictSame(failures(retried), [], 'what a runtime does then');
      await isClean(t, host, `round ${round}`);
    }
  });

  await t.test('nothing holds the pods’ namespaces', async () => {
    await host.machine.must('sh', ['-ec', 'for id; do ip netns delete "$id"; done', 'sh', ...ids]);
    await until(async () => (await host.machine.must('ip', ['netns', 'list-id'])).trim() === '');
    await host.addPods(ids);
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
      const running = host.run(onEach(command, ids), 8);
      await sleep(30);
      t.equal(await agent.stop(), 0);
      agent = await host.startAgent();
      t.strictSame(failures(await running), [], `${command}, round ${round}`);
    }
    await isClean(t, host, `round ${round}`);
  }
});

t.test('1,000 ADDs: no thread is in a pod’s namespace, and how long they take', async (t) => {
  const host = await makeHost(t, bin, 60);
  const agent = await host.startAgent();
  const ids = pods(200);
  await host.addPods(ids);
  const all = (command: string) => onEach(command, ids);
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
});
