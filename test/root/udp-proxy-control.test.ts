// How the udp backend's data path starts, obeys, and ends.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { contains, type Ip, ip, type Prefix, prefix } from '../../model/ip.ts';
import { count } from '../support/count.ts';
import { makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { below, random } from '../support/seed.ts';
import { DEVICE, underlayOf } from '../support/udp-overlay.ts';
import {
  compileProxy,
  deletion,
  MAX_ROUTES,
  MESSAGE_BYTES,
  PORT,
  replacement,
  STOP,
  setting,
  startProxy,
  UdpProxy,
} from '../support/udp-proxy.ts';
import { sendDatagrams } from '../support/udp-traffic.ts';

const binary = compileProxy(t);
const NEXT_HOP = underlayOf(4, 2);
const ARGUMENTS = [DEVICE, '192.0.2.1', String(PORT), '10.244.1.0'];
const route = { network: prefix('10.244.2.0/24'), nextHop: NEXT_HOP };

function makeHost(t: Test): TestNamespace {
  const host = makeNamespace(t, 'node');
  host.must('ip link add eth0 type veth peer name eth1');
  for (const device of ['eth0', 'eth1']) host.must(`ip link set ${device} up`);
  host.must('ip address add 192.0.2.1/24 dev eth0');
  return host;
}

t.test('it runs without privileges', async (t) => {
  const { pid } = await startProxy(t, binary, makeHost(t), ARGUMENTS);
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  for (const line of [
    /^Uid:\t65534\t65534\t65534\t65534$/m,
    /^Gid:\t65534\t65534\t65534\t65534$/m,
    /^Groups:\t? *$/m,
    /^CapPrm:\t0+$/m,
    /^CapEff:\t0+$/m,
    /^NoNewPrivs:\t1$/m,
  ])
    t.match(status, line);
});

t.test('it ends when it should', async (t) => {
  const host = makeHost(t);
  const ends: Readonly<Record<string, (proxy: UdpProxy) => void>> = {
    'it is told': (proxy) => proxy.send(STOP),
    'control is closed': (proxy) => proxy.close(),
    'control is closed in the middle of a message': (proxy) => {
      proxy.send(STOP.subarray(0, 10));
      proxy.close();
    },
  };
  for (const [name, end] of Object.entries(ends)) {
    const proxy = await startProxy(t, binary, host, ARGUMENTS);
    end(proxy);
    t.strictSame(await proxy.ended, { status: 0, errors: '' }, name);
  }
  const proxy = await startProxy(t, binary, host, ARGUMENTS);
  host.must(`ip link delete ${DEVICE}`);
  const { status, errors } = await proxy.ended;
  t.equal(status, 1, 'the device is gone');
  t.match(errors, /^udp-proxy: read the device: .+\n$/);
});

t.test('a message that makes no sense ends it', async (t) => {
  const host = makeHost(t);
  const changed = (message: Buffer, at: number, value: number): Buffer => {
    const copy = Buffer.from(message);
    copy[at] = value;
    return copy;
  };
  const nonsense: Readonly<Record<string, Buffer>> = {
    'type 0': Buffer.alloc(MESSAGE_BYTES),
    'type 7': changed(STOP, 0, 7),
    'a STOP with more in it': changed(STOP, 39, 1),
    'a length of 129': changed(setting(route), 1, 129),
    'host bits': changed(setting(route), 23, 1),
    'no port': setting({ ...route, port: 0 }),
    'a reserved byte': changed(setting(route), 7, 1),
    'a next hop of the other family': setting({ ...route, nextHop: ip('2001:db8::2') }),
    'a next hop for nothing': changed(deletion(route.network), 39, 1),
    'a port for nothing': changed(deletion(route.network), 3, 1),
  };
  for (const [name, message] of Object.entries(nonsense)) {
    const proxy = await startProxy(t, binary, host, ARGUMENTS);
    proxy.send(setting(route), message);
    const type = message[0];
    t.strictSame(
      await proxy.ended,
      { status: 2, errors: `udp-proxy: a control message of type ${type} makes no sense\n` },
      name,
    );
  }
});

t.test('what keeps it from starting is said', async (t) => {
  const host = makeHost(t);
  host.must('ip link add name other type bridge');
  await startProxy(t, binary, host, ARGUMENTS);
  const cases: readonly [RegExp, readonly string[]][] = [
    [/usage/, [DEVICE]],
    [/usage/, [...ARGUMENTS, '10.244.1.1', 'fd00::', 'fd00::1']],
    [/x is not an address/, [DEVICE, 'x', '8285']],
    [/0 is not a port/, [DEVICE, '192.0.2.1', '0']],
    [/65536 is not a port/, [DEVICE, '192.0.2.1', '65536']],
    [/bind to 192.0.2.1 port 8285: Address already in use/, ['flannel1', '192.0.2.1', '8285']],
    [/bind to 192.0.2.7 port 8285: Cannot assign requested address/, [DEVICE, '192.0.2.7', '8285']],
    [/attach to the TUN device flannel0: Device or resource busy/, [DEVICE, '192.0.2.1', '8286']],
    [/attach to the TUN device other: Invalid argument/, ['other', '192.0.2.1', '8286']],
    [/"" can't be the name/, ['', '192.0.2.1', '8286']],
    [/"sixteen-letters-" can't be the name/, ['sixteen-letters-', '192.0.2.1', '8286']],
  ];
  for (const [words, args] of cases) {
    const { status, errors } = await new UdpProxy(binary, host, args).ended;
    t.equal(status, 1);
    t.match(errors, words);
  }
  const { status, stderr } = host.run(binary, ARGUMENTS);
  t.equal(status, 1, 'by hand, without control');
  t.match(stderr, /udp-proxy: /);
});

t.test('a restart finds the device as it was', async (t) => {
  const host = makeHost(t);
  const first = await startProxy(t, binary, host, ARGUMENTS);
  host.must(`ip address add 10.244.1.0/32 dev ${DEVICE}`);
  host.must(`ip link set ${DEVICE} up`);
  host.must(`ip route add 10.244.0.0/16 dev ${DEVICE}`);
  first.kill();
  await first.ended;
  t.match(host.must('ip route show'), '10.244.0.0/16 dev flannel0');
  const second = await startProxy(t, binary, host, ARGUMENTS);
  t.equal((await second.counters()).routes, 0, "routes to peers are the agent's to set again");
  t.match(host.must(`ip -o address show ${DEVICE}`), '10.244.1.0/32');
});

t.test('messages may come in pieces', async (t) => {
  const proxy = await startProxy(t, binary, makeHost(t), ARGUMENTS);
  for (const byte of setting(route)) {
    proxy.send(Buffer.of(byte));
    await sleep(1);
  }
  t.equal((await proxy.counters()).routes, 1);
});

t.test('a new table is in force when it is committed', async (t) => {
  const proxy = await startProxy(t, binary, makeHost(t), ARGUMENTS);
  const others = ['10.244.3.0/24', '10.244.4.0/24'].map((each) => ({ ...route, network: prefix(each) }));
  const whole = replacement(others);
  proxy.send(setting(route), whole.subarray(0, -MESSAGE_BYTES));
  t.equal((await proxy.counters()).routes, 1, 'not yet');
  proxy.send(whole.subarray(-MESSAGE_BYTES));
  t.equal((await proxy.counters()).routes, 2);
  proxy.send(deletion(route.network), deletion(prefix('10.244.3.0/24')));
  t.equal((await proxy.counters()).routes, 1, 'changes go to the new one');
  proxy.send(whole.subarray(0, 2 * MESSAGE_BYTES), replacement([]));
  t.equal((await proxy.counters()).routes, 0, 'begun twice');
});

t.test('the table is bounded', async (t) => {
  const proxy = await startProxy(t, binary, makeHost(t), ARGUMENTS);
  const networks = Array.from({ length: MAX_ROUTES + 1 }, (_, index) => prefix(`10.${index >> 8}.${index & 255}.0/24`));
  for (const network of networks) proxy.send(setting({ network, nextHop: NEXT_HOP }));
  t.match(await proxy.counters(), { routes: MAX_ROUTES, routesRefused: 1 });
  for (const network of networks) proxy.send(deletion(network));
  t.equal((await proxy.counters()).routes, 0);
});

/** Sets, changes and deletes routes at random, in the proxy and in a map. */
function churn(proxy: UdpProxy, routes: Map<Prefix, Ip>, next: () => number): void {
  for (let step = 0; step < 500; step++) {
    const length = 17 + below(16, next);
    const address = (10 * 2 ** 24 + 244 * 2 ** 16 + below(2 ** 16, next)) >>> (32 - length);
    const bits = (address << (32 - length)) >>> 0;
    const network = prefix(`${[24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')}/${length}`);
    if (below(3, next) > 0) {
      routes.set(network, underlayOf(4, 2 + below(200, next)));
      proxy.send(setting({ network, nextHop: routes.get(network) ?? NEXT_HOP }));
    } else {
      const gone = [...routes.keys()][below(routes.size, next)] ?? network;
      routes.delete(gone);
      proxy.send(deletion(gone));
    }
  }
}

t.test('random changes: it routes exactly what it should', async (t) => {
  const host = makeHost(t);
  const next = random('routes');
  const routes = new Map<Prefix, Ip>();
  const proxy = await startProxy(t, binary, host, ARGUMENTS);
  host.must(`ip link set ${DEVICE} up`);
  host.must(`ip address add 10.244.1.0/32 dev ${DEVICE}`);
  host.must(`ip route add 10.244.0.0/16 dev ${DEVICE}`);
  for (let round = 0; round < count(100); round++) {
    churn(proxy, routes, next);
    if (round % 3 === 2) proxy.send(replacement([...routes].map(([network, nextHop]) => ({ network, nextHop }))));
    const receivers = Array.from({ length: 300 }, () => ip(`10.244.${below(256, next)}.${1 + below(254, next)}`));
    const before = await proxy.counters();
    sendDatagrams(
      host,
      ip('10.244.1.0'),
      9,
      receivers.map((to) => ({ to, data: Buffer.alloc(9) })),
    );
    const after = await proxy.counters();
    const routed = receivers.filter((to) => [...routes.keys()].some((network) => contains(network, to))).length;
    t.equal(after.routes, routes.size);
    t.equal(after.sentPackets - before.sentPackets, routed, `${routed} of 300 routed, ${routes.size} routes`);
  }
});
