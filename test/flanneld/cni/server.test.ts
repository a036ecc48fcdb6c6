// The server on a machine in memory: who is served, in which order, and what becomes of verbs that nobody waits for.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { versions } from '../../../cni-plugin/answer.ts';
import { attachmentsIn } from '../../../cni-plugin/attachments.ts';
import { removeOwn } from '../../../cni-plugin/attach.ts';
import type { ExecuteMessage } from '../../../cni-plugin/wire.ts';
import { type Machine, machine } from './fixtures/clients.ts';

const NESTED_LANE = { running: Number.POSITIVE_INFINITY, waiting: Number.POSITIVE_INFINITY };
const KEY = { network: 'cbr0', containerId: 'pod1', ifname: 'eth0' };

/** Holds the attachment's lock, so that verbs on it wait. */
const hold = ({ directory }: Machine) => attachmentsIn(join(directory, 'flannel'), 1000).lock(KEY);

t.test('ADD, CHECK, DEL as the stand-alone program', async (t) => {
  const host = machine(t);
  const added = await host.ask('ADD');
  t.match(added, {
    status: 0,
    ips: [{ address: '10.5.1.2/24' }],
    interfaces: [{}, {}, { sandbox: '/run/netns/pod1' }],
  });
  t.match(host.kernel.dump(host.kernel.host), /type veth/);
  t.strictSame(await host.ask('CHECK', { config: { prevResult: added } }), { status: 0 });
  t.match(await host.ask('ADD'), { status: 1, code: 104 });
  t.strictSame(await host.ask('DEL'), { status: 0 });
  t.strictSame(await host.ask('DEL'), { status: 0 });
  t.strictSame(host.files(), []);
  t.strictSame(host.counters.all(), {
    ADD: { succeeded: 1, failed: 1, undone: 0 },
    CHECK: { succeeded: 1, failed: 0, undone: 0 },
    DEL: { succeeded: 2, failed: 0, undone: 0 },
  });
  t.strictSame([host.server.running, host.server.waiting], [0, 0]);
});

t.test('VERSION, and what is no request, in the stand-alone program’s words', async (t) => {
  const host = machine(t);
  t.match(await host.client('VERSION').result, versions());
  t.match(await host.ask('ADD', { name: 'bridge' }), { status: 1, code: 4, msg: 'no plugin is called "bridge"' });
  t.match(await host.ask('FROB'), { status: 1, code: 4, msg: 'unknown CNI_COMMAND: FROB' });
  t.match(await host.ask('ADD', { id: 'a/b' }), { status: 1, code: 4 });
  t.match(await host.ask('ADD', { message: { input: '{' } }), { status: 1, code: 6 });
  t.match(await host.ask('ADD', { config: { name: '..' } }), { status: 1, code: 7 });
  t.strictSame(host.files(), []);
});

t.test('users other than root, and ours', async (t) => {
  const host = machine(t, { uid: 7 });
  t.match(await host.ask('ADD', { peer: { uid: 1000 } }), { status: 1, code: 5, msg: /user 1000 .* rootless/ });
  t.match(await host.ask('ADD', { id: 'pod1', peer: { uid: 7 } }), { status: 0 });
  t.match(await host.ask('ADD', { id: 'pod2', peer: { uid: 0 } }), { status: 0 });
});

t.test('a runtime in another network namespace', async (t) => {
  const host = machine(t);
  for (const command of ['ADD', 'DEL', 'CHECK']) {
    for (const ownNetns of ['4:77', undefined] as const) {
      const answer = await host.ask(command, { message: { ownNetns } });
      t.match(answer, { status: 1, code: 8, msg: /the runtime is in .* FLANNEL_CNI_SOCKET/ }, command);
    }
  }
  t.strictSame(host.files(), []);
});

t.test('the namespace is the one that the client sees', async (t) => {
  const host = machine(t);
  const seen = host.message('ADD', { id: 'pod2' }).podNetns;
  const refusals: [object, RegExp][] = [
    [{ message: { podNetns: seen } }, /does not see the network namespace 4:\d+ that the runtime sees there/],
    [{ message: { podNetns: undefined } }, /is not a network namespace for the runtime/],
    [{ netns: '/run/netns/none' }, /\/run\/netns\/none: ENOENT/],
    [{ netns: '/run/netns/none', message: { podNetns: seen } }, /does not see .* ENOENT/],
  ];
  for (const [options, msg] of refusals) t.match(await host.ask('ADD', options), { status: 1, code: 8, msg });
  t.strictSame(host.files(), []);
  t.match(await host.ask('ADD'), { status: 0 });
  t.strictSame(await host.ask('DEL', { message: { podNetns: seen } }), { status: 0 }, 'DEL needs none');
  t.strictSame(host.files(), []);
});

t.test('an ADD whose client has gone is taken back', async (t) => {
  const host = machine(t);
  await host.ask('ADD', { id: 'pod2' });
  const before = [host.kernel.dump(host.kernel.host), ...host.files()];
  const unlock = await hold(host);
  const add = host.client('ADD');
  await sleep(10);
  const del = host.client('DEL');
  add.go();
  unlock();
  await add.served;
  t.match(await del.result, { status: 0 });
  await del.served;
  t.strictSame([host.kernel.dump(host.kernel.host), ...host.files()], before);
  t.match(host.counters.all(), { ADD: { succeeded: 1, failed: 0, undone: 1 }, DEL: { succeeded: 1 } });
  t.match(host.log.lines.join('\n'), /ADD taken back/);
});

t.test('a client that asks again gets its answer, another one the refusal', async (t) => {
  for (const name of ['flannel', 'flannel-ipam']) {
    const host = machine(t);
    const ipam = { dataDir: join(host.directory, 'networks'), ranges: [[{ subnet: '10.5.1.0/24' }]] };
    const ask = (command: string, call?: string) =>
      host.ask(command, { name, ...(name === 'flannel-ipam' && { config: { ipam } }), message: { call } });
    t.match(await ask('ADD', 'a1'), { status: 0 });
    t.match(await ask('ADD'), { status: 1, code: 104 }, `${name}: without a call`);
    t.match(await ask('ADD', 'b2'), { status: 1, code: 104 }, `${name}: another call`);
    const files = host.files();
    t.match(await ask('ADD', 'a1'), { status: 0, ips: [{}] }, `${name}: the same`);
    t.equal(host.files().length, files.length, 'one record, one address');
    t.strictSame(await ask('DEL', 'a1'), { status: 0 });
    t.strictSame(host.files(), []);
    t.notMatch(host.kernel.dump(host.kernel.host), /type veth/);
  }
});

t.test('one that can’t be taken back is kept', async (t) => {
  let broken = true;
  const host = machine(
    t,
    {},
    {
      removeLink: async (link) => {
        if (broken) throw new Error('the kernel is busy');
        return removeOwn(host.kernel, link);
      },
    },
  );
  const unlock = await hold(host);
  const add = host.client('ADD');
  await sleep(10);
  add.go();
  unlock();
  await add.served;
  t.match(host.kept, [
    { environment: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'pod1' }, spooled: { bootId: 'boot1', at: 1000 } },
  ]);
  broken = false;
  t.match(await host.ask('DEL'), { status: 0 });
  t.strictSame(host.files(), []);
});

t.test('what waits for a client that has gone is not done, but for DEL', async (t) => {
  const host = machine(t);
  t.match(await host.ask('ADD'), { status: 0 });
  const unlock = await hold(host);
  const again = host.client('ADD');
  await sleep(10);
  const add = host.client('ADD');
  const del = host.client('DEL');
  await sleep(10);
  t.strictSame([host.server.running, host.server.waiting], [1, 2], 'verbs of one attachment take turns');
  add.go();
  del.go();
  unlock();
  await Promise.all([again.served, add.served, del.served]);
  t.match(host.counters.all(), { ADD: { succeeded: 1, failed: 1, undone: 0 }, DEL: { succeeded: 1 } });
  t.strictSame(host.files(), []);
});

t.test('a deadline: told to try later, and what is done then is taken back', async (t) => {
  const host = machine(t, { deadlineMs: 30 });
  const unlock = await hold(host);
  const add = host.client('ADD');
  const { status, output } = await add.result;
  t.match({ status, ...JSON.parse(output) }, { status: 1, code: 11, msg: /longer than 30 ms/ });
  t.equal(host.server.running, 1, 'work is not abandoned half-way');
  unlock();
  await add.served;
  t.strictSame(host.files(), []);
  t.match(host.counters.all(), { ADD: { undone: 1 } });
});

t.test('too many', async (t) => {
  const lane = { running: 1, waiting: 1 };
  const host = machine(t, { lanes: { address: lane, delete: lane, other: lane, nested: lane } });
  const unlock = await hold(host);
  const [one, two] = [host.client('ADD'), host.client('ADD', { id: 'pod2' })];
  await sleep(10);
  t.match(await host.ask('ADD', { id: 'pod3' }), { status: 1, code: 11, msg: '1 requests are waiting already' });
  t.match(await host.ask('DEL', { id: 'pod3' }), { status: 0 }, 'deletions have a lane of their own');
  unlock();
  t.match(await one.result, { status: 0 });
  t.match(await two.result, { status: 0 });
});

const FOREIGN = { bridge: 'cni0', ipam: { type: 'other' } };
const RANGES = { bridge: 'cni0', ipam: { subnet: '10.1.2.0/24' } };

t.test('a plugin that a verb executes wants the same of the same agent: nobody waits for anybody', async (t) => {
  const lane = { running: 1, waiting: 1 };
  const host = machine(t, { lanes: { address: lane, delete: lane, other: lane, nested: NESTED_LANE } });
  for (const name of ['flannel-ipam', 'flannel'] as const) {
    const outer = name === 'flannel' ? { delegate: { type: 'other' } } : FOREIGN;
    const inner = { ...RANGES, ipam: { ...RANGES.ipam, dataDir: join(host.directory, 'networks') } };
    const execute = async ({ environment }: ExecuteMessage) => {
      const { environment: own, input } = host.message(environment.CNI_COMMAND as string, { config: inner });
      const message = { environment: { ...own, ...environment }, input };
      const { status, ...output } = await host.ask(environment.CNI_COMMAND as string, { name, message });
      return { status, output: JSON.stringify(output), errors: 'words' };
    };
    for (const command of ['ADD', 'DEL']) {
      const client = host.client(command, { config: { ...outer }, execute });
      t.match(await client.result, { status: 0, errors: 'words' }, `${command} with ${name} within`);
      await client.served;
    }
    t.strictSame(host.files(), []);
  }
});

t.test('GC has plugins executed one at a time', async (t) => {
  const host = machine(t);
  let running = 0;
  const verbs: string[] = [];
  const execute = async ({ environment }: ExecuteMessage) => {
    t.equal(++running, 1);
    verbs.push(environment.CNI_COMMAND as string);
    await sleep(1);
    running--;
    const result = { ips: [{ address: `10.1.2.${verbs.length + 1}/24` }] };
    return { status: 0, output: environment.CNI_COMMAND === 'ADD' ? JSON.stringify(result) : '', errors: '' };
  };
  for (const id of ['pod1', 'pod2', 'pod3']) {
    t.match(await host.client('ADD', { id, config: FOREIGN, execute }).result, { status: 0 });
  }
  const config = { ...FOREIGN, 'cni.dev/valid-attachments': [] };
  t.match(await host.client('GC', { config, execute }).result, { status: 0 });
  t.strictSame(verbs, ['ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'DEL', 'GC']);
  t.strictSame(host.files(), []);
});

t.test('a client that goes while a plugin runs: its part waits for DEL', async (t) => {
  const host = machine(t);
  const client = host.client('ADD', { config: FOREIGN });
  while (!client.received.some(({ kind }) => kind === 'execute')) await sleep(1);
  client.go();
  await client.served;
  t.ok(host.files().includes('pod1:eth0.json'));
  t.strictSame(host.kept, []);
  const verbs: string[] = [];
  const execute = async ({ environment }: ExecuteMessage) => {
    verbs.push(environment.CNI_COMMAND as string);
    return { status: 0, output: '', errors: '' };
  };
  t.match(await host.client('DEL', { config: FOREIGN, execute }).result, { status: 0 });
  t.strictSame(verbs, ['DEL']);
  t.strictSame(host.files(), []);
});

t.test('stop: what runs is answered, all else goes without an answer, for the next agent', async (t) => {
  const host = machine(t);
  const unlock = await hold(host);
  const add = host.client('ADD');
  await sleep(10);
  const waiting = host.client('CHECK');
  const silent = host.client('ADD', { id: 'pod3', silent: true });
  await sleep(10);
  const stopped = host.server.stop();
  const late = host.client('ADD', { id: 'pod2' });
  await t.rejects(waiting.result, { message: 'closed without a result' });
  await t.rejects(silent.result, { message: 'closed without a result' });
  await t.rejects(late.result, { message: 'closed without a result' });
  unlock();
  t.match(await add.result, { status: 0 });
  await stopped;
  t.match(host.counters.all(), { ADD: { succeeded: 1 } });
});
