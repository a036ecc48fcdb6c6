// The udp backend's data path: what arrives, what it looks like on the wire, and what is dropped.

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { ProxyCounters } from '../../flanneld/backend/udp-control.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Family, FAMILIES, type Ip, ip, type Prefix, prefix } from '../../model/ip.ts';
import { isWholeTcp, tcpPacket, udpPacket } from '../support/ip-packet.ts';
import { DEVICE, MTU, makeOverlay, type OverlayNode, routesTo, setRoutes, underlayOf } from '../support/udp-overlay.ts';
import { compileProxy, deletion, PORT, type Route, setting } from '../support/udp-proxy.ts';
import {
  capture,
  type Datagram,
  pingAnswer,
  pingsAll,
  sendDatagrams,
  startIn,
  transfer,
} from '../support/udp-traffic.ts';

const binary = compileProxy(t);
/** Prints each datagram that comes to a port, after a first line. */
const RECEIVER = `const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (data) => console.log(data.toString('hex')));
socket.bind(+process.argv[1], () => console.log('ready'));`;
const MEGABYTE = 1 << 20;
const COMING_IN = new Set(['deliveredPackets', 'deliveredBytes', 'inNotAPeer', 'inMalformed', 'inTtl', 'inFailed']);
const FIN = 1;
const PSH = 8;
const ACK = 16;

const overlay = async (t: Test, family: Family = 4): Promise<[OverlayNode, OverlayNode]> =>
  (await makeOverlay(t, [binary, binary], family)) as [OverlayNode, OverlayNode];

/** The counters that have grown, and by how much. */
function growth(before: ProxyCounters, after: ProxyCounters): Partial<ProxyCounters> {
  const entries = Object.entries(after).map(([name, value]) => [name, value - before[name as keyof ProxyCounters]]);
  return Object.fromEntries(entries.filter(([, value]) => value !== 0));
}

/** What a node counts while something happens to it. */
async function counted({ proxy }: OverlayNode, happening: () => void): Promise<Partial<ProxyCounters>> {
  const before = await proxy.counters();
  happening();
  return growth(before, await proxy.counters());
}

/** The same, of so many packets from peers: those the kernel sends by itself go the other way. */
async function countedIn(
  { proxy }: OverlayNode,
  packets: number,
  happening: () => void,
): Promise<Partial<ProxyCounters>> {
  const before = await proxy.counters();
  happening();
  for (let left = 250; ; left--) {
    const grown = Object.entries(growth(before, await proxy.counters())).filter(([name]) => COMING_IN.has(name));
    const seen = grown.reduce((sum, [name, value]) => (name === 'deliveredBytes' ? sum : sum + (value ?? 0)), 0);
    if (seen >= packets || left === 0) return Object.fromEntries(grown);
    await sleep(20);
  }
}

/** Ends the first node's proxy and gives a function that puts datagrams into the tunnel in its place. */
async function takePlace(node: OverlayNode): Promise<(to: Ip, ...datagrams: readonly Uint8Array[]) => void> {
  node.proxy.kill();
  await node.proxy.ended;
  return (to, ...datagrams) =>
    sendDatagrams(
      node.host,
      node.underlay,
      PORT,
      datagrams.map((data): Datagram => ({ to, data })),
    );
}

/** What comes from peers meanwhile finds the proxy asleep; then it finds all of it at once. */
function atOnce({ proxy }: OverlayNode, happening: () => void): void {
  process.kill(proxy.pid, 'SIGSTOP');
  happening();
  process.kill(proxy.pid, 'SIGCONT');
}

for (const underlay of FAMILIES) {
  t.test(`over an IPv${underlay} underlay`, async (t) => {
    const [one, two] = await overlay(t, underlay);
    for (const family of FAMILIES) {
      const address = two.podAddress[family];
      const largest = MTU[underlay] - (family === 4 ? 28 : 48);
      t.ok(pingsAll(one.pod, address), `IPv${family}: echo`);
      t.ok(pingsAll(one.host, address), 'from the node itself');
      t.ok(pingsAll(one.pod, address, '-M', 'do', '-s', String(largest)), 'a packet of the size of the MTU');
      t.notOk(pingsAll(one.pod, address, '-M', 'do', '-s', String(largest + 1)), 'a larger one');
      t.ok(pingsAll(one.pod, address, '-s', '9000'), 'fragments');
      t.ok(await transfer(t, one.pod, two.pod, address, 20 * MEGABYTE), 'TCP');
      t.ok(await transfer(t, two.pod, one.pod, one.podAddress[family], 20 * MEGABYTE), 'TCP, the other way');
    }
    for (const { proxy } of [one, two]) {
      const { outMalformed, inMalformed, inNotAPeer, outTtl, inTtl, inFailed } = await proxy.counters();
      t.strictSame([outMalformed, inMalformed, inNotAPeer, outTtl, inTtl, inFailed], [0, 0, 0, 0, 0, 0]);
    }
  });
}

t.test('every hop lowers the time to live, and answers when it is over', async (t) => {
  const [one, two] = await overlay(t);
  for (const family of FAMILIES) {
    const address = two.podAddress[family];
    const [first, tunnel, far] =
      family === 4 ? ['10.244.1.1', '10.244.1.0', '10.244.2.0'] : ['fd00:0:0:1::1', 'fd00:0:0:1::', 'fd00:0:0:2::'];
    t.match(pingAnswer(one.pod, address, '-t', '1'), `From ${first} icmp_seq=1 Time`);
    t.match(pingAnswer(one.pod, address, '-t', '2'), `From ${tunnel} icmp_seq=1 Time`);
    t.match(pingAnswer(one.pod, address, '-t', '3'), `From ${far} icmp_seq=1 Time`);
    t.match(
      pingAnswer(one.pod, address, '-t', '5'),
      / bytes from .* ttl=60 /,
      'two nodes and two proxies, there and back',
    );
  }
  t.match(await one.proxy.counters(), { outTtl: 2, inTtl: 0 });
  t.match(await two.proxy.counters(), { outTtl: 0, inTtl: 2 });
});

t.test('what has no route is unreachable', async (t) => {
  const [one] = await overlay(t);
  t.match(pingAnswer(one.pod, ip('10.244.77.1')), 'From 10.244.1.0 icmp_seq=1 Destination Net Unreachable');
  t.match(pingAnswer(one.pod, ip('fd00:0:0:77::1')), 'From fd00:0:0:1:: icmp_seq=1 Destination unreachable: No route');
  const connect = `require('node:net').connect(80, '10.244.77.1').on('error', ({ code }) => console.log(code))`;
  t.match(one.pod.run(process.execPath, ['-e', connect]).stdout, 'ENETUNREACH');
  t.match(
    await counted(one, () => void pingAnswer(one.pod, ip('10.244.77.1'), '-s', '4000')),
    { outNoRoute: 3, icmpSent: 1 },
    'one error for three fragments',
  );
  t.match(
    await counted(one, () => one.pod.run('ping', ['-c', '3000', '-l', '1000', '-i', '0', '-W', '1', '10.244.77.1'])),
    { icmpSent: Number, icmpLimited: Number },
    'a thousand a second are enough',
  );
});

t.test('only current peers are listened to', async (t) => {
  const [one, two] = await overlay(t);
  const packet = udpPacket(one.podAddress[4], two.podAddress[4], { port: 9, data: Buffer.from('spoofed') });
  const stranger = underlayOf(4, 9);
  one.host.must(`ip address add ${stranger}/24 dev eth0`);
  const send = (from: Ip, port: number): void =>
    sendDatagrams(one.host, from, port, [{ to: two.underlay, data: packet }]);
  t.strictSame(await countedIn(two, 1, () => send(one.underlay, PORT + 1)), { inNotAPeer: 1 }, 'another port');
  t.strictSame(await countedIn(two, 1, () => send(stranger, PORT)), { inNotAPeer: 1 }, 'another address');
  for (const network of ['10.244.9.0/24', '10.244.10.0/24'])
    two.proxy.send(setting({ network: prefix(network), nextHop: stranger }));
  const delivered = { deliveredPackets: 1, deliveredBytes: packet.length };
  t.strictSame(await countedIn(two, 1, () => send(stranger, PORT)), delivered, 'it has joined');
  two.proxy.send(deletion(prefix('10.244.9.0/24')));
  t.strictSame(await countedIn(two, 1, () => send(stranger, PORT)), delivered, 'with one network less');
  two.proxy.send(deletion(prefix('10.244.10.0/24')));
  t.match(await countedIn(two, 1, () => send(stranger, PORT)), { inNotAPeer: 1 }, 'it has left');

  const sendAsPeer = await takePlace(one);
  t.strictSame(await countedIn(two, 1, () => sendAsPeer(two.underlay, packet)), delivered, 'the peer itself');
});

t.test('what is no packet is dropped', async (t) => {
  const [one, two] = await overlay(t);
  const good = udpPacket(one.podAddress[4], two.podAddress[4], { port: 9, data: Buffer.alloc(100) });
  const good6 = udpPacket(one.podAddress[6], two.podAddress[6], { port: 9, data: Buffer.alloc(100) });
  const changed = (packet: Buffer, at: number, value: number): Buffer => {
    const copy = Buffer.from(packet);
    copy[at] = value;
    return copy;
  };
  const malformed = [
    Buffer.alloc(0),
    good.subarray(0, 1),
    good.subarray(0, 19),
    good.subarray(0, 127),
    Buffer.concat([good, Buffer.alloc(1)]),
    changed(good, 0, 0x44),
    changed(good, 0, 0x55),
    good6.subarray(0, 39),
    good6.subarray(0, 147),
  ];
  const expired = [changed(good, 8, 1), changed(good, 8, 0), changed(good6, 7, 1)];
  const send = await takePlace(one);
  t.strictSame(await countedIn(two, malformed.length, () => send(two.underlay, ...malformed)), {
    inMalformed: malformed.length,
  });
  t.match(await countedIn(two, expired.length, () => send(two.underlay, ...expired)), { inTtl: 3 });
  t.match(await countedIn(two, 2, () => send(two.underlay, good, good6)), { deliveredPackets: 2 });
});

t.test('on the wire a datagram is one packet', async (t) => {
  const [one, two] = await overlay(t);
  // Otherwise a veth hands over whole bursts, and a capture would show these.
  one.host.must('ethtool -K eth0 tx-udp-segmentation off');
  const what = { device: 'eth0', filter: `udp and src port ${PORT} and dst port ${PORT}`, count: 500 };
  const datagrams = await capture(t, two.host, what, () => transfer(t, one.pod, two.pod, two.podAddress[4], MEGABYTE));
  const packets = datagrams.map((datagram) => datagram.subarray(28));
  t.ok(packets.every(isWholeTcp));
  const identifications = new Set(packets.map((packet) => packet.readUInt16BE(4)));
  t.equal(identifications.size, packets.length, 'each has its own identification');
  t.equal(Math.max(...packets.map(({ length }) => length)), MTU[4]);
});

t.test('segments are merged, but never a wrong one', async (t) => {
  const [one, two] = await overlay(t);
  const send = await takePlace(one);
  const segment = (at: number, length = 500, flags = ACK): Buffer =>
    tcpPacket(one.podAddress[4], two.podAddress[4], {
      // The number wraps between the first segment and the second.
      sequence: 0xfffffe0c + at,
      data: Buffer.alloc(length, at / 100 + 1),
      flags,
    });
  const broken = segment(500);
  broken.writeUInt8(0xee, 500);
  const cases: readonly [string, readonly Buffer[], readonly number[]][] = [
    ['in sequence', [segment(0), segment(500), segment(1000)], [1540]],
    ['a shorter one is the last', [segment(0), segment(500, 400), segment(900)], [940, 540]],
    ['a longer one begins', [segment(0), segment(500, 600), segment(1100)], [540, 1140]],
    ['a pushed one is the last', [segment(0), segment(500, 500, ACK | PSH), segment(1000)], [1040, 540]],
    ['a wrong checksum stays wrong', [segment(0), broken, segment(1000)], [540, 540, 540]],
    ['a gap', [segment(0), segment(1000)], [540, 540]],
    ['a repetition', [segment(0), segment(0)], [540, 540]],
    ['another flag', [segment(0), segment(500, 500, ACK | FIN)], [540, 540]],
  ];
  for (const [name, packets, lengths] of cases) {
    const what = { device: DEVICE, filter: 'tcp', count: lengths.length };
    const seen = await capture(t, two.host, what, () => atOnce(two, () => send(two.underlay, ...packets)));
    const seenLengths = seen.map(({ length }) => length);
    t.strictSame(seenLengths, lengths, name);
    const payload = (list: readonly Buffer[]): Buffer => Buffer.concat(list.map((packet) => packet.subarray(40)));
    t.ok(payload(seen).equals(payload(packets)), 'the same bytes');
  }
});

t.test('datagrams are merged, but never a wrong one', async (t) => {
  const [one, two] = await overlay(t);
  const send = await takePlace(one);
  const datagram = (fill: number, length = 100, port = 5001): Buffer =>
    udpPacket(one.podAddress[4], two.podAddress[4], { port, data: Buffer.alloc(length, fill) });
  const broken = datagram(2);
  broken.writeUInt8(0xee, 60);
  const unchecked = datagram(2);
  unchecked.writeUInt16BE(0, 26);
  const cases: readonly [string, readonly Buffer[], readonly number[]][] = [
    ['of one size', [datagram(1), datagram(2), datagram(3)], [328]],
    ['a shorter one is the last', [datagram(1), datagram(2, 60), datagram(3)], [188, 128]],
    ['a longer one begins', [datagram(1), datagram(2, 120), datagram(3, 120)], [128, 268]],
    ['another flow', [datagram(1), datagram(2, 100, 5002), datagram(3)], [128, 128, 128]],
    ['a wrong checksum stays wrong', [datagram(1), broken, datagram(3)], [128, 128, 128]],
    ['none is not made up', [datagram(1), unchecked, datagram(3)], [128, 128, 128]],
  ];
  for (const [name, packets, lengths] of cases) {
    const what = { device: DEVICE, filter: 'udp port 5001 or udp port 5002', count: lengths.length };
    const seen = await capture(t, two.host, what, () => atOnce(two, () => send(two.underlay, ...packets)));
    const seenLengths = seen.map(({ length }) => length);
    t.strictSame(seenLengths, lengths, name);
    const payload = (list: readonly Buffer[]): Buffer => Buffer.concat(list.map((packet) => packet.subarray(28)));
    t.ok(payload(seen).equals(payload(packets)), 'the same bytes');
  }
  const receiver = startIn(t, two.pod, process.execPath, ['-e', RECEIVER, '5001']);
  const lines = createInterface({ input: receiver.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  await lines.next();
  const sent = [datagram(1), datagram(2), datagram(3, 60)];
  atOnce(two, () => send(two.underlay, ...sent));
  for (const packet of sent) {
    const { value } = await lines.next();
    t.equal(value, packet.subarray(28).toString('hex'), 'the receiver gets each as it was sent');
  }
});

t.test('a path with a smaller MTU', async (t) => {
  const [one, two] = await overlay(t);
  one.host.must(`ip route add ${two.underlay} dev eth0 mtu 1300`);
  t.ok(await transfer(t, one.pod, two.pod, two.podAddress[4], 5 * MEGABYTE));
  t.equal((await one.proxy.counters()).outFailed, 0);
});

t.test('a route that is removed, and the longer network', async (t) => {
  const [one, two] = await overlay(t);
  const host: Prefix = prefix(`${two.podAddress[4]}/32`);
  const reaches = (): boolean => pingsAll(one.pod, two.podAddress[4]);
  one.proxy.send(setting({ network: host, nextHop: underlayOf(4, 200) }));
  await one.proxy.counters();
  t.notOk(reaches(), 'a host route leads elsewhere');
  one.proxy.send(setting({ network: host, nextHop: two.underlay }));
  await one.proxy.counters();
  t.ok(reaches(), 'it is changed');
  one.proxy.send(deletion(host));
  await one.proxy.counters();
  t.ok(reaches(), 'it is gone');
  one.proxy.send(deletion(prefix('10.244.2.0/24')));
  t.equal((await one.proxy.counters()).routes, 1);
  t.notOk(reaches(), 'no route is left');
  t.ok(pingsAll(one.pod, two.podAddress[6]), 'but for IPv6');
});

t.test('5000 routes are replaced again and again without a loss', async (t) => {
  const [one, two] = await overlay(t);
  const others = (round: number): Route[] =>
    Array.from({ length: 5000 }, (_, index) => ({
      network: prefix(`10.${(index >> 8) + (round % 2 ? 20 : 60)}.${index & 255}.0/24`),
      nextHop: underlayOf(4, (index % 200) + 3),
    }));
  await setRoutes(one.proxy, [...others(0), ...routesTo(two)]);
  const ping = startIn(t, one.pod, 'ping', ['-q', '-c', '1000', '-i', '0.002', two.podAddress[4]]);
  let summary = '';
  ping.stdout?.on('data', (chunk) => (summary += chunk));
  const ended = once(ping, 'close');
  let rounds = 0;
  while (ping.exitCode === null) {
    await setRoutes(
      one.proxy,
      rounds++ % 2 ? [...routesTo(two), ...others(rounds)] : [...others(rounds), ...routesTo(two)],
    );
    t.equal((await one.proxy.counters()).routes, 5002);
  }
  await ended;
  t.match(summary, ' 0% packet loss', `${rounds} times`);
});
