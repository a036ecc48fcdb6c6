// What is given back after a start.

import t from 'tap';
import { settleMemory } from '../../flanneld/memory.ts';
import { testClock } from './fixtures/host.ts';

t.test('once, a while after everything is in its place', async (t) => {
  const clock = testClock();
  const asked: unknown[] = [];
  const before = globalThis.gc;
  t.teardown(() => {
    globalThis.gc = before;
  });
  globalThis.gc = ((options) => void asked.push(options)) as typeof globalThis.gc;
  settleMemory(clock);
  clock.advance(999);
  t.strictSame(asked, [], 'not at once');
  clock.advance(1);
  t.match(asked, [{ type: 'major' }]);
  clock.advance(3_600_000);
  t.equal(asked.length, 1);
});

t.test('where the process may not be asked for it, V8 does it in its own time', async (t) => {
  const clock = testClock();
  const before = globalThis.gc;
  t.teardown(() => {
    globalThis.gc = before;
  });
  globalThis.gc = undefined;
  settleMemory(clock);
  t.doesNotThrow(() => clock.advance(1000));
});
