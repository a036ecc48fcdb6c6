// Events: few, counted up, and no trouble of the agent's.

import t, { type Test } from 'tap';
import { openClient } from '../../../flanneld/kube/client.ts';
import { kubeEvents } from '../../../flanneld/kube/events.ts';
import { standingEvents } from '../../../flanneld/subnet/standing-events.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';

const warning = (message: string, reason = 'PeerUnreachable') => ({ type: 'Warning', reason, message }) as const;

async function rig(t: Test) {
  const server = await startFakeApiServer();
  const client = openClient(async () => ({ server: server.url, authorization: undefined, tls: {} }));
  const troubles: unknown[] = [];
  const events = kubeEvents(client, 'a', (trouble) => troubles.push(trouble), { againMs: 0 });
  t.teardown(async () => {
    events.close();
    client.close();
    await server.close();
  });
  const until = async (met: () => boolean) => {
    for (let turn = 0; turn < 1000 && !met(); turn++) await new Promise((resolve) => setTimeout(resolve, 10));
    return met();
  };
  return { server, events, troubles, until };
}

t.test('what is said again counts up; what is new is another Event', async (t) => {
  const { server, events, until } = await rig(t);
  events.tell(warning('b: no route'));
  t.ok(await until(() => server.events.size === 1));
  events.tell(warning('b: no route'));
  const [first] = server.events.values();
  t.ok(await until(() => [...server.events.values()][0]?.count === 2), JSON.stringify(first));
  events.tell(warning('c: no route'));
  t.ok(await until(() => server.events.size === 2));
});

t.test('a flood is five Events', async (t) => {
  const { server, events, until } = await rig(t);
  for (let number = 0; number < 100; number++) events.tell(warning(`trouble ${number}`, `Reason${number}`));
  t.ok(await until(() => server.events.size === 5));
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(server.events.size, 5);
});

t.test('an Event that has gone is made anew; a refusal is told once', async (t) => {
  const { server, events, troubles, until } = await rig(t);
  events.tell(warning('x'));
  t.ok(await until(() => server.events.size === 1));
  server.events.clear();
  server.refuse = (method) => (method === 'PATCH' ? { status: 404 } : undefined);
  events.tell(warning('x'));
  t.ok(await until(() => server.events.size === 1));
  server.refuse = () => ({ status: 403 });
  events.tell(warning('y'));
  events.tell(warning('z'));
  t.ok(await until(() => troubles.length > 0 && server.requests.length >= 5));
  t.match(troubles, [{ code: 'kube-refused' }]);
});

t.test('peers that are not reached are one Event, some of them by name', async (t) => {
  const peers = Array.from({ length: 8 }, (_, number) => ({
    key: `10.5.${number}.0-24`,
    publicIp: [],
    nodeId: `n${number}`,
    state: number === 0 ? ('programmed' as const) : ('refused' as const),
    reason: 'has VNI 2, we have 1',
  }));
  t.match(standingEvents({ ready: true, peers, problems: ['link flannel.1: EPERM', 'other'], config: undefined }), [
    { reason: 'NetworkNotProgrammed', message: 'link flannel.1: EPERM' },
    { reason: 'PeerUnreachable', message: /^n1: has VNI 2, we have 1; n2: .*; and 2 more$/ },
  ]);
  t.strictSame(standingEvents({ ready: true, peers: peers.slice(0, 1), problems: [], config: undefined }), []);
});
