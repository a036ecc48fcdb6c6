// The loop that reconciles: when it runs, what it makes of failures.

import t from 'tap';
import { type Run, startReconciler } from '../../flanneld/reconcile.ts';
import type { FakeKernel } from '../../kernel/fake.ts';
import { ip, prefix } from '../../model/ip.ts';
import type { Lease } from '../../model/lease.ts';
import { dumpSorted, fakeHost, testClock, testLog } from './fixtures/host.ts';
import { apply, STATES, step, target, type Wanted } from './fixtures/target.ts';
import { peerLease } from './fixtures/world.ts';

/** A loop over the fake, with its runs. */
function loop(kernel: FakeKernel, current: () => Wanted | undefined) {
  const clock = testClock();
  const log = testLog();
  const runs: Run[] = [];
  const reconciler = startReconciler({
    kernel,
    clock,
    log,
    resyncMs: 5000,
    target: () => {
      const wanted = current();
      return wanted && target(kernel, wanted);
    },
    onRun: (run) => void runs.push(run),
  });
  return { clock, log, runs, reconciler };
}

t.test('the loop touches nothing before it knows what is wanted, then holds the host to it', async (t) => {
  const kernel = fakeHost();
  let wanted: Wanted | undefined;
  const { clock, runs, reconciler } = loop(kernel, () => wanted);
  const before = dumpSorted(kernel);
  reconciler.trigger('start');
  clock.advance(20_000);
  t.equal(runs.length, 0, 'nothing is known: nothing is touched');
  t.equal(dumpSorted(kernel), before);
  wanted = STATES[1] as Wanted;
  reconciler.trigger('leases');
  reconciler.trigger('leases');
  reconciler.trigger('link');
  clock.advance(0);
  t.match(
    runs,
    [{ reasons: ['leases', 'link'], problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] }],
    'at once, and once',
  );
  reconciler.trigger('leases');
  clock.advance(10);
  t.equal(runs.length, 1, 'close to the last: a little later');
  clock.advance(10);
  t.match(runs[1], { changes: 0 });
  apply(
    kernel,
    step('delete', { type: 'route', value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1' } }),
  );
  clock.advance(5000);
  t.match(runs[2], { reasons: ['resync'], changes: 1 });
  reconciler.stop();
  clock.advance(60_000);
  t.equal(runs.length, 3);
});

t.test('defect H: one peer that cannot be programmed delays nobody, and is tried again', async (t) => {
  const kernel = fakeHost();
  const { clock, runs, log, reconciler } = loop(kernel, () => STATES[1]);
  for (let count = 0; count < 2; count++) kernel.failNext(/route replace 10\.244\.2\.0/, 'ENOMEM');
  reconciler.trigger('leases');
  clock.advance(0);
  t.match(runs[0], {
    problems: [],
    peers: [
      { key: '10.244.2.0-24', state: 'failed', reason: /ENOMEM/ },
      { key: '10.244.3.0-24', state: 'programmed' },
    ],
  });
  clock.advance(99);
  t.equal(runs.length, 1);
  clock.advance(1);
  t.match(runs[1], { reasons: ['retry'], peers: [{ state: 'failed' }, {}] });
  clock.advance(200);
  t.match(runs[2], { peers: [{ state: 'programmed' }, { state: 'programmed' }] });
  t.equal(
    log.lines.filter((line) => line.includes('10.244.2.0-24 failed')).length,
    2,
    'said once, and once that it is over',
  );
});

t.test("trouble with the node's own part", async (t) => {
  const kernel = fakeHost();
  const { clock, runs, reconciler } = loop(kernel, () => STATES[1]);
  kernel.failNext(/ip link add flannel\.1/, 'EPERM');
  kernel.failNext(/add chain inet flannel/, 'EBUSY');
  reconciler.trigger('leases');
  clock.advance(0);
  t.match(runs[0]?.problems[0], /change table inet flannel: EBUSY/);
  t.match(runs[0]?.problems[1], /ip link add flannel\.1.*EPERM/);
  clock.advance(1000);
  t.match(runs.at(-1), { problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] });
});

t.test('a change that fails again and again is logged once', async (t) => {
  const kernel = fakeHost();
  const { clock, runs, log, reconciler } = loop(kernel, () => STATES[0]);
  for (let count = 0; count < 30; count++) kernel.failNext(/ip link add flannel\.1/, 'EEXIST');
  reconciler.trigger('leases');
  clock.advance(60_000);
  t.ok(runs.length > 10, `${runs.length} runs`);
  const told = log.lines.filter((line) => line.includes(' changes: '));
  t.match(told, [/changes: leases$/, /changes: retry$/]);
  t.equal(told.length, 2, 'what it needs, and what is still to be done');
  clock.advance(600_000);
  t.match(runs.at(-1), { problems: [], changes: 0 });
  t.match(log.lines.at(-1), /^info no longer: /);
});

t.test('somebody undoes everything we do', async (t) => {
  const kernel = fakeHost();
  const { clock, runs, reconciler } = loop(kernel, () => STATES[1]);
  const route = step('delete', {
    type: 'route',
    value: { destination: prefix('10.244.2.0/24'), via: ip('10.244.2.0'), device: 'flannel.1' },
  });
  reconciler.trigger('start');
  clock.advance(0);
  const undo = kernel.watch((change) => {
    if (change.type === 'route') reconciler.trigger('route changed');
  });
  for (let ms = 0; ms < 10_000; ms += 10) {
    if (kernel.apply(kernel.host, [route]).length === 0) await Promise.resolve();
    clock.advance(10);
  }
  t.ok(runs.length < 25, `${runs.length} runs in 10 s`);
  t.ok(runs.length > 10, 'at least one in a second');
  undo();
  const calm = runs.length;
  clock.advance(5000);
  kernel.apply(kernel.host, [route]);
  reconciler.trigger('route changed');
  clock.advance(1000);
  t.ok(runs.length > calm);
  reconciler.stop();
});

t.test('a host that cannot be read', async (t) => {
  const kernel = fakeHost();
  const held = target(kernel, STATES[1] as Wanted);
  let broken = true;
  const readInSlices: FakeKernel['readInSlices'] = (query) => {
    if (broken) throw new Error('netlink is gone');
    return kernel.readInSlices(query);
  };
  const clock = testClock();
  const runs: Run[] = [];
  startReconciler({
    kernel: { ...kernel, readInSlices },
    clock,
    log: testLog(),
    resyncMs: 5000,
    target: () => held,
    onRun: (run) => void runs.push(run),
  }).trigger('leases');
  clock.advance(0);
  t.match(runs, [{ problems: ['netlink is gone'], peers: [] }]);
  broken = false;
  clock.advance(100);
  t.match(runs[1], { problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] });
});

t.test('what new leases need is added at once, the rest by the run that follows', async (t) => {
  const kernel = fakeHost();
  const [b, c] = [peerLease([4], 2), peerLease([4], 3)];
  let peers = [b];
  const { clock, runs, reconciler } = loop(kernel, () => ({
    what: 'vxlan',
    options: { Type: 'vxlan' },
    families: [4],
    peers,
  }));
  reconciler.hurry([b], []);
  t.notMatch(dumpSorted(kernel), /flannel\.1/, 'not before the first run');
  reconciler.trigger('leases');
  clock.advance(0);
  const moved = peerLease([4], 2, { mac: '02:00:00:00:00:22' });
  const thief = { ...peerLease([4], 4, { mac: '02:00:00:00:00:22' }) };
  const nonsense = { ...peerLease([4], 5), backendData: {} };
  kernel.failNext(/neighbour replace 10\.244\.3\.0/, 'ENOMEM');
  reconciler.hurry([moved, c, thief, nonsense], []);
  const hurried = dumpSorted(kernel);
  for (const line of [
    /neighbour add 10\.244\.2\.0 lladdr 02:00:00:00:00:22/,
    /fdb add 02:00:00:00:00:22 .*192\.168\.50\.2 /,
    /10\.244\.3\.0\/24 via/,
  ])
    t.match(hurried, line);
  t.notMatch(hurried, /10\.244\.[45]\.0/, 'who claims what another has, or makes no sense, gets nothing');
  t.match(hurried, /fdb add 02:00:00:00:00:02 /, 'what has to go is still there');
  peers = [moved, c];
  reconciler.trigger('leases');
  clock.advance(20);
  t.match(
    runs[1],
    { changes: 2, peers: [{ state: 'programmed' }, { state: 'programmed' }] },
    'the failed one, and the stale one',
  );
  t.notMatch(dumpSorted(kernel), /02:00:00:00:00:02 /);
});

t.test('routes of leases that are gone go at once, the rest by the run that follows', async (t) => {
  const kernel = fakeHost();
  const [b, c] = [peerLease([4], 2), peerLease([4], 3)];
  let peers = [b, c];
  const { clock, reconciler } = loop(kernel, () => ({
    what: 'vxlan',
    options: { Type: 'vxlan' },
    families: [4],
    peers,
  }));
  reconciler.trigger('leases');
  clock.advance(0);
  const stranger = peerLease([4], 9);
  reconciler.hurry([], [b, stranger]);
  const hurried = dumpSorted(kernel);
  t.notMatch(hurried, /10\.244\.2\.0\/24 via/);
  t.match(hurried, /10\.244\.3\.0\/24 via/, 'nobody else loses a route');
  t.match(hurried, /neighbour add 10\.244\.2\.0 /, 'another peer may need what is not a route');
  reconciler.hurry([b], []);
  t.match(dumpSorted(kernel), /10\.244\.2\.0\/24 via/, 'back before the run');
  reconciler.hurry([], [b]);
  peers = [c];
  reconciler.trigger('leases');
  clock.advance(20);
  t.notMatch(dumpSorted(kernel), /10\.244\.2\.0/);
});

const member = (number: number) =>
  peerLease([4, 6], number, { mac: `02:00:00:00:00:${number.toString(16).padStart(2, '0')}` });

/**
 * A loop over 200 peers whose runs take many turns, since time passes with every look at the clock; `ends` are what the
 * host held when each run ended.
 */
function longRuns() {
  const kernel = fakeHost();
  const clock = testClock(1);
  const peers = Array.from({ length: 200 }, (_, number) => member(number + 2));
  const runs: Run[] = [];
  const ends: string[] = [];
  const reconciler = startReconciler({
    kernel: {
      ...kernel,
      *readInSlices(query) {
        for (let count = 0; count < 20; count++) yield;
        return yield* kernel.readInSlices(query);
      },
      // A part of what is applied fills a slice, wherever in one it begins.
      apply(...of) {
        for (let ms = 0; ms < 5; ms++) clock.now();
        return kernel.apply(...of);
      },
    },
    clock,
    log: testLog(),
    resyncMs: 3_600_000,
    target: () => target(kernel, { what: 'vxlan', options: { Type: 'vxlan' }, families: [4, 6], peers: [...peers] }),
    onRun(run) {
      runs.push(run);
      ends.push(dumpSorted(kernel));
    },
  });
  /** Until nothing is left to do; the number of turns. */
  const settle = () => {
    let count = 0;
    while (clock.turn(1000)) count++;
    return count;
  };
  return { kernel, clock, peers, runs, ends, reconciler, settle };
}

t.test('a run over many peers lets others have their turn', async (t) => {
  const { clock, runs, reconciler, settle } = longRuns();
  reconciler.trigger('leases');
  const first = settle();
  t.ok(first > 8, `${first} turns in a run that programs`);
  t.match(runs, [{ problems: [] }]);
  t.ok(runs[0]?.peers.every(({ state }) => state === 'programmed'));
  reconciler.trigger('route changed');
  const second = settle();
  t.ok(second > 4, `${second} turns in a run that finds nothing`);
  t.match(runs[1], { changes: 0 });
  reconciler.trigger('route changed');
  clock.turn(1000);
  reconciler.trigger('link changed');
  settle();
  t.match(runs.slice(2), [{ reasons: ['route changed'] }, { reasons: ['link changed'] }], 'one after the other');
  reconciler.trigger('route changed');
  clock.turn(1000);
  reconciler.stop();
  t.notOk(clock.turn(3_600_000), 'a run that is stopped in the middle stays where it is');
  t.equal(runs.length, 4);
});

t.test('leases that come and go in the middle of a run', async (t) => {
  const { kernel, clock, peers, runs, ends, reconciler, settle } = longRuns();
  reconciler.trigger('leases');
  settle();
  const late = member(220);
  reconciler.trigger('route changed');
  clock.turn(1000);
  peers.push(late);
  reconciler.hurry([late], []);
  t.equal(runs.length, 1);
  t.match(dumpSorted(kernel), /10\.244\.220\.0\/24 via/, 'one that comes does not wait for the end of the run');
  while (runs.length < 2) clock.turn(1000);
  reconciler.hurry([], [late]);
  t.notMatch(dumpSorted(kernel), /10\.244\.220\.0\/24 via/, 'and that goes before another run does not wait for that');
  reconciler.hurry([late], []);
  reconciler.trigger('leases');
  settle();
  t.match(runs.slice(1), [{ reasons: ['route changed'] }, { reasons: ['leases'], changes: 0 }]);
  t.match(ends[1], /10\.244\.220\.0\/24 via/, 'and the run does not take it for a leftover');

  apply(kernel, step('delete', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } }));
  reconciler.trigger('link changed');
  while (!/fdb add .* 192\.168\.50\.20 /.test(dumpSorted(kernel)) && clock.turn(1000));
  const [gone] = peers.splice(150, 1) as [Lease];
  t.notMatch(dumpSorted(kernel), /10\.244\.152\.0\/24 via/);
  reconciler.hurry([], [gone]);
  reconciler.trigger('leases');
  settle();
  t.notMatch(ends[3], /10\.244\.152\.0\/24 via/, 'one that goes is not made by a run that began before');
  t.match(ends[3], /10\.244\.153\.0\/24 via/);
  t.notMatch(ends.at(-1), /10\.244\.152\.0/);
  reconciler.stop();
});

t.test('where nothing has changed, nothing is planned', async (t) => {
  const kernel = fakeHost();
  const clock = testClock();
  const runs: Run[] = [];
  let held = target(kernel, STATES[1] as Wanted);
  let plans = 0;
  const reconciler = startReconciler({
    kernel,
    clock,
    log: testLog(),
    resyncMs: 5000,
    target: () => ({
      ...held,
      plan: (have) => {
        plans++;
        return held.plan(have);
      },
    }),
    onRun: (run) => void runs.push(run),
  });
  const planned = () => {
    const before = plans;
    clock.advance(5000);
    return plans - before;
  };
  reconciler.trigger('leases');
  clock.advance(0);
  t.equal(planned(), 1, 'after changes it is looked again');
  t.strictSame([planned(), planned()], [0, 0]);
  t.match(runs.at(-1), { changes: 0, problems: [], peers: [{ state: 'programmed' }, { state: 'programmed' }] });
  const route = step('delete', { type: 'route', value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1' } });
  apply(kernel, route);
  t.equal(planned(), 1);
  t.match(runs.at(-1), { changes: 1 });
  t.strictSame([planned(), planned()], [1, 0]);
  kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  t.equal(planned(), 0);
  t.ok((runs.at(-1)?.changes ?? 0) > 0, 'rules are compared all the same');
  const late = peerLease([4], 7);
  reconciler.hurry([late], []);
  t.match(dumpSorted(kernel), /10\.244\.7\.0\/24 via/, 'what came since then is known');
  t.equal(planned(), 1);
  t.notMatch(dumpSorted(kernel), /10\.244\.7\.0/);
  held = target(kernel, STATES[1] as Wanted);
  t.strictSame([planned(), planned()], [1, 0], 'other leases are another plan');
  reconciler.stop();
});
