// The udp backend's data path, compiled with sanitizers, against packets and messages at random.

import type { ProxyCounters } from '../../flanneld/backend/udp-control.ts';
import t, { type Test } from 'tap';
import { type Ip, ip, prefix } from '../../model/ip.ts';
import { count } from '../support/count.ts';
import { tcpPacket, udpPacket } from '../support/ip-packet.ts';
import { makeNamespace } from '../support/namespace.ts';
import { below, random } from '../support/seed.ts';
import { DEVICE, makeOverlay, type OverlayNode, underlayOf } from '../support/udp-overlay.ts';
import {
  compileProxy,
  deletion,
  MESSAGE_BYTES,
  PORT,
  replacement,
  SANITIZED,
  STOP,
  setting,
  startProxy,
  type UdpProxy,
} from '../support/udp-proxy.ts';
import { pingsAll, sendDatagrams, transfer } from '../support/udp-traffic.ts';

const binary = compileProxy(t, SANITIZED);
const MEGABYTE = 1 << 20;
const BATCH = 500;

type Random = () => number;

const overlay = async (t: Test): Promise<[OverlayNode, OverlayNode]> =>
  (await makeOverlay(t, [binary, binary], 4)) as [OverlayNode, OverlayNode];

const oneOf = <T>(items: readonly [T, ...T[]], next: Random): T => items[below(items.length, next)] ?? items[0];

t.test('ordinary traffic', async (t) => {
  const [one, two] = await overlay(t);
  for (const family of [4, 6] as const) {
    t.ok(pingsAll(one.pod, two.podAddress[family], '-s', '9000'));
    t.ok(await transfer(t, one.pod, two.pod, two.podAddress[family], 10 * MEGABYTE));
    t.notOk(pingsAll(one.pod, two.podAddress[family], '-t', '2'));
    t.notOk(pingsAll(one.pod, two.podAddress[family], '-t', '3'));
  }
  for (const { proxy } of [one, two]) {
    proxy.send(STOP);
    t.strictSame(await proxy.ended, { status: 0, errors: '' });
  }
});

/** One datagram, or segments of TCP that follow each other, for the pod, for nobody, and for the node itself. */
function packets(next: Random): Buffer[] {
  const ipv4 = below(3, next) > 0;
  const from = ip(ipv4 ? '10.244.1.2' : 'fd00:0:0:1::2');
  const to: Ip = ip(
    ipv4
      ? oneOf(['10.244.2.2', '10.244.77.1', '10.244.2.0', '10.244.1.9'], next)
      : oneOf(['fd00:0:0:2::2', 'fd00:0:0:77::1', 'fd00:0:0:2::'], next),
  );
  if (below(3, next) === 0)
    return [udpPacket(from, to, { port: 9, data: Buffer.alloc(below(1400, next)), ttl: oneOf([64, 3, 2, 1], next) })];
  const size = 1 + below(1400, next);
  const start = below(2 ** 31, next) * 2;
  return Array.from({ length: 1 + below(12, next) }, (_, index) =>
    tcpPacket(from, to, {
      sequence: start + index * size,
      data: Buffer.alloc(below(8, next) ? size : below(size, next)),
      flags: below(8, next) ? 0x10 : below(256, next),
    }),
  );
}

/** Something wrong with it, most of the time in the headers. */
function damaged(packet: Buffer, next: Random): Buffer {
  if (below(4, next) > 0) return packet;
  const copy = Buffer.from(packet);
  for (let bytes = below(4, next); bytes > 0; bytes--) copy[below(Math.min(60, copy.length), next)] = below(256, next);
  const cut = below(4, next);
  if (cut === 0) return copy.subarray(0, below(copy.length, next));
  if (cut === 1) return Buffer.concat([copy, Buffer.alloc(below(60, next))]);
  return copy;
}

/** All datagrams of peers that became something. A large packet that the device refused counts its parts. */
const accounted = ({ deliveredPackets, inMalformed, inTtl, inFailed }: ProxyCounters): number =>
  deliveredPackets + inMalformed + inTtl + inFailed;

t.test('packets from a peer: nothing breaks, and every one is accounted for', async (t) => {
  const [one, two] = await overlay(t);
  const next = random('packets');
  one.proxy.kill();
  await one.proxy.ended;
  let sent = accounted(await two.proxy.counters());
  for (let left = count(400_000); left > 0; left -= BATCH) {
    const batch = Array.from({ length: BATCH }, () => packets(next)).flat();
    const datagrams = batch.slice(0, BATCH).map((packet) => ({ to: two.underlay, data: damaged(packet, next) }));
    // So that it finds many at once.
    process.kill(two.proxy.pid, 'SIGSTOP');
    sendDatagrams(one.host, one.underlay, PORT, datagrams);
    process.kill(two.proxy.pid, 'SIGCONT');
    sent += datagrams.length;
    let seen = accounted(await two.proxy.counters());
    for (let tries = 0; seen < sent && tries < 100; tries++) seen = accounted(await two.proxy.counters());
    if (seen !== sent) t.equal(seen, sent);
  }
  t.comment(JSON.stringify(await two.proxy.counters()));
  two.proxy.send(STOP);
  t.strictSame(await two.proxy.ended, { status: 0, errors: '' });
});

function anyMessage(next: Random): Buffer {
  const network = prefix(`10.${below(256, next)}.${below(256, next)}.0/24`);
  const nextHop = underlayOf(4, 2 + below(200, next));
  const kind = below(20, next);
  if (kind < 10) return setting({ network, nextHop, port: 1 + below(65535, next) });
  if (kind < 16) return deletion(network);
  return replacement([]).subarray(0, kind < 18 ? MESSAGE_BYTES : 2 * MESSAGE_BYTES);
}

/** Sends messages at random, in pieces at random. Gives whether all of them make sense. */
function sendAny(proxy: UdpProxy, next: Random): boolean {
  const stream = Buffer.concat(Array.from({ length: 200 }, () => anyMessage(next)));
  const good = below(2, next) === 0;
  if (!good)
    for (let bytes = 1 + below(5, next); bytes > 0; bytes--) stream[below(stream.length, next)] = below(256, next);
  for (let at = 0; at < stream.length; ) {
    const end = at + 1 + below(500, next);
    proxy.send(stream.subarray(at, end));
    at = end;
  }
  return good;
}

t.test('messages: it obeys, or ends with 2', async (t) => {
  const next = random('messages');
  const host = makeNamespace(t, 'node');
  host.must('ip link add eth0 type veth peer name eth1');
  host.must('ip address add 192.0.2.1/24 dev eth0');
  for (let round = 0; round < count(1000); round++) {
    const proxy = await startProxy(t, binary, host, [DEVICE, '192.0.2.1', String(PORT)]);
    const good = sendAny(proxy, next);
    proxy.send(STOP);
    const { status, errors } = await proxy.ended;
    const obeyed = status === 0 && errors === '';
    const refused = status === 2 && /^udp-proxy: a control message of type \d+ makes no sense\n$/.test(errors);
    if (!obeyed && (good || !refused)) t.fail(`round ${round}: status ${status}: ${errors}`);
  }
  t.pass();
});
