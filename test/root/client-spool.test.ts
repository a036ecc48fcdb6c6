// Deletions while the agent is away: what the C client keeps for it, and when it refuses to.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { decode, type RequestMessage } from '../../cni-plugin/wire.ts';
import { count } from '../support/count.ts';
import { type ClientHost, clientHost, compileClient, type Ended, testAgent } from '../support/cni-client.ts';

const client = join(compileClient(t), 'flannel');
const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

function hostWithoutAgent(t: Test): ClientHost & { readonly spool: string } {
  const host = clientHost(t);
  writeFileSync(join(host.etc, '.flannel-agent'), '60');
  return { ...host, spool: join(host.lib, 'cni/flannel/.spool') };
}

const delOf = (host: ClientHost, id: string): Promise<Ended> =>
  host.call(client, 'DEL', { env: { CNI_CONTAINERID: id }, input: `{"name":"${id}"}` });

/** The spool as the agent reads it. */
const entriesOf = (spool: string): RequestMessage[] =>
  readdirSync(spool)
    .sort()
    .map((name) => decode(readFileSync(join(spool, name))) as RequestMessage);

function refused(t: Test, { status, output }: Ended, code: number, words: RegExp): void {
  t.equal(status, 1);
  t.match(JSON.parse(output), { code, msg: words });
}

t.test('DEL is kept whole, and succeeds at once', async (t) => {
  const host = hostWithoutAgent(t);
  const before = Date.now();
  const ended = await delOf(host, 'pod1');
  const after = Date.now();
  t.match(ended, { status: 0, output: '', errors: '' });
  t.ok(ended.ms < 1000, `${ended.ms} ms`);
  const [entry] = entriesOf(host.spool);
  t.match(entry, {
    kind: 'request',
    name: 'flannel',
    environment: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'pod1', CNI_IFNAME: 'eth0' },
    input: '{"name":"pod1"}',
    spooled: { bootId },
  });
  const at = entry?.spooled?.at ?? 0;
  t.ok(at >= before && at <= after + 1, 'the time is the wall clock’s');
});

t.test('nobody else can read it', async (t) => {
  const host = hostWithoutAgent(t);
  await host.call(client, 'DEL', { before: 'umask 0' });
  t.equal(statSync(host.spool).mode & 0o777, 0o700);
  for (const name of readdirSync(host.spool)) t.equal(statSync(join(host.spool, name)).mode & 0o777, 0o600);
  chmodSync(host.spool, 0o777);
  await host.call(client, 'DEL', { before: 'umask 0777' });
  t.equal(statSync(host.spool).mode & 0o777, 0o700);
});

t.test('in the order of time, and all of them', async (t) => {
  const host = hostWithoutAgent(t);
  const ids = Array.from({ length: count(400) }, (_, i) => `pod${i}`);
  for (const id of ids) await delOf(host, id);
  t.strictSame(
    entriesOf(host.spool).map(({ input }) => input),
    ids.map((id) => `{"name":"${id}"}`),
  );
});

t.test('32 deletions at once are all kept', async (t) => {
  const host = hostWithoutAgent(t);
  const ids = Array.from({ length: 32 }, (_, i) => `pod${i}`);
  const ended = await Promise.all(ids.map((id) => delOf(host, id)));
  t.ok(ended.every(({ status }) => status === 0));
  const kept = entriesOf(host.spool).map(({ environment }) => environment.CNI_CONTAINERID);
  t.strictSame(kept.sort(), ids.sort());
});

t.test('the agent dies during DEL', async (t) => {
  const host = hostWithoutAgent(t);
  const agent = await testAgent(t, host.socket, ({ drop }) => drop());
  t.match(await delOf(host, 'pod1'), { status: 0 });
  t.equal(agent.requests.length, 1);
  t.match(entriesOf(host.spool), [{ input: '{"name":"pod1"}' }]);
});

t.test('an agent that answers is not passed by', async (t) => {
  const host = hostWithoutAgent(t);
  await testAgent(t, host.socket, ({ answer }) => answer({ status: 1, output: 'refused' }));
  t.match(await delOf(host, 'pod1'), { status: 1, output: 'refused' });
  t.throws(() => statSync(host.spool), { code: 'ENOENT' });
});

t.test('after the grace period too', async (t) => {
  const host = hostWithoutAgent(t);
  writeFileSync(join(host.etc, '.flannel-agent'), '0');
  t.match(await delOf(host, 'pod1'), { status: 0 });
  t.equal(entriesOf(host.spool).length, 1);
});

t.test('a request that is too large is not kept', async (t) => {
  const host = hostWithoutAgent(t);
  refused(t, await host.call(client, 'DEL', { input: 'x'.repeat(2 ** 20 + 1) }), 6, /more than/);
  t.throws(() => statSync(host.spool), { code: 'ENOENT' });
});

// ---- the spool is full, or not what it should be --------------------------------------------------------------------

t.test('a full disk is a failed DEL that leaves nothing', async (t) => {
  const host = hostWithoutAgent(t);
  const spool = '/var/lib/cni/flannel/.spool';
  const disk = `mkdir -p ${spool}; mount -t tmpfs -o size=64k tmpfs ${spool}`;
  const input = JSON.stringify({ name: 'x'.repeat(40_000) });
  const script = `for i in 1 2 3; do printf '%s' '${input}' | "$0" || true; done; ls -A ${spool} | wc -l`;
  const ended = await host.call(client, 'DEL', { before: disk, through: `sh -c '${script.replaceAll("'", `'\\''`)}'` });
  const [second = '', third = '', files] = ended.output.trim().split('\n');
  for (const line of [second, third]) t.match(JSON.parse(line), { code: 5, msg: /No space left on device/ });
  t.equal(files, '1', 'the first one is kept, of the others nothing is left');
});

t.test('a file system that cannot be written', async (t) => {
  const host = hostWithoutAgent(t);
  const before = 'mount -o remount,bind,ro /var/lib';
  refused(t, await host.call(client, 'DEL', { before }), 5, /open .*\.spool: No such file/);
  mkdirSync(host.spool, { recursive: true, mode: 0o700 });
  refused(t, await host.call(client, 'DEL', { before }), 5, /keep the deletion .*Read-only file system/);
});

t.test('as many as it may hold', async (t) => {
  const host = hostWithoutAgent(t);
  mkdirSync(host.spool, { recursive: true, mode: 0o700 });
  for (let i = 0; i < 10_000; i++) writeFileSync(join(host.spool, String(i)), '');
  refused(t, await delOf(host, 'pod1'), 11, /is full: \d+ deletions wait for the agent/);
});

t.test('as many bytes as it may hold', async (t) => {
  const host = hostWithoutAgent(t);
  mkdirSync(host.spool, { recursive: true, mode: 0o700 });
  writeFileSync(join(host.spool, 'large'), '');
  truncateSync(join(host.spool, 'large'), 2 ** 26);
  refused(t, await delOf(host, 'pod1'), 11, /is full/);
});

t.test('a symbolic link, a file or another user’s directory instead of the spool', async (t) => {
  const host = hostWithoutAgent(t);
  mkdirSync(join(host.lib, 'cni/flannel'), { recursive: true });
  mkdirSync(join(host.lib, 'elsewhere'));
  symlinkSync('/var/lib/elsewhere', host.spool);
  refused(t, await delOf(host, 'pod1'), 5, /Not a directory|Too many levels of symbolic links/);
  t.strictSame(readdirSync(join(host.lib, 'elsewhere')), []);
  t.ok(lstatSync(host.spool).isSymbolicLink());
  const instead = (before: string) =>
    host.call(client, 'DEL', { before: `rm -rf /var/lib/cni/flannel/.spool; ${before}` });
  refused(t, await instead('touch /var/lib/cni/flannel/.spool'), 5, /Not a directory/);
  const foreign = 'mkdir /var/lib/cni/flannel/.spool; chown 12345 /var/lib/cni/flannel/.spool';
  refused(t, await instead(foreign), 5, /does not belong to us/);
});

t.test('a client that is killed leaves an entry that is whole, or none', async (t) => {
  const host = hostWithoutAgent(t);
  const ends: Ended[] = [];
  for (let i = 0; i < count(400); i++) {
    const call = host.start(client, 'DEL', { input: `{"name":"${'x'.repeat(100_000)}"}` });
    setTimeout(call.kill, i % 20);
    ends.push(await call.ended);
  }
  const whole = readdirSync(host.spool).filter((name) => !name.startsWith('.'));
  t.ok(whole.length >= ends.filter(({ status }) => status === 0).length, 'none that was said to be kept is missing');
  for (const name of whole) t.match(decode(readFileSync(join(host.spool, name))), { spooled: { bootId } });
});
