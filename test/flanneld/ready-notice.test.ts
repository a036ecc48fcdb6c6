// What a service manager is told of an agent, and when.

import t from 'tap';
import type { Agent } from '../../flanneld/agent.ts';
import { withReadyNotice } from '../../flanneld/ready-notice.ts';
import { NetError } from '../../model/errors.ts';
import { testClock, testLog } from './fixtures/host.ts';

/** An agent that is as ready as the test says, and runs until it is stopped. */
function running(tell: () => void) {
  const [clock, log, stop] = [testClock(), testLog(), new AbortController()];
  const state: { reason?: string | undefined } = { reason: 'waiting for a subnet' };
  const agent: Agent = {
    run: (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    unreadiness: () => state.reason,
    remarks: () => [],
    examine: async () => undefined,
    status: () => ({}) as ReturnType<Agent['status']>,
  };
  const run = withReadyNotice(agent, { clock, log, tell }).run(stop.signal);
  const end = async () => {
    stop.abort();
    await run;
  };
  return { clock, log, state, end };
}

t.test('when it is ready for the first time, and never again', async (t) => {
  let told = 0;
  const { clock, state, log, end } = running(() => void told++);
  clock.advance(60_000);
  t.equal(told, 0, 'not while it waits');
  state.reason = undefined;
  clock.advance(100);
  t.equal(told, 1);
  state.reason = 'the lease is held by another node';
  clock.advance(1000);
  state.reason = undefined;
  clock.advance(60_000);
  t.equal(told, 1);
  t.strictSame(log.lines, []);
  await end();
});

t.test('a manager that is not there: said once, and the agent goes on', async (t) => {
  const { clock, state, log, end } = running(() => {
    throw new NetError('kernel', 'sendto: ENOENT', { errno: 'ENOENT' });
  });
  state.reason = undefined;
  clock.advance(60_000);
  t.strictSame(log.lines, ['warn tell the service manager that the agent is ready: sendto: ENOENT']);
  await end();
});

t.test('an agent that ends before it is ready leaves nothing waiting', async (t) => {
  let told = 0;
  const { clock, state, end } = running(() => void told++);
  clock.advance(1000);
  await end();
  state.reason = undefined;
  clock.advance(60_000);
  t.equal(told, 0);
});
