// What runs beside the loop is told what has changed, and nothing in runs that change nothing: with thousands of peers
// telling takes as long as the run itself.

import t from 'tap';
import { startBeside } from '../../flanneld/beside.ts';
import type { Backend } from '../../flanneld/backend/backend.ts';
import type { PeerStatus } from '../../flanneld/peer-status.ts';
import type { Prepared } from '../../flanneld/prepare.ts';
import { newProgress } from '../../flanneld/progress.ts';
import type { Run } from '../../flanneld/reconcile.ts';
import { type Lease, leaseKey } from '../../model/lease.ts';
import { testClock, testLog } from './fixtures/host.ts';
import { NETWORKS, ourLease, peerLease } from './fixtures/world.ts';

const judged = (leases: readonly Lease[], refused: readonly Lease[] = []): PeerStatus[] =>
  leases.map((lease) => ({
    key: leaseKey(lease.subnet),
    publicIp: [],
    state: refused.includes(lease) ? 'refused' : 'programmed',
  }));

const run = (peers: readonly PeerStatus[]): Run => ({
  at: 0,
  reasons: [],
  durationMs: 1,
  changes: 0,
  problems: [],
  peers,
});

t.test('who is probed, and when none is', async (t) => {
  const clock = testClock();
  const progress = newProgress(clock.now());
  let asked = 0;
  const backend = {
    mtu: 1450,
    echoes({ publicIp }) {
      asked++;
      return publicIp;
    },
  } as Partial<Backend> as Backend;
  const prepared = { backend, site: { networks: NETWORKS } } as unknown as Prepared;
  const openEchoes = () => ({ send: () => undefined, close: () => undefined });
  const beside = startBeside(
    { config: { probeSeconds: 30 } as never, clock, log: testLog(), openEchoes },
    progress,
    backend,
  );
  t.teardown(beside.stop);
  const [two, three] = [peerLease([4], 2), peerLease([4], 3)];
  const probed = () => [...(progress.prober?.findings().keys() ?? [])];
  const know = (...peers: readonly Lease[]) => {
    progress.known = { peers, missing: 0, graceUntil: 0 };
  };

  beside.hold(run([]));
  t.equal(asked, 0, 'nothing before there is a subnet');
  Object.assign(progress, { prepared, lease: ourLease([4]) });
  know(two, three);
  beside.hold(run(judged([two])));
  t.strictSame(probed(), [leaseKey(two.subnet)], 'a lease that no run has judged yet is not believed');
  beside.hold(run(judged([two, three])));
  t.strictSame(
    probed(),
    [two, three].map(({ subnet }) => leaseKey(subnet)),
  );
  const before = asked;
  for (let count = 0; count < 3; count++) beside.hold(run(judged([two, three])));
  t.equal(asked, before, 'runs that change nothing ask nothing');
  beside.hold(run(judged([two, three], [three])));
  t.strictSame(probed(), [leaseKey(two.subnet)], 'one that turns out to make no sense');
  know(three);
  beside.hold(run(judged([three])));
  t.strictSame(probed(), [leaseKey(three.subnet)]);
  const fresh = { ...prepared, backend: { ...backend, echoes: () => undefined } };
  Object.assign(progress, { prepared: fresh });
  beside.hold(run(judged([three])));
  t.strictSame(probed(), [], 'another backend');
});
