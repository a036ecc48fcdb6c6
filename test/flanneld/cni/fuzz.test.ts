// The server on a machine in memory, asked 60,000 times for what is changed at random: every answer is one, and what is
// refused changes nothing.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import t from 'tap';
import { reclaim } from '../../../cni-plugin/reclaim.ts';
import { messageReader, type ResultMessage } from '../../../cni-plugin/wire.ts';
import { mutatedRequest, NOT_FOUND, problemOf, wireBytes } from '../../support/cni-mutations.ts';
import { count } from '../../support/count.ts';
import { below, random } from '../../support/seed.ts';
import { type Machine, machine } from './fixtures/clients.ts';

const PODS = ['pod1', 'pod2', 'pod3'];
const PLUGINS = ['flannel', 'flannel', 'flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth', 'bridge'];

/** Sends the bytes and closes when there is an answer, or with the last byte. Undefined: closed without an answer. */
async function send(host: Machine, bytes: Buffer): Promise<ResultMessage | undefined> {
  const [stream, theirs] = duplexPair();
  const read = messageReader();
  let answer: ResultMessage | undefined;
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => {
    for (const each of read(chunk)) {
      if (each.kind === 'result') answer = each;
      else if (each.kind === 'execute') stream.write(NOT_FOUND);
    }
    if (answer !== undefined) stream.end();
  });
  theirs.on('close', () => stream.destroy());
  const served = host.server.serve(theirs, { pid: 0, uid: 0 });
  stream.write(bytes);
  // The rest of a message whose length was changed is waited for.
  if (bytes.length < 5 || bytes.readUInt32LE(1) + 5 > bytes.length) setTimeout(() => theirs.destroy(), 2);
  await served;
  return answer;
}

/** All that there is: the kernel's state, pods included, and files. A network's directories stay empty. */
function stateOf({ kernel, directory }: Machine): string {
  const pods = PODS.map((id) => {
    const pod = kernel.openNamespace(`/run/netns/${id}`);
    try {
      return kernel.dump(pod);
    } finally {
      pod.close();
    }
  });
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => `${parentPath}/${name}`)
    .sort();
  return [kernel.dump(kernel.host), ...pods, ...files].join('\n');
}

/**
 * A deletion that names another directory of records takes the interface by its name, and leaves a dead attachment. Any
 * ADD of it would take that away, also one that is refused then: so it goes at once.
 */
async function takeDead({ directory, dependencies }: Machine): Promise<void> {
  const execute = () => Promise.reject(new Error('there is no client to execute plugins'));
  await reclaim(join(directory, 'flannel'), { ...dependencies, execute });
}

/** What is no attachment's alone stays after a failure in the kernel, and where reservations went on. */
const shared = (state: string): string =>
  state
    .split('\n')
    .filter((line) => !/type bridge|sysctl|address |route |last_reserved_ip|chain|set |\}|rule/.test(line))
    .join('\n');

const rounds = count(60_000);
t.setTimeout(0);
t.test(`${rounds} mutated requests`, async (t) => {
  const next = random('cni-fuzz');
  const host = machine(t);
  const base = JSON.parse(host.message('ADD').input);
  const seen = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const { command, environment, input } = mutatedRequest(base, PODS, next);
    const name = PLUGINS[below(PLUGINS.length, next)] as string;
    const message = { ...host.message(command, { name, netns: environment.CNI_NETNS ?? '' }), environment, input };
    const before = stateOf(host);
    const answer = await send(host, wireBytes(message, next));
    const after = stateOf(host);
    if (answer === undefined) {
      seen.set('none', (seen.get('none') ?? 0) + 1);
      continue;
    }
    const { status, output } = answer;
    const { code } = status === 0 ? { code: 0 } : JSON.parse(output || '{}');
    seen.set(`${command} ${code}`, (seen.get(`${command} ${code}`) ?? 0) + 1);
    if (code === 0 && command === 'DEL') await takeDead(host);
    const problem = problemOf(status, output);
    const told = `round ${round}: ${name} ${JSON.stringify(environment).slice(0, 500)} ${input.slice(0, 1000)}`;
    if (problem !== undefined) throw new Error(`${problem}: ${output}: ${told}`);
    const [was, is] = code < 100 ? [before, after] : [shared(before), shared(after)];
    if (code !== 0 && was !== is) throw new Error(`refused with a change: ${output}: ${told}\n${was}\n${is}`);
  }
  t.comment([...seen].map(([what, times]) => `${what}: ${times}`).join(', '));
  t.equal(host.log.lines.filter((line) => line.startsWith('error')).length, 0);
});
