// The extension backend's commands, with programs that are functions and time in the test's hands.

import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import type { Backend, Commands } from '../../../flanneld/backend/backend.ts';
import { keepExtension } from '../../../flanneld/backend/extension-keeper.ts';
import { runPreStartup } from '../../../flanneld/backend/pre-startup.ts';
import { openBackend } from '../../../flanneld/backend/registry.ts';
import { planHost } from '../../../flanneld/plan.ts';
import type { Ended, ExecuteOptions } from '../../../kernel/execute.ts';
import { prefix } from '../../../model/ip.ts';
import { type Lease, leaseKey } from '../../../model/lease.ts';
import { merge } from '../../../model/state.ts';
import { testClock, testLog } from '../fixtures/host.ts';
import { HOST, NETWORKS, ourLease, peerLease, siteOf } from '../fixtures/world.ts';

const OPTIONS = {
  Type: 'extension',
  PostStartupCommand: 'post $SUBNET',
  SubnetAddCommand: 'add $SUBNET $IPV6SUBNET $PUBLIC_IP $PUBLIC_IPV6',
  SubnetRemoveCommand: 'remove $SUBNET $PUBLIC_IP',
};
const ENDED: Ended = { status: 0, output: '', errors: '' };
const FAILED: Ended = { status: 2, output: '', errors: 'no such thing\n' };

const open = (options: Readonly<Record<string, unknown>>, stored?: Lease): Backend =>
  openBackend('extension', { options, site: siteOf([4, 6]), have: HOST, stored });

const lease = (number: number, data = 'data', host = number): Lease => ({
  ...peerLease([4, 6], number, { type: 'extension', host }),
  backendData: { 4: data },
});

/** `end`: how a command line ends; a promise that never does hangs. */
function rig(end: (line: string) => Ended | Promise<Ended> = () => ENDED, options: object = OPTIONS) {
  const clock = testClock();
  const log = testLog();
  const lines: string[] = [];
  const calls: ExecuteOptions[] = [];
  const run = async (program: string, given: ExecuteOptions): Promise<Ended> => {
    const line = [program, ...(given.args ?? [])].join(' ');
    lines.push(line);
    calls.push(given);
    return end(line);
  };
  const keeper = keepExtension({ commands: open(options as never).commands as Commands, run, clock, log });
  const settle = async () => {
    for (let left = 100; left > 0; left--) await turn();
  };
  return {
    lines,
    calls,
    log,
    keeper,
    async hold(...peers: readonly Lease[]) {
      keeper.hold({ networks: NETWORKS, own: ourLease([4, 6], 'extension'), peers });
      await settle();
    },
    async pass(ms: number) {
      clock.advance(ms);
      await settle();
    },
    /** What was run since the last time. */
    ran: () => lines.splice(0),
  };
}

const ADD_2 = 'add 10.244.2.0/24 fd00:244:0:2::/64 192.168.50.2 fd00:50::2';
const ADD_3 = 'add 10.244.3.0/24 fd00:244:0:3::/64 192.168.50.3 fd00:50::3';
const REMOVE_2 = 'remove 10.244.2.0/24 192.168.50.2';

t.test('a peer comes, stays, changes and goes', async (t) => {
  const { hold, ran, calls, keeper } = rig();
  await hold(lease(2));
  t.strictSame(ran(), ['post 10.244.1.0/24', ADD_2]);
  t.match(calls[1], {
    input: 'data\n',
    environment: {
      PATH: /bin/,
      NETWORK: '10.244.0.0/16',
      SUBNET: '10.244.2.0/24',
      IPV6SUBNET: 'fd00:244:0:2::/64',
      PUBLIC_IP: '192.168.50.2',
      PUBLIC_IPV6: 'fd00:50::2',
    },
  });
  t.match(keeper.status(), { trouble: undefined, added: 1, running: 0, failing: [] });
  await hold(lease(2));
  t.strictSame(ran(), [], 'nothing is run twice');
  await hold(lease(2, 'other'));
  t.strictSame(ran(), [REMOVE_2, ADD_2], 'what was is removed as it was');
  t.strictSame(
    calls.slice(2).map(({ input }) => input),
    ['data\n', 'other\n'],
  );
  await hold();
  t.strictSame(ran(), [REMOVE_2]);
  t.match(keeper.status(), { added: 0 });
});

t.test('nothing of the agent’s own environment', async (t) => {
  const { hold, calls } = rig();
  process.env.FLANNELD_ETCD_PASSWORD = 'secret';
  t.teardown(() => delete process.env.FLANNELD_ETCD_PASSWORD);
  await hold(lease(2));
  t.notMatch(JSON.stringify(calls), /secret|HOME/);
});

t.test('peers wait for PostStartupCommand, which is tried again', async (t) => {
  let fails = true;
  const { hold, pass, ran, keeper, log } = rig((line) => (fails && line.startsWith('post') ? FAILED : ENDED));
  await hold(lease(2));
  t.strictSame(ran(), ['post 10.244.1.0/24']);
  t.equal(keeper.status().trouble, 'PostStartupCommand (post): exit status 2: no such thing');
  await pass(1000);
  t.strictSame(ran(), ['post 10.244.1.0/24']);
  t.equal(log.lines.length, 1);
  fails = false;
  await pass(2000);
  t.strictSame(ran(), ['post 10.244.1.0/24', ADD_2]);
  t.equal(keeper.status().trouble, undefined);
});

t.test('one that fails is tried again less and less often, and delays nobody', async (t) => {
  const { hold, pass, ran, keeper, log } = rig((line) => (line === ADD_2 ? FAILED : ENDED));
  await hold(lease(2), lease(3));
  t.strictSame(ran().slice(1), [ADD_2, ADD_3]);
  t.strictSame(keeper.status().failing, [
    { key: leaseKey(lease(2).subnet), reason: 'SubnetAddCommand (add): exit status 2: no such thing' },
  ]);
  await pass(999);
  t.strictSame(ran(), []);
  await pass(1);
  t.strictSame(ran(), [ADD_2]);
  for (let minute = 0; minute < 10; minute++) await pass(60_000);
  t.ok(ran().length <= 15);
  t.equal(log.lines.length, 1, 'one line for all of it');
  await hold(lease(3));
  t.strictSame(ran(), [REMOVE_2], 'what it may have done is undone');
});

t.test('those that hang delay nobody for long, and those that failed no newcomer', async (t) => {
  const hung: (() => void)[] = [];
  const hangs = new Set([2, 3, 4, 5].map((number) => `add 10.244.${number}.0/24`));
  const { hold, pass, ran, keeper } = rig((line) =>
    [...hangs].some((start) => line.startsWith(start))
      ? new Promise((resolve) => hung.push(() => resolve(FAILED)))
      : ENDED,
  );
  const peers = [2, 3, 4, 5, 6].map((number) => lease(number));
  await hold(...peers);
  t.match(ran().at(-1), /^add 10\.244\.6\.0/);
  t.match(keeper.status(), { running: 4, added: 1 });
  for (const end of hung.splice(0)) end();
  await pass(0);
  await pass(1000);
  t.equal(ran().length, 4, 'they are tried again and hang again');
  await hold(...peers, lease(7), lease(8));
  t.strictSame(
    ran().map((line) => line.split(' ')[1]),
    ['10.244.7.0/24', '10.244.8.0/24'],
  );
  keeper.stop();
});

t.test('a peer that goes while its command runs', async (t) => {
  let end = () => {};
  const { hold, ran, pass } = rig((line) =>
    line === ADD_2 ? new Promise((resolve) => (end = () => resolve(ENDED))) : ENDED,
  );
  await hold(lease(2));
  await hold();
  t.strictSame(ran().slice(1), [ADD_2]);
  end();
  await pass(0);
  t.strictSame(ran(), [REMOVE_2]);
});

t.test('a removal that never succeeds is given up', async (t) => {
  const { hold, pass, ran, keeper } = rig((line) => (line.startsWith('remove') ? FAILED : ENDED));
  await hold(lease(2));
  await hold(lease(2, 'other'));
  t.strictSame(ran().slice(1), [ADD_2, REMOVE_2, ADD_2], 'a changed peer does not wait for it');
  await hold();
  for (let minute = 0; minute < 10; minute++) await pass(60_000);
  t.strictSame(ran(), Array(5).fill(REMOVE_2));
  t.strictSame(keeper.status().failing, []);
});

t.test('without commands there is nothing to run', async (t) => {
  const { hold, ran, keeper } = rig(() => ENDED, { Type: 'extension' });
  await hold(lease(2));
  t.strictSame(ran(), []);
  t.match(keeper.status(), { trouble: undefined, added: 1 });
});

t.test('PreStartupCommand prints what is published', async (t) => {
  const backend = open({ Type: 'extension', PreStartupCommand: 'pre $NETWORK' });
  const site = siteOf([4, 6]);
  const prepared = { site, backend, attributes: { ...ourLease([4, 6]), backendData: {} } };
  const signal = new AbortController().signal;
  const run = async () => ({ ...ENDED, output: ' 02:00:00:00:00:01\n' });
  t.strictSame(await runPreStartup(run, prepared, signal), { 4: '02:00:00:00:00:01' });
  t.strictSame(await runPreStartup(run, { ...prepared, site: siteOf([6]) }, signal), { 6: '02:00:00:00:00:01' });
  await t.rejects(
    runPreStartup(async () => FAILED, prepared, signal),
    { code: 'command-failed', transient: true },
  );
});

t.test('what it publishes and takes', async (t) => {
  const stored = { ...ourLease([4], 'extension'), backendData: { 4: 'kept' } };
  t.strictSame(open({ Type: 'extension' }, stored).backendData, { 4: 'kept' }, 'while the agent runs');
  t.strictSame(open({ Type: 'extension' }, { ...stored, backendType: 'vxlan' }).backendData, {});
  t.equal(open({ Type: 'extension' }).mtu, 1500);
  t.match(open({ Type: 'extension' }).reach({ ...PEER, data: { VNI: 1 } }), { refused: /no text: \{"VNI":1\}/ });
  t.strictSame(open({ Type: 'extension' }).reach({ ...PEER, data: undefined }), { state: {} });
  t.throws(() => open({ Type: 'extension', subnetaddcommand: 'a | b' }), {
    code: 'invalid-network-config',
    message: /Backend\.SubnetAddCommand: "\|" at position 3 needs a shell.*got "a \| b"/,
  });
});

const PEER = {
  family: 4 as const,
  subnet: prefix('10.244.2.0/24'),
  publicIp: siteOf([4]).underlay[4]?.publicIp as never,
  onLink: () => true,
};

t.test('routes that the commands made are not taken for leftovers', async (t) => {
  const route = {
    destination: prefix('10.244.2.0/24'),
    via: lease(2).publicIp[4] as never,
    device: 'eth0',
    protocol: 3,
  };
  const have = merge(HOST, { routes: [route] });
  const owned = (type: string) =>
    planHost(
      {
        site: siteOf([4]),
        backend: openBackend(type, { options: { Type: type }, site: siteOf([4]), have, stored: undefined }),
        self: ourLease([4], type),
        peers: [peerLease([4], 2, { type })],
        networks: [NETWORKS[4]],
        removals: true,
        blackhole: false,
        advertised: [],
      },
      have,
    ).owns({ type: 'route', value: route });
  t.equal(owned('extension'), false);
  t.equal(owned('alloc'), false);
  t.equal(owned('vxlan'), true, 'as they are with a backend that makes routes');
});
