// Order and bounds: tasks that end when the test says so.

import t from 'tap';
import { createQueue, type Queue } from '../../../flanneld/cni/queue.ts';
import { NetError } from '../../../model/errors.ts';
import { below, random } from '../../support/seed.ts';

type LaneName = 'quick' | 'slow';
const LANES = { quick: { running: 2, waiting: 3 }, slow: { running: 1, waiting: 3 } };

/** Tasks by name: which have begun, in order, and the end of each. */
function tasks(queue: Queue<LaneName>) {
  const begun: string[] = [];
  const ends = new Map<string, PromiseWithResolvers<string>>();
  const outcomes = new Map<string, string>();
  return {
    begun,
    outcomes,
    add(name: string, lane: LaneName, key: string, unless?: AbortSignal) {
      const end = Promise.withResolvers<string>();
      ends.set(name, end);
      const task = () => {
        begun.push(name);
        return end.promise;
      };
      queue.run({ lane, key, unless }, task).then(
        (value) => outcomes.set(name, value),
        (error: Error) => outcomes.set(name, `! ${error.message}`),
      );
    },
    async end(name: string) {
      ends.get(name)?.resolve('done');
      await turns();
    },
    async fail(name: string) {
      ends.get(name)?.reject(new Error('broken'));
      await turns();
    },
  };
}

async function turns(): Promise<void> {
  for (let n = 0; n < 5; n++) await Promise.resolve();
}

t.test('those of one key in their order, others side by side', async (t) => {
  const queue = createQueue<LaneName>(LANES);
  const { add, begun, end, fail, outcomes } = tasks(queue);
  add('a1', 'quick', 'a');
  add('a2', 'quick', 'a');
  add('b1', 'quick', 'b');
  add('c1', 'quick', 'c');
  t.strictSame(begun, ['a1', 'b1'], 'two at once');
  t.strictSame([queue.running, queue.waiting], [2, 2]);
  await end('b1');
  t.strictSame(begun, ['a1', 'b1', 'c1'], 'a busy key holds up nobody else');
  await fail('a1');
  t.strictSame(begun, ['a1', 'b1', 'c1', 'a2'], 'nor does a failure');
  await end('a2');
  await end('c1');
  t.strictSame(Object.fromEntries(outcomes), { a1: '! broken', a2: 'done', b1: 'done', c1: 'done' });
  t.strictSame([queue.running, queue.waiting], [0, 0]);
});

t.test('a full lane holds up only itself', async (t) => {
  const queue = createQueue<LaneName>(LANES);
  const { add, begun, end } = tasks(queue);
  add('s1', 'slow', 'a');
  add('s2', 'slow', 'b');
  add('q1', 'quick', 'c');
  t.strictSame(begun, ['s1', 'q1']);
  add('q2', 'quick', 'b');
  t.strictSame(begun, ['s1', 'q1'], 'but what it holds up keeps its place before others of its key');
  await end('s1');
  t.strictSame(begun, ['s1', 'q1', 's2']);
  await end('s2');
  t.strictSame(begun, ['s1', 'q1', 's2', 'q2']);
});

t.test('beyond the backlog a request is refused, in its lane', async (t) => {
  const queue = createQueue<LaneName>(LANES);
  const { add, outcomes } = tasks(queue);
  for (let n = 0; n < 5; n++) add(`s${n}`, 'slow', `k${n}`);
  add('q', 'quick', 'k9');
  await turns();
  t.strictSame(Object.fromEntries(outcomes), { s4: '! 3 requests are waiting already' });
  t.strictSame([queue.running, queue.waiting], [2, 3]);
});

t.test('who is not wanted any more never begins', async (t) => {
  const queue = createQueue<LaneName>(LANES);
  const { add, begun, outcomes, end } = tasks(queue);
  const gone = new AbortController();
  add('a1', 'quick', 'a', gone.signal);
  add('a2', 'quick', 'a', gone.signal);
  add('a3', 'quick', 'a');
  gone.abort(new Error('gone'));
  add('b1', 'quick', 'b', gone.signal);
  await turns();
  t.strictSame(Object.fromEntries(outcomes), { a2: '! gone', b1: '! gone' });
  await end('a1');
  t.strictSame(begun, ['a1', 'a3'], 'what has begun goes on');
});

t.test('stop: what runs ends, nothing begins', async (t) => {
  const queue = createQueue<LaneName>(LANES);
  const { add, begun, outcomes, end } = tasks(queue);
  add('a1', 'quick', 'a');
  add('a2', 'quick', 'a');
  let stopped = false;
  const stop = queue.stop(new NetError('try-later', 'stopping')).then(() => {
    stopped = true;
  });
  add('b1', 'quick', 'b');
  await turns();
  t.strictSame(Object.fromEntries(outcomes), { a2: '! stopping', b1: '! stopping' });
  t.equal(stopped, false);
  await end('a1');
  await stop;
  t.strictSame(begun, ['a1']);
  await createQueue<LaneName>(LANES).stop(new NetError('try-later', 'stopping'));
});

t.test('whatever comes: bounds and order hold, and all of it ends', async (t) => {
  const next = random('cni-queue');
  const limits = { quick: { running: 3, waiting: 1000 }, slow: { running: 2, waiting: 1000 } };
  const queue = createQueue<LaneName>(limits);
  const running = new Map<string, LaneName>();
  const order = new Map<string, number[]>();
  const all = Array.from({ length: 400 }, async (_, n) => {
    const lane: LaneName = below(2, next) === 0 ? 'quick' : 'slow';
    const key = `k${below(12, next)}`;
    const pauses = below(6, next);
    await queue.run({ lane, key }, async () => {
      t.notOk(running.has(key));
      running.set(key, lane);
      const inLane = [...running.values()].filter((other) => other === lane).length;
      t.ok(inLane <= limits[lane].running);
      order.set(key, [...(order.get(key) ?? []), n]);
      for (let pause = 0; pause < pauses; pause++) await Promise.resolve();
      running.delete(key);
    });
  });
  await Promise.all(all);
  for (const numbers of order.values()) {
    t.strictSame(
      numbers,
      numbers.toSorted((a, b) => a - b),
    );
  }
});
