// The agent on the real kernel, asked directly, through the C client, and done without by the program: requests that are
// changed at random. Every answer is one, nothing hangs, nothing crashes, and what is refused changes nothing.

import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { decode, messageReader, type NetnsId, type ResultMessage } from '../../cni-plugin/wire.ts';
import { CONFIG, type CniHost, compilePrograms, makeHost, NODE, SOCKET } from '../support/cni-host.ts';
import { isClean } from '../support/cni-host-checks.ts';
import { type MutatedRequest, mutatedRequest, NOT_FOUND, problemOf, wireBytes } from '../support/cni-mutations.ts';
import { count } from '../support/count.ts';
import { below, random } from '../support/seed.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const MAIN = join(import.meta.dirname, '../../cni-plugin/main.ts');
const PODS = ['pod1', 'pod2'];
const PLUGINS = ['flannel', 'flannel', 'flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth', 'bridge'];
/** Between two looks at the host. */
const BATCH = 50;
/** Longer than any wait for another verb: whatever takes longer hangs. */
const PATIENCE_MS = 30_000;

const namespaceId = (path: string): NetnsId => {
  const { dev, ino } = statSync(path, { bigint: true });
  return `${Number(dev)}:${Number(ino)}`;
};

/** Undefined: the agent has closed, or got only part of a message. @throws Error when it does neither */
async function send(host: CniHost, bytes: Buffer): Promise<ResultMessage | undefined> {
  const socket = connect(host.path(SOCKET));
  const read = messageReader();
  let answer: ResultMessage | undefined;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    for (const each of read(chunk)) {
      if (each.kind === 'result') answer = each;
      else if (each.kind === 'execute') socket.write(NOT_FOUND);
    }
    if (answer !== undefined) socket.destroy();
  });
  socket.write(bytes);
  if (bytes.length < 5 || bytes.readUInt32LE(1) + 5 > bytes.length) setTimeout(() => socket.destroy(), 5);
  const hangs = setTimeout(() => socket.destroy(new Error('it hangs')), PATIENCE_MS);
  await once(socket, 'close');
  clearTimeout(hangs);
  if (socket.errored?.message === 'it hangs') throw socket.errored;
  return answer;
}

/** The request in the bytes, if there is one. */
function sentBy(bytes: Buffer): Answered['sent'] {
  try {
    const message = decode(bytes);
    if (message.kind === 'request') return message;
  } catch {}
  return { environment: {}, input: '' };
}

/** The kernel's state and the files of the host and its pods, but for what follows later from a port that is gone. */
async function stateOf({ machine }: CniHost): Promise<string> {
  const each = 'ip -n $id -br link; ip -n $id -br address; ip -n $id route';
  const script = `for id in ${PODS.join(' ')}; do ${each}; done; ip -br link; ip -br address; ip route; nft list ruleset;
    find /var/lib/cni /run/flannel ! -type d | sort`;
  const state = await machine.must('sh', ['-c', script]);
  return state.replace(/NO-CARRIER,|,LOWER_UP|\b(UP|DOWN|UNKNOWN)\b|linkdown|fe80::\S+/g, '').replace(/ +/g, ' ');
}

interface Answered {
  readonly status: number;
  readonly output: string;
  /** What was asked for in the end. */
  readonly sent: Pick<MutatedRequest, 'environment' | 'input'>;
}
type Ask = (request: MutatedRequest, plugin: string) => Promise<Answered | undefined>;

/** Asks as often, and looks at the host in between. */
async function fuzz(t: Test, host: CniHost, rounds: number, salt: string, ask: Ask): Promise<void> {
  const next = random(salt);
  const codes = new Map<number, number>();
  for (let round = 0; round < rounds; ) {
    const before = await stateOf(host);
    let strict = true;
    const told: string[] = [];
    const added: Answered['sent'][] = [];
    for (const end = Math.min(round + BATCH, rounds); round < end; round++) {
      const request = mutatedRequest(CONFIG, PODS, next);
      const plugin = PLUGINS[below(PLUGINS.length, next)] as string;
      const answer = await ask(request, plugin);
      if (answer === undefined) continue;
      const { status, output, sent } = answer;
      const words = `${plugin} ${JSON.stringify(request.environment).slice(0, 500)} ${request.input.slice(0, 1000)}`;
      const problem = problemOf(status, output);
      if (problem !== undefined) throw new Error(`${problem}: ${status} ${output}: ${words}`);
      const code = status === 0 ? 0 : (JSON.parse(output).code as number);
      codes.set(code, (codes.get(code) ?? 0) + 1);
      // What succeeds, or fails in the kernel, may leave what is no pod's alone: a bridge, a directory, a chain.
      const isAdded = code === 0 && sent.environment.CNI_COMMAND === 'ADD';
      if (isAdded) added.push(sent);
      if (code >= 100 || isAdded) strict = false;
      told.push(words);
    }
    for (const sent of added) await takeAway(t, host, sent);
    if (strict) t.equal(await stateOf(host), before, `round ${round}: ${told.join('\n')}`);
  }
  t.comment([...codes].map(([code, times]) => `code ${code}: ${times}`).join(', '));
}

/** What was added is deleted by the very same words. */
async function takeAway(t: Test, { machine }: CniHost, { environment, input }: Answered['sent']): Promise<void> {
  const env = { ...environment, CNI_COMMAND: 'DEL', FLANNEL_CNI_SOCKET: SOCKET };
  const { code, stdout } = await machine.run(join(bin, 'flannel'), [], { env, input });
  t.equal(code, 0, `DEL ${JSON.stringify(environment).slice(0, 300)}: ${stdout}`);
}

/** Bridges of other names may have come to be; pods' devices, records and addresses may not. */
async function nothingIsLeft(t: Test, host: CniHost): Promise<void> {
  const bridges = JSON.parse(await host.machine.must('ip', ['-j', 'link', 'show', 'type', 'bridge']));
  for (const { ifname } of bridges as { ifname?: string }[]) {
    if (ifname !== undefined && ifname !== 'cni0') await host.machine.must('ip', ['link', 'delete', 'dev', ifname]);
  }
  for (const id of PODS) t.equal((await host.machine.must('ip', ['-n', id, '-br', 'link'])).split('\n').length, 2, id);
  await isClean(t, host, 'at the end');
}

async function fuzzedHost(t: Test, expected?: number): Promise<CniHost> {
  const host = await makeHost(t, bin, expected);
  await host.addPods(PODS);
  for (const id of PODS) await host.machine.must('ip', ['-n', id, 'link', 'set', 'lo', 'up']);
  return host;
}

t.test('the agent’s socket', async (t) => {
  const host = await fuzzedHost(t, 60);
  const agent = await host.startAgent();
  for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 });
  const next = random('cni-fuzz-bytes');
  const ownNetns = namespaceId(`/proc/${host.machine.pid}/ns/net`);
  const namespaces = new Map(PODS.map((id) => [`/run/netns/${id}`, namespaceId(host.path(`/run/netns/${id}`))]));
  await fuzz(t, host, count(38_000), 'cni-fuzz-socket', async ({ environment, input }, name) => {
    const podNetns = namespaces.get(environment.CNI_NETNS ?? '');
    const bytes = wireBytes({ kind: 'request', name, environment, input, podNetns, ownNetns }, next);
    const answer = await send(host, bytes);
    return answer && { ...answer, sent: sentBy(bytes) };
  });
  await nothingIsLeft(t, host);
  t.equal(agent.child.exitCode, null, 'the agent lives');
  t.match(await host.status(), { ready: true, cni: { running: 0, waiting: 0, problems: [] } });
  t.notMatch(agent.log(), /\n\s+at |node:internal/);
});

t.test('the client', async (t) => {
  const host = await fuzzedHost(t, 60);
  const agent = await host.startAgent();
  for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 });
  await fuzz(t, host, count(1600), 'cni-fuzz-client', async ({ command, environment, input }, plugin) => {
    const program = join(bin, plugin === 'bridge' ? 'flannel' : plugin);
    const env = { ...environment, FLANNEL_CNI_SOCKET: SOCKET };
    const { code, stdout } = await host.machine.run(program, [], { env, input, timeoutMs: PATIENCE_MS });
    return command === '' ? undefined : { status: code, output: stdout, sent: { environment, input } };
  });
  await nothingIsLeft(t, host);
  t.equal(agent.child.exitCode, null, 'the agent lives');
});

t.test('the program', async (t) => {
  const host = await fuzzedHost(t);
  // What it adds is deleted by the agent: the two work on the same directories.
  await host.startAgent();
  for (const command of ['ADD', 'DEL']) t.match(await host.one(command, 'pod1'), { status: 0 });
  await fuzz(t, host, count(400), 'cni-fuzz-program', async ({ command, environment, input }, plugin) => {
    const env = { ...environment, FLANNEL_ARGV0: plugin };
    const { code, stdout } = await host.machine.run(NODE, [MAIN], { env, input, timeoutMs: PATIENCE_MS });
    return command === '' ? undefined : { status: code, output: stdout, sent: { environment, input } };
  });
  await nothingIsLeft(t, host);
});
