// The agent, and the program that works without one, killed before each system call between the first and the last effect
// of ADD and of DEL; then what a runtime does. Nothing is left of the attempt, and the pod can be attached.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { AgentProcess } from '../support/agent-process.ts';
import { type CniHost, compilePrograms, fullChain, makeHost, NODE } from '../support/cni-host.ts';
import { isClean, until } from '../support/cni-host-checks.ts';
import { count } from '../support/count.ts';
import {
  attachStrace,
  detachStrace,
  isDying,
  type KillPoint,
  killPoints,
  straceWords,
} from '../support/kill-points.ts';
import { random, shuffled } from '../support/seed.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const MAIN = join(import.meta.dirname, '../../cni-plugin/main.ts');
const CHAINS = { plain: {}, full: fullChain() };
type Config = Readonly<Record<string, unknown>>;

/** A host on which nothing has ever been attached, so that ADD does all that it can have to do. */
const RESET = 'rm -rf /var/lib/cni; ip link delete cni0; nft delete table inet flannel; true';

/** The points, or in a run that is not a soak run a twentieth of them. */
const some = (points: readonly KillPoint[], salt: string): KillPoint[] =>
  shuffled(points, random(`kill-points ${salt}`)).slice(0, count(points.length));

/** What a runtime does after a verb that failed or was never answered. */
async function retry(t: Test, host: CniHost, config: Config, when: string): Promise<void> {
  t.match(await host.one('DEL', 'pod1', { config }), { status: 0 }, `${when}: DEL`);
  await isClean(t, host, when);
  t.match(await host.one('ADD', 'pod1', { config }), { status: 0, output: { ips: [{}] } }, `${when}: ADD`);
  t.match(await host.one('DEL', 'pod1', { config }), { status: 0 }, `${when}: and DEL`);
  await isClean(t, host, `${when}, ADD and DEL`);
}

/** Once the pod's namespace is deleted nothing holds it: the kernel's numbers for namespaces are gone. */
async function holdsNoNamespace(host: CniHost): Promise<void> {
  await host.machine.must('ip', ['netns', 'delete', 'pod1']);
  await until(async () => (await host.machine.must('ip', ['netns', 'list-id'])).trim() === '');
}

async function recorded(
  t: Test,
  host: CniHost,
  agent: AgentProcess,
  command: string,
  config: Config,
): Promise<KillPoint[]> {
  const record = join(host.directory, 'trace');
  const strace = await attachStrace(straceWords({ pid: agent.pid }, { record }));
  await host.one(command, 'pod1', { config });
  await detachStrace(strace);
  const trace = readFileSync(record, 'utf8');
  t.notMatch(trace, /sync/, 'a reboot voids all of it, so that nothing waits for the disk');
  return killPoints(trace);
}

for (const [name, config] of Object.entries(CHAINS)) {
  t.test(`the agent, ${name}`, async (t) => {
    const host = await makeHost(t, bin, 60);
    await host.addPods(['pod1']);
    let agent = await host.startAgent();
    const points = {
      ADD: await recorded(t, host, agent, 'ADD', config),
      DEL: await recorded(t, host, agent, 'DEL', config),
    };
    let kills = 0;
    for (const [command, all] of Object.entries(points)) {
      for (const [at, point] of some(all, `${name} ${command}`).entries()) {
        const waits = at % 2 === 0;
        const when = `${command} killed before ${point.call} ${point.nth}, whose client ${waits ? 'waits' : 'dies too'}`;
        await host.machine.must('sh', ['-c', RESET]);
        if (command === 'DEL') t.match(await host.one('ADD', 'pod1', { config }), { status: 0 });
        const strace = await attachStrace(straceWords({ pid: agent.pid }, point));
        const { environment: env, input } = host.call({ command, id: 'pod1', config });
        const runtime = host.machine.start(join(bin, 'flannel'), [], { env });
        const ended = once(runtime, 'exit');
        runtime.stdin?.end(input);
        await Promise.race([once(agent.child, 'exit'), ended]);
        await detachStrace(strace);
        if (!waits) runtime.kill('SIGKILL');
        if (agent.child.signalCode !== null || isDying(agent.pid)) {
          if (agent.child.signalCode === null) await once(agent.child, 'exit');
          kills++;
          agent = await host.startAgent();
        }
        const [status] = await ended;
        if (waits) t.equal(status, 0, when);
        await retry(t, host, config, when);
      }
    }
    t.comment(`${points.ADD.length} points in ADD, ${points.DEL.length} in DEL; ${kills} kills`);
    t.ok(kills > 0);
    await holdsNoNamespace(host);
  });

  t.test(`the program, ${name}`, async (t) => {
    const host = await makeHost(t, bin);
    await host.addPods(['pod1']);
    const environment = { FLANNEL_ARGV0: 'flannel', FLANNEL_CNI_SOCKET: '' };
    const run = (command: string, through: readonly string[] = []) => {
      const call = host.call({ command, id: 'pod1', config, environment });
      const [program = '', ...words] = [...through, NODE, MAIN];
      return host.machine.run(program, words, { env: call.environment, input: call.input });
    };
    const record = join(host.directory, 'trace');
    const points: Record<string, KillPoint[]> = {};
    for (const command of ['ADD', 'DEL']) {
      t.equal((await run(command, straceWords({ program: [] }, { record }))).code, 0);
      points[command] = killPoints(readFileSync(record, 'utf8'));
    }
    let kills = 0;
    for (const [command, all] of Object.entries(points)) {
      for (const point of some(all, `program ${name} ${command}`)) {
        const when = `${command} killed before ${point.call} ${point.nth}`;
        await host.machine.must('sh', ['-c', RESET]);
        if (command === 'DEL') t.equal((await run('ADD')).code, 0);
        const { code } = await run(command, straceWords({ program: [] }, point));
        if (code !== 0) kills++;
        t.equal((await run('DEL')).code, 0, when);
        await isClean(t, host, when);
        t.equal((await run('ADD')).code, 0, `${when}: ADD`);
        t.equal((await run('DEL')).code, 0, `${when}: and DEL`);
        await isClean(t, host, `${when}, ADD and DEL`);
      }
    }
    t.comment(`${points.ADD?.length} points in ADD, ${points.DEL?.length} in DEL; ${kills} kills`);
    t.ok(kills > 0);
    await holdsNoNamespace(host);
  });
}
