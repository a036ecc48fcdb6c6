// The C client and an agent: what goes over the socket. The client runs in a mount namespace with directories of the
// test's own.

import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { versions } from '../../cni-plugin/answer.ts';
import { VERSIONS } from '../../cni-plugin/versions.ts';
import { encode } from '../../cni-plugin/wire.ts';
import { clientHost, compileClient, errorOf, NAMES, testAgent } from '../support/cni-client.ts';

const bin = compileClient(t);
const client = join(bin, 'flannel');
const impatient = join(compileClient(t, { ANSWER_MS: 600 }), 'flannel');

t.test('VERSION is answered at once, without input and without an agent', async (t) => {
  const host = clientHost(t);
  for (const name of NAMES) {
    const { status, output, errors } = await host.call(join(bin, name), 'VERSION', { input: undefined });
    t.strictSame({ status, output, errors }, { ...versions(), errors: '' }, name);
  }
});

t.test('without a command it says what it is', async (t) => {
  const host = clientHost(t);
  const { status, output, errors } = await host.call(client, '', { input: undefined });
  t.strictSame([status, output], [0, '']);
  t.match(errors, `CNI plugin flannel (flannel-ts)`);
  t.match(errors, `\nCNI protocol versions supported: ${VERSIONS.join(', ')}\n`);
});

t.test('what the agent gets', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  const env = { CNI_ARGS: 'K8S_POD_NAME=a;B=', CNI_FUTURE: '', OTHER: 'x', CNIX: 'x' };
  await host.call(join(bin, 'flannel-ipam'), 'CHECK', { input: '{"name":"n"}\n', env });
  t.match(agent.requests, [
    {
      kind: 'request',
      name: 'flannel-ipam',
      environment: {
        CNI_ARGS: 'K8S_POD_NAME=a;B=',
        CNI_COMMAND: 'CHECK',
        CNI_CONTAINERID: 'pod1',
        CNI_FUTURE: '',
        CNI_IFNAME: 'eth0',
        CNI_NETNS: '/var/run/netns/pod1',
        CNI_PATH: '/opt/cni/bin',
      },
      input: '{"name":"n"}\n',
      podNetns: undefined,
      spooled: undefined,
    },
  ]);
  t.equal(Object.keys(agent.requests[0]?.environment ?? {}).length, 7);
});

t.test('what tells a client that asks again from another one', async (t) => {
  const host = clientHost(t);
  writeFileSync(join(host.etc, '.flannel-agent'), '60');
  const agent = await testAgent(t, host.socket, ({ answer, drop }) =>
    agent.requests.length === 1 ? drop() : answer({}),
  );
  await host.call(client, 'ADD');
  await host.call(client, 'ADD');
  const [first, again, other] = agent.requests.map(({ call }) => call);
  t.match(first, /^[0-9a-f]{32}$/);
  t.equal(again, first);
  t.match(other, /^[0-9a-f]{32}$/);
  t.not(other, first);
});

t.test('the network namespaces, by device and inode', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  const pod = spawn('unshare', ['--net', 'sh', '-c', 'echo; exec sleep 60']);
  t.teardown(() => pod.kill('SIGKILL'));
  await once(pod.stdout, 'data');
  const path = `/proc/${pod.pid}/ns/net`;
  await host.call(client, 'ADD', { env: { CNI_NETNS: path } });
  await host.call(client, 'ADD', { env: { CNI_NETNS: '/etc/cni' } });
  const idOf = (file: string): string => {
    const { dev, ino } = statSync(file, { bigint: true });
    return `${dev}:${ino}`;
  };
  const ownNetns = idOf('/proc/self/ns/net');
  t.match(agent.requests, [
    { podNetns: idOf(path), ownNetns },
    { podNetns: undefined, ownNetns },
  ]);
});

t.test('it is called by the name of the link that it was executed through', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  symlinkSync(client, join(bin, 'another'));
  await host.call(join(bin, 'another'), 'ADD');
  await host.call(client, 'ADD', { through: `/bin/bash -c 'exec -a plain "$0"'` });
  t.strictSame(
    agent.requests.map(({ name }) => name),
    ['another', 'plain'],
  );
});

t.test('outputs and exit status are the agent’s', async (t) => {
  const host = clientHost(t);
  const endings = [
    { status: 0, output: '{"cniVersion":"1.0.0"}\n', errors: '' },
    { status: 1, output: '{"code":7}', errors: 'a line\n' },
    { status: 255, output: '', errors: 'é'.repeat(10_000) },
    { status: 0, output: 'x'.repeat(3_900_000), errors: '' },
  ];
  const left = [...endings];
  await testAgent(t, host.socket, ({ answer }) => answer(left.shift() ?? {}));
  for (const ending of endings) t.match(await host.call(client, 'ADD'), ending);
});

t.test('an answer before the request is read', async (t) => {
  const host = clientHost(t);
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.end(encode({ kind: 'result', status: 1, output: 'refused', errors: '' }), () => socket.destroy());
  });
  t.teardown(() => server.close());
  await once(server.listen(host.socket), 'listening');
  t.match(await host.call(client, 'ADD', { input: 'x'.repeat(1 << 20) }), { status: 1, output: 'refused' });
});

t.test('an answer in pieces', async (t) => {
  const host = clientHost(t);
  await testAgent(t, host.socket, async ({ send }) => {
    const bytes = encode({ kind: 'result', status: 3, output: 'slowly', errors: '' });
    for (let at = 0; at < bytes.length; at += 3) {
      send(bytes.subarray(at, at + 3));
      await sleep(5);
    }
  });
  t.match(await host.call(client, 'ADD'), { status: 3, output: 'slowly' });
});

t.test('an agent that does not answer', async (t) => {
  const host = clientHost(t);
  await testAgent(t, host.socket, () => undefined);
  const ended = await host.call(impatient, 'ADD');
  errorOf(t, ended, 11, /the agent has not answered for 0\.6 s/);
  t.ok(ended.ms > 600 && ended.ms < 3000, `after ${ended.ms} ms`);
  errorOf(t, await host.call(impatient, 'DEL'), 11, /the agent has not answered for 0\.6 s/);
});

t.test('an agent that does not even accept', async (t) => {
  const host = clientHost(t);
  const stopped = spawn('python3', [
    '-c',
    'import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(0)\nprint(flush=True)\n' +
      'c=socket.socket(socket.AF_UNIX)\nc.connect(sys.argv[1])\ntime.sleep(60)',
    host.socket,
  ]);
  t.teardown(() => stopped.kill('SIGKILL'));
  await once(stopped.stdout, 'data');
  await sleep(100);
  errorOf(t, await host.call(impatient, 'ADD'), 11, /busy/);
});

t.test('malformed answers', async (t) => {
  const host = clientHost(t);
  const block = (kind: number, ...parts: readonly Uint8Array[]): Buffer => {
    const bytes = Buffer.concat(parts);
    const head = Buffer.alloc(5, kind);
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  };
  const answers: Readonly<Record<string, Uint8Array>> = {
    'kind 0': block(0),
    'an unknown kind': block(77),
    'a request': block(1),
    'too long': Buffer.from([2, 1, 0, 0x40, 0]),
    'longer than memory': Buffer.from([2, 255, 255, 255, 255]),
    'no status': block(2, block(7), block(8)),
    'a status of 3 bytes': block(2, block(6, Buffer.alloc(3)), block(7), block(8)),
    'a status over 255': block(2, block(6, Uint8Array.of(0, 1, 0, 0)), block(7), block(8)),
    'a field beyond the end': block(2, block(6, Buffer.alloc(4)), Buffer.from([7, 1, 0, 0, 0])),
    'half a head': block(2, block(6, Buffer.alloc(4)), Buffer.from([7, 1])),
  };
  const left = Object.values(answers);
  await testAgent(t, host.socket, ({ send }) => send(left.shift() ?? Buffer.alloc(0)));
  for (const name of Object.keys(answers)) {
    await t.test(name, async (t) => errorOf(t, await host.call(client, 'ADD'), 5, /malformed message/));
  }
});

// ---- no agent -------------------------------------------------------------------------------------------------------

t.test('an environment of anything', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  const env = {
    CNI_CONTAINERID: '"\\\n\t\u{1f600}',
    CNI_IFNAME: '../../etc',
    CNI_NETNS: 'x'.repeat(100_000),
    CNI_ARGS: '\n'.repeat(100_000),
    CNI_PATH: ':'.repeat(100_000),
  };
  t.match(await host.call(client, 'ADD', { env }), { status: 0 });
  t.match(agent.requests[0]?.environment, env);
  const before = 'export CNI_ARGS="$(printf "a\\377b")"';
  t.match(await host.call(client, 'ADD', { before }), { status: 0 });
  t.match(agent.requests[1]?.environment, { CNI_ARGS: 'a\ufffdb' });
});

t.test('an environment larger than a message', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  const fill = 'for i in $(seq 32); do export "CNI_$i=$(head -c 120000 /dev/zero | tr "\\0" x)"; done';
  errorOf(t, await host.call(client, 'ADD', { before: `ulimit -s unlimited; ${fill}` }), 4, /environment is too large/);
  t.equal(agent.requests.length, 0);
});

t.test('standard input of the largest size, and larger', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  const most = 1 << 20;
  t.match(await host.call(client, 'ADD', { input: 'x'.repeat(most) }), { status: 0 });
  t.equal(agent.requests[0]?.input.length, most);
  errorOf(t, await host.call(client, 'ADD', { input: 'x'.repeat(most + 1) }), 6, /more than 1048576 bytes/);
  errorOf(t, await host.call(client, 'ADD', { input: 'x'.repeat(10 * most) }), 6, /more than 1048576 bytes/);
  t.equal(agent.requests.length, 1);
});

t.test('standard streams that are closed, unreadable or never end', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({ status: 4 }));
  t.match(await host.call(client, 'ADD', { before: 'exec 0<&- 1>&- 2>&-' }), { status: 4 });
  t.equal(agent.requests[0]?.input, '');
  errorOf(t, await host.call(client, 'ADD', { before: 'exec </' }), 5, /error reading from stdin: Is a directory/);
  errorOf(t, await host.call(client, 'ADD', { before: 'exec 0>/dev/null' }), 5, /error reading from stdin: Bad file/);
  errorOf(t, await host.call(impatient, 'ADD', { input: undefined }), 5, /error reading from stdin: no end of it/);
  t.match(await host.call(client, 'ADD', { before: 'exec </dev/zero' }), { status: 1, output: /more than/ });
});

t.test('a result that cannot be printed is a failure', async (t) => {
  const host = clientHost(t);
  await testAgent(t, host.socket, ({ answer }) => answer({ output: '{}' }));
  t.match(await host.call(client, 'ADD', { before: 'exec >/dev/full' }), { status: 1 });
});
