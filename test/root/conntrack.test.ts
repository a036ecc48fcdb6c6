// Forgetting flows in the real kernel: exactly those meant, in both families. The process starts itself again in a network
// namespace of its own.

import { execFileSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { forgetListed } from '../../kernel/conntrack.ts';
import type { FlowFilter } from '../../kernel/kernel.ts';
import { openNetlink } from '../../kernel/netlink.ts';
import { openKernel } from '../../kernel/open.ts';
import { ip } from '../../model/ip.ts';
import { inside, runInside } from '../support/inside.ts';

const NETLINK_NETFILTER = 12;
const sh = (script: string): string => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });

/** Flows as "protocol source>destination:port", in the words of conntrack(8). */
const flows = (): string[] =>
  sh('conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null')
    .split('\n')
    .map((line) => /^(\w+) .*?src=(\S+) dst=(\S+) sport=\d+ dport=(\d+)/.exec(line))
    .filter((found) => found !== null)
    .map(([, protocol, source, destination, port]) => `${protocol} ${source}>${destination}:${port}`)
    .sort();

/** What leads to 192.0.2.9 is sent on to 192.0.2.1: its answers come from there. */
const RULES = `add table inet t
add chain inet t out { type nat hook output priority -100; }
add rule inet t out ip daddr 192.0.2.9 dnat ip to 192.0.2.1
add rule inet t out ct state new accept`;

const SEND = `const [family, from, to, port] = process.argv.slice(1);
const socket = require('node:dgram').createSocket(family);
socket.on('error', () => {}).bind(0, from, () => socket.send('x', +port, to, () => socket.close()));`;

function send(...datagrams: (readonly [from: string, to: string, port: number])[]): void {
  for (const [from, to, port] of datagrams) {
    const family = from.includes(':') ? 'udp6' : 'udp4';
    execFileSync(process.execPath, ['-e', SEND, family, from, to, String(port)]);
  }
}

function prepare(): void {
  sh(
    'ip address add 192.0.2.1/32 dev lo; ip address add 192.0.2.2/32 dev lo; ip address add 192.0.2.9/32 dev lo; ip address add 2001:db8::1/128 dev lo nodad',
  );
  execFileSync('nft', ['-f', '-'], { input: RULES });
}

function forgetting(t: Test, forgetFlows: (filter: FlowFilter) => void): void {
  const four = ['192.0.2.1', '192.0.2.2'].flatMap((to) => [5300, 5301].map((port) => ['127.0.0.1', to, port] as const));
  send(...four, ['192.0.2.2', '192.0.2.9', 5302], ['::1', '2001:db8::1', 5300]);
  const all = flows();
  t.equal(all.length, 6, all.join('\n'));
  let left = all;
  const forget = (filter: FlowFilter, ...expected: string[]) => {
    forgetFlows(filter);
    left = left.filter((flow) => !expected.includes(flow));
    t.strictSame(flows(), left, JSON.stringify(filter));
  };
  forget({ family: 4, protocol: 'tcp', destinationPort: 5300 });
  forget({ family: 4, protocol: 'udp', destinationPort: 5303 });
  forget({ family: 6, protocol: 'udp', destinationPort: 5300 }, 'udp ::1>2001:db8::1:5300');
  forget(
    { family: 4, protocol: 'udp', destinationPort: 5300, destination: ip('192.0.2.2') },
    'udp 127.0.0.1>192.0.2.2:5300',
  );
  forget({ family: 4, protocol: 'udp', destinationPort: 5302, end: ip('192.0.2.9') });
  forget({ family: 4, protocol: 'udp', destinationPort: 5302, end: ip('192.0.2.1') }, 'udp 192.0.2.2>192.0.2.9:5302');
  forget({ family: 4, end: ip('192.0.2.1') }, 'udp 127.0.0.1>192.0.2.1:5300', 'udp 127.0.0.1>192.0.2.1:5301');
  forget({ family: 4, end: ip('127.0.0.1') }, 'udp 127.0.0.1>192.0.2.2:5301');
  t.strictSame(left, []);
}

if (inside === undefined) {
  await runInside(t, import.meta.filename, 'conntrack');
} else {
  prepare();
  t.test('as this kernel can', async (t) => {
    const kernel = openKernel();
    t.teardown(() => kernel.close());
    forgetting(t, kernel.forgetFlows);
  });
  t.test('as Linux before 6.8 can', async (t) => {
    const socket = openNetlink(NETLINK_NETFILTER);
    t.teardown(() => socket.close());
    forgetting(t, (filter) => forgetListed(socket, filter));
  });
}
