// The prober with a network that is a function, and time in the test's hands.

import t from 'tap';
import type { EchoListeners, OpenEchoes } from '../../../kernel/probe.ts';
import { NetError } from '../../../model/errors.ts';
import { type Family, ip } from '../../../model/ip.ts';
import { countProbes, probeNotes } from '../../../flanneld/probe/notes.ts';
import { startProber, type Target } from '../../../flanneld/probe/prober.ts';
import { MOST_PER_SECOND } from '../../../flanneld/probe/turns.ts';
import { testClock, testLog } from '../fixtures/host.ts';

const target = (number: number, family: Family = 4): Target => ({
  key: `10.244.${number}.0-24`,
  family,
  address: family === 4 ? ip(`10.244.${number}.0`) : ip(`fd00:244:0:${number}::`),
  bytes: 1450,
});

/** `answer`: milliseconds after which an echo is answered, and never when undefined. */
function rig(answer: (to: string, bytes: number) => number | undefined, intervalMs = 10_000) {
  const clock = testClock();
  const log = testLog();
  const sent: { to: string; bytes: number; at: number }[] = [];
  const listeners = new Map<Family, EchoListeners>();
  const network = { down: undefined as NetError | undefined, open: 0 };
  const open: OpenEchoes = (family, given) => {
    if (network.down !== undefined) throw network.down;
    listeners.set(family, given);
    network.open++;
    return {
      send(to, sequence, bytes) {
        sent.push({ to, bytes, at: clock.now() });
        const after = answer(to, bytes);
        if (after !== undefined) clock.after(after, () => given.onReply(sequence));
      },
      close: () => void network.open--,
    };
  };
  const prober = startProber({ open, intervalMs, clock, log });
  const stateOf = (number: number) =>
    prober
      .findings()
      .get(`10.244.${number}.0-24`)
      ?.map(({ family, state }) => `${family} ${state}`)
      .join();
  return { clock, log, sent, listeners, network, prober, stateOf };
}

t.test('good, cut and narrow ways', async (t) => {
  const { clock, prober, sent, stateOf } = rig((to, bytes) =>
    to === '10.244.2.0' ? undefined : to === '10.244.3.0' && bytes > 1400 ? undefined : 3,
  );
  prober.hold([target(1), target(2), target(3), target(1, 6)]);
  t.equal(stateOf(1), '4 unknown,6 unknown');
  clock.advance(15_000);
  t.equal(stateOf(1), '4 reachable,6 reachable');
  clock.advance(10_000);
  t.equal(stateOf(2), '4 unreachable');
  t.equal(stateOf(3), '4 mtu-too-small');
  t.match(prober.findings().get('10.244.1.0-24')?.[0], { rttMs: 3, loss: 0, fits: true, address: '10.244.1.0' });
  t.same([...new Set(sent.map(({ bytes }) => bytes))], [84, 1450], 'a small echo and one as large as the MTU of pods');
  prober.stop();
  const before = sent.length;
  clock.advance(60_000);
  t.equal(sent.length, before);
});

t.test('many peers are probed evenly, and no faster than the bound', async (t) => {
  const { clock, prober, sent } = rig(() => 1, 30_000);
  const targets = Array.from({ length: 5000 }, (_, number) => ({
    ...target(1),
    key: String(number),
    address: ip(`10.${number >> 8}.${number & 255}.0`),
  }));
  prober.hold(targets);
  clock.advance((5000 / MOST_PER_SECOND) * 1000 + 100);
  t.equal(new Set(sent.map(({ to }) => to)).size, 5000);
  const perSecond = Map.groupBy(sent, ({ at }) => Math.floor(at / 1000));
  t.ok(Math.max(...[...perSecond.values()].map(({ length }) => length)) <= 2 * MOST_PER_SECOND);
  prober.stop();
});

t.test('peers come, change and go', async (t) => {
  const { clock, prober, sent, stateOf } = rig(() => 1);
  prober.hold([target(1)]);
  clock.advance(10_500);
  prober.hold([target(1), target(2)]);
  clock.advance(100);
  t.ok(
    sent.some(({ to }) => to === '10.244.2.0'),
    'a newcomer does not wait for the interval',
  );
  t.equal(stateOf(1), '4 reachable', 'and the others keep what is known');
  prober.hold([{ ...target(1), bytes: 1400 }]);
  t.equal(stateOf(1), '4 unknown', 'with another MTU nothing is known yet');
  t.equal(stateOf(2), undefined);
  prober.hold([]);
  const before = sent.length;
  clock.advance(60_000);
  t.equal(sent.length, before);
});

t.test('late answers, and answers to nothing', async (t) => {
  const { clock, prober, listeners, stateOf } = rig(() => undefined);
  prober.hold([target(1)]);
  clock.advance(0);
  clock.advance(2500);
  listeners.get(4)?.onReply(1);
  listeners.get(4)?.onReply(77);
  clock.advance(20_000);
  t.equal(stateOf(1), '4 unreachable');
});

t.test('a socket that fails is opened again, and said once', async (t) => {
  const { clock, log, network, prober, listeners, stateOf } = rig(() => 1);
  network.down = new NetError('kernel', 'open ICMP socket: EPERM');
  prober.hold([target(1)]);
  clock.advance(60_000);
  t.match(prober.trouble(), /EPERM/);
  t.strictSame(log.lines, ["warn peers can't be probed: open ICMP socket: EPERM; trying again"]);
  t.equal(stateOf(1), '4 unknown');
  network.down = undefined;
  clock.advance(30_000);
  t.equal(prober.trouble(), undefined);
  t.equal(stateOf(1), '4 reachable');
  listeners.get(4)?.onFailure(new NetError('kernel', 'receive from ICMP socket: ENETDOWN'));
  t.match(prober.trouble(), /ENETDOWN/);
  clock.advance(10_000);
  t.equal(prober.trouble(), undefined);
});

t.test('all peers together', async (t) => {
  const peer = (key: string, ...states: readonly ('reachable' | 'mtu-too-small' | 'unreachable' | 'unknown')[]) => ({
    key,
    publicIp: [],
    state: 'programmed' as const,
    probes: states.map((state, index) => ({
      family: index === 0 ? (4 as const) : (6 as const),
      address: ip('10.0.0.1'),
      state,
      rttMs: 1,
      loss: 0,
      fits: true,
      rounds: 3,
    })),
  });
  const peers = [
    peer('a', 'reachable', 'unreachable'),
    peer('b', 'unknown', 'reachable'),
    peer('c', 'mtu-too-small'),
    ...['d', 'e', 'f', 'g', 'h'].map((key) => peer(key, 'unreachable')),
    { key: 'z', publicIp: [], state: 'refused' as const },
  ];
  t.same(countProbes(peers), { reachable: 1, 'mtu-too-small': 1, unreachable: 6, unknown: 0 });
  t.same(probeNotes(peers), [
    'peers mtu-too-small: 1 of 8 (c)',
    'peers unreachable: 6 of 8 (a, d, e, f, g, and 1 more)',
  ]);
  t.same(probeNotes([peer('a', 'reachable')]), []);
});
