// The udp backend: what it wants of the host, what it tells its program, and how it keeps that running.

import t from 'tap';
import type { ProxySettings } from '../../../flanneld/backend/backend.ts';
import { keepProxy } from '../../../flanneld/backend/proxy-keeper.ts';
import { openUdp } from '../../../flanneld/backend/udp.ts';
import { ANSWER_BYTES, readCounters, replaceRoutes } from '../../../flanneld/backend/udp-control.ts';
import type { Child, ChildListeners } from '../../../kernel/child.ts';
import { type Family, ip, prefix } from '../../../model/ip.ts';
import { EMPTY_STATE, merge } from '../../../model/state.ts';
import { replacement } from '../../support/udp-proxy.ts';
import { testClock, testLog } from '../fixtures/host.ts';
import { ourLease, peerLease, siteOf } from '../fixtures/world.ts';

const open = (families: readonly Family[], options: object = {}) =>
  openUdp({ options: { Type: 'udp', ...options }, site: siteOf(families), have: EMPTY_STATE, stored: undefined });

t.test('what it wants', async (t) => {
  const backend = open([4]);
  t.match(backend, { publishedType: '', backendData: {}, mtu: 1472, devices: ['flannel0'] });
  t.strictSame(
    backend.base(ourLease([4]), () => false),
    {},
    'nothing on a device that its program has not made yet',
  );
  t.strictSame(merge(backend.base(ourLease([4]), () => true)), {
    ...EMPTY_STATE,
    links: [{ name: 'flannel0', kind: 'tun', up: true, mtu: 1472 }],
    sysctls: [
      { key: 'net/ipv4/conf/flannel0/accept_local', value: '1' },
      { key: 'net/ipv4/conf/flannel0/rp_filter', value: '2' },
    ],
    addresses: [{ device: 'flannel0', address: '10.244.1.0/32' }],
    routes: [{ destination: '10.244.0.0/16', device: 'flannel0', protocol: 251 }],
  });
  t.equal(open([6]).mtu, 1452);
  t.strictSame(
    open([6])
      .base(ourLease([6]), () => true)
      .addresses?.map(({ address }) => address),
    ['fd00:244:0:1::/128'],
  );
});

t.test('what its program is to do', async (t) => {
  t.strictSame(open([4, 6], { port: 9999 }).proxy?.(ourLease([4, 6], ''), [peerLease([4, 6], 2, { type: '' })]), {
    args: ['flannel0', '192.168.50.1', '9999', '10.244.1.0', 'fd00:244:0:1::'],
    port: 9999,
    routes: [
      { network: '10.244.2.0/24', nextHop: '192.168.50.2' },
      { network: 'fd00:244:0:2::/64', nextHop: '192.168.50.2' },
    ],
  });
  t.strictSame(open([6]).proxy?.(ourLease([6], ''), [peerLease([6], 2, { type: '' })]), {
    args: ['flannel0', 'fd00:50::1', '8285', 'fd00:244:0:1::'],
    port: 8285,
    routes: [{ network: 'fd00:244:0:2::/64', nextHop: 'fd00:50::2' }],
  });
  t.throws(() => open([4], { Port: 'x' }), { code: 'invalid-network-config', message: /Backend\.Port/ });
});

t.test('it is told routes, and tells counters, as udp-proxy.c does', async (t) => {
  const routes = [
    { network: prefix('10.244.2.0/24'), nextHop: ip('192.168.50.2') },
    { network: prefix('fd00:244:0:2::/64'), nextHop: ip('fd00:50::2') },
  ];
  t.strictSame(replaceRoutes(routes, 8285), replacement(routes), 'as the tests of the program itself speak it');
  const answer = Buffer.alloc(ANSWER_BYTES);
  answer.writeBigUInt64BE(7n, 0);
  answer.writeBigUInt64BE(3n, ANSWER_BYTES - 16);
  t.match(readCounters(answer), { sentPackets: 7, routes: 3, routesRefused: 0 });
});

interface Started {
  readonly args: readonly string[];
  readonly listeners: ChildListeners;
  readonly sent: Uint8Array[];
  closed: boolean;
}

t.test('it is kept running', async (t) => {
  const clock = testClock();
  const log = testLog();
  const started: Started[] = [];
  const start = (_program: string, args: readonly string[], listeners: ChildListeners): Child => {
    const one: Started = { args, listeners, sent: [], closed: false };
    started.push(one);
    return {
      pid: 100 + started.length,
      send: (data) => void one.sent.push(data),
      close() {
        one.closed = true;
      },
    };
  };
  const keeper = keepProxy({ program: '/udp-proxy', start }, clock, log);
  const routes = [{ network: prefix('10.244.2.0/24'), nextHop: ip('192.168.50.2') }];
  const settings: ProxySettings = { args: ['flannel0', '192.168.50.1', '8285'], port: 8285, routes };
  const ready = (index: number) => started[index]?.listeners.onData(Buffer.alloc(ANSWER_BYTES));
  t.match(keeper.status(), { pid: undefined, trouble: /not been started/ });
  keeper.hold(settings);
  t.equal(started.length, 1);
  t.same(started[0]?.sent, [], 'it is told nothing before it is ready');
  started[0]?.listeners.onData(Buffer.alloc(100));
  t.ok(keeper.status().trouble, 'half an answer');
  started[0]?.listeners.onData(Buffer.alloc(ANSWER_BYTES - 100));
  t.match(keeper.status(), { pid: 101, trouble: undefined, restarts: 0, counters: { sentPackets: 0 } });
  t.strictSame(started[0]?.sent, [replaceRoutes(routes, 8285)]);
  keeper.hold(settings);
  t.equal(started[0]?.sent.length, 1, 'nothing new: nothing is said');
  keeper.hold({ ...settings, routes: [] });
  t.strictSame(started[0]?.sent.at(-1), replaceRoutes([], 8285));
  clock.advance(5000);
  t.equal(started[0]?.sent.length, 3, 'it is asked for its counters');

  started[0]?.listeners.onEnd('poll: EIO');
  t.match(keeper.status(), { pid: undefined, trouble: 'poll: EIO', restarts: 1, counters: undefined });
  clock.advance(200);
  t.equal(started.length, 2);
  ready(1);
  t.strictSame(started[1]?.sent, [replaceRoutes([], 8285)], 'all routes again');
  t.equal(keeper.status().trouble, undefined);
  for (let index = 1; index < 8; index++) {
    started[index]?.listeners.onEnd('bind: EADDRNOTAVAIL');
    clock.advance(2500);
  }
  t.equal(started.length, 9, 'tried again and again');
  t.equal(log.lines.filter((line) => line.includes('EADDRNOTAVAIL')).length, 1, 'said once');

  ready(8);
  keeper.hold({ ...settings, args: ['flannel0', '192.168.50.101', '8285'] });
  t.ok(started[8]?.closed, 'another address: ended');
  started[8]?.listeners.onEnd('ended with exit code 0');
  clock.advance(2500);
  t.equal(started.at(-1)?.args[1], '192.168.50.101', 'and started with it');

  keeper.stop();
  t.ok(started.at(-1)?.closed);
  started.at(-1)?.listeners.onEnd('ended with exit code 0');
  const count = started.length;
  clock.advance(60_000);
  t.equal(started.length, count);
});
