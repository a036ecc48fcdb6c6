// Host ports: what is asked for, the table, and who has a port when many attachments fight for it.

import fc from 'fast-check';
import t from 'tap';
import { closePorts, openPorts, portDifferences } from '../../cni-plugin/host-ports.ts';
import { localhostSettings, type PortPlan, portTable } from '../../cni-plugin/portmap.ts';
import { type HostPort, hostPorts, parsePortmap } from '../../cni-plugin/portmap-config.ts';
import { createFakeKernel } from '../../kernel/fake.ts';
import { ip } from '../../model/ip.ts';
import { printTable } from '../../model/ruleset.ts';
import { seed } from '../support/seed.ts';
import { requestWith } from './requests.ts';

const POD = [ip('10.5.1.2'), ip('fd00:5::2')];
const parsed = (portMappings: unknown, more: object = {}) =>
  parsePortmap(requestWith({ runtimeConfig: { portMappings }, ...more }));
const ports = (mapping: object, addresses = POD) => hostPorts(parsed([mapping]), addresses);
const WEB = { protocol: 'tcp', hostPort: 8080, containerPort: 80 } as const;

const shown = ({ protocol, hostPort, hostIP, address, containerPort }: HostPort): string =>
  `${protocol} ${hostIP ?? '*'}:${hostPort} ${address}:${containerPort}`;

t.test('nothing is asked for', async (t) => {
  const nothing = [{}, { runtimeConfig: {} }, { runtimeConfig: { portMappings: null } }, { runtimeConfig: null }];
  for (const config of nothing) {
    t.strictSame(parsePortmap(requestWith(config)), { mappings: [], snat: true });
  }
  t.strictSame(hostPorts(parsed([]), []), []);
  t.doesNotThrow(() => parsed([], { conditionsV4: ['-d', '192.0.2.1'], masqAll: true }), 'what has no effect');
});

t.test('mappings of every runtime', async (t) => {
  const cases: readonly (readonly [object, string[]])[] = [
    [WEB, ['tcp *:8080 10.5.1.2:80', 'tcp *:8080 fd00:5::2:80']],
    [
      { HostPort: 8080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' },
      ['tcp *:8080 10.5.1.2:80', 'tcp *:8080 fd00:5::2:80'],
    ],
    [{ hostPort: 1, containerPort: 65535 }, ['tcp *:1 10.5.1.2:65535', 'tcp *:1 fd00:5::2:65535']],
    [{ ...WEB, protocol: 'Udp' }, ['udp *:8080 10.5.1.2:80', 'udp *:8080 fd00:5::2:80']],
    [{ ...WEB, protocol: 'SCTP' }, ['sctp *:8080 10.5.1.2:80', 'sctp *:8080 fd00:5::2:80']],
    [{ ...WEB, protocol: '' }, ['tcp *:8080 10.5.1.2:80', 'tcp *:8080 fd00:5::2:80']],
    [{ ...WEB, hostIP: '192.0.2.1' }, ['tcp 192.0.2.1:8080 10.5.1.2:80']],
    [{ ...WEB, hostIP: '2001:DB8::0001' }, ['tcp 2001:db8::1:8080 fd00:5::2:80']],
    [{ ...WEB, hostIP: '0.0.0.0' }, ['tcp *:8080 10.5.1.2:80']],
    [{ ...WEB, hostIP: '::' }, ['tcp *:8080 fd00:5::2:80']],
  ];
  for (const [mapping, expected] of cases) t.strictSame(ports(mapping).map(shown), expected, JSON.stringify(mapping));
  t.strictSame(ports(WEB, [ip('10.5.1.3'), ...POD]).map(shown)[0], 'tcp *:8080 10.5.1.3:80', 'the first of a family');
  t.strictSame(ports({ ...WEB, hostIP: '::1' }, [ip('10.5.1.2')]), [], 'another family than the pod has');
  const both = parsePortmap(requestWith({ RuntimeConfig: { PortMappings: [WEB, WEB] }, snat: false }));
  t.strictSame([both.snat, hostPorts(both, POD).length], [false, 2], 'twice the same is once');
});

t.test('bad mappings are named', async (t) => {
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [[{ ...WEB, hostPort: 0 }], /portMappings\[0\]\.hostPort: expected a whole number from 1 to 65535, got 0/],
    [[WEB, { ...WEB, hostPort: 65536 }], /portMappings\[1\]\.hostPort: .* got 65536/],
    [[{ ...WEB, containerPort: -1 }], /\[0\]\.containerPort: .* got -1/],
    [[{ hostPort: 80, protocol: 'tcp' }], /\[0\]\.containerPort: .* got nothing/],
    [[{ ...WEB, hostPort: '80' }], /\[0\]\.hostPort: .* got "80"/],
    [[{ ...WEB, protocol: 'icmp' }], /\[0\]\.protocol: expected one of tcp, udp, sctp, got "icmp"/],
    [[{ ...WEB, protocol: 6 }], /\[0\]\.protocol: expected a string, got 6/],
    [[{ ...WEB, hostIP: 'localhost' }], /\[0\]\.hostIP: expected an IP address, got "localhost"/],
    [[{ ...WEB, hostIP: '10.0.0.1; drop' }], /\[0\]\.hostIP/],
    [[null], /portMappings\[0\]: expected an object/],
    ['8080:80', /portMappings: expected a list/],
  ];
  for (const [mappings, message] of cases) t.throws(() => parsed(mappings), { code: 'invalid-config', message });
  t.throws(() => hostPorts(parsed([WEB, { ...WEB, containerPort: 81 }]), POD), {
    code: 'invalid-config',
    message: 'portMappings: host port 8080/tcp leads to two ports of the pod',
  });
  t.throws(() => hostPorts(parsed([WEB]), []), { code: 'invalid-config', message: /need an address/ });
  for (const [key, value] of Object.entries({ masqAll: true, conditionsV4: ['-d'], conditionsV6: ['-d'] })) {
    t.throws(() => parsed([WEB], { [key]: value }), { code: 'unsupported-field', message: new RegExp(key) });
  }
});

const plan = (own: readonly HostPort[], more: Partial<PortPlan> = {}): PortPlan => ({
  ports: own,
  device: 'cni0',
  isBridge: true,
  snat: true,
  ...more,
});

t.test('ports of the host are elements of one table', async (t) => {
  const own = [...ports(WEB), ...ports({ ...WEB, hostIP: '127.0.0.1', protocol: 'udp' })];
  t.equal(
    printTable(portTable(plan(own))),
    `table inet flannel {
\tmap cni-hostport-v4 {
\t\ttype inet_proto . inet_service : ipv4_addr . inet_service
\t\telements = { tcp . 8080 : 10.5.1.2 . 80 }
\t}

\tmap cni-hostip-v4 {
\t\ttype ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
\t\telements = { 127.0.0.1 . udp . 8080 : 10.5.1.2 . 80 }
\t}

\tset cni-hairpin-v4 {
\t\ttype ipv4_addr . ipv4_addr
\t\telements = { 10.5.1.2 . 10.5.1.2 }
\t}

\tmap cni-hostport-v6 {
\t\ttype inet_proto . inet_service : ipv6_addr . inet_service
\t\telements = { tcp . 8080 : fd00:5::2 . 80 }
\t}

\tmap cni-hostip-v6 {
\t\ttype ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
\t}

\tset cni-hairpin-v6 {
\t\ttype ipv6_addr . ipv6_addr
\t\telements = { fd00:5::2 . fd00:5::2 }
\t}

\tset cni-hairpin-bridge {
\t\ttype ifname . ifname
\t\telements = { "cni0" . "cni0" }
\t}

\tchain cni-hostport {
\t\tdnat ip to ip daddr . meta l4proto . th dport map @cni-hostip-v4
\t\tdnat ip to meta l4proto . th dport map @cni-hostport-v4
\t\tdnat ip6 to ip6 daddr . meta l4proto . th dport map @cni-hostip-v6
\t\tdnat ip6 to meta l4proto . th dport map @cni-hostport-v6
\t}

\tchain cni-hostport-prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tfib daddr type 2 jump cni-hostport
\t}

\tchain cni-hostport-output {
\t\ttype nat hook output priority -100; policy accept;
\t\tip6 daddr ::1 return
\t\tfib daddr type 2 jump cni-hostport
\t}

\tchain cni-hostport-postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 127.0.0.0/8 ip daddr . ip daddr @cni-hairpin-v4 masquerade
\t\tip saddr . ip daddr @cni-hairpin-v4 masquerade
\t\tip6 saddr . ip6 daddr @cni-hairpin-v6 masquerade
\t\tct status 0x20 iifname . oifname @cni-hairpin-bridge masquerade
\t}

\tchain cni-hostport-guard {
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname != "lo" ip daddr 127.0.0.0/8 drop
\t\tiifname != "lo" ip saddr 127.0.0.0/8 drop
\t}
}
`,
  );
  const elementsOf = (more: Partial<PortPlan>) => portTable(plan(own, more)).sets.flatMap(({ elements }) => elements);
  t.strictSame(
    elementsOf({ snat: false }),
    ['tcp . 8080 : 10.5.1.2 . 80', '127.0.0.1 . udp . 8080 : 10.5.1.2 . 80', 'tcp . 8080 : fd00:5::2 . 80'],
    'without snat no hairpin is masqueraded',
  );
  t.notOk(elementsOf({ isBridge: false }).includes('"cni0" . "cni0"'), 'a device of one pod');
  t.throws(() => portTable(plan(own, { device: 'x" drop' })), { code: 'invalid-config' });
});

t.test('127.0.0.1 is routed only where a port asks for it', async (t) => {
  const settings = (mapping: object, more: Partial<PortPlan> = {}) =>
    localhostSettings(plan(ports(mapping), more)).map(({ key }) => key);
  const on = ['net/ipv4/conf/cni0/route_localnet'];
  t.strictSame(settings(WEB), on);
  t.strictSame(settings({ ...WEB, hostIP: '127.0.0.9' }), on);
  t.strictSame(settings({ ...WEB, hostIP: '192.0.2.1' }), []);
  t.strictSame(settings({ ...WEB, hostIP: '::' }), []);
  t.strictSame(settings(WEB, { device: undefined }), []);
  t.strictSame(settings(WEB, { snat: false }), [], 'the answers would not come back');
});

const setOf = (kernel: ReturnType<typeof createFakeKernel>, name: string) =>
  kernel.readTable('inet', 'flannel')?.sets.find((set) => set.name === name)?.elements ?? [];

/** A fake with the bridge, without which there is no such sysctl. */
function kernelWithBridge() {
  const kernel = createFakeKernel();
  kernel.apply(kernel.host, [
    { verb: 'add', item: { type: 'link', value: { name: 'cni0', kind: 'bridge', up: true } } },
  ]);
  return kernel;
}

t.test('open, check, close', async (t) => {
  const kernel = kernelWithBridge();
  const own = ports({ ...WEB, protocol: 'udp' });
  t.match(portDifferences(kernel, plan(own)), [/route_localnet=1/, /nft table inet flannel/]);
  openPorts(kernel, plan(own));
  t.strictSame(portDifferences(kernel, plan(own)), []);
  t.strictSame(kernel.forgotten, [
    { family: 4, protocol: 'udp', destinationPort: 8080, destination: undefined },
    { family: 6, protocol: 'udp', destinationPort: 8080, destination: undefined },
  ]);
  openPorts(kernel, plan(own));
  t.strictSame(setOf(kernel, 'cni-hostport-v4'), ['udp . 8080 : 10.5.1.2 . 80'], 'again changes nothing');
  closePorts(kernel, plan(own));
  t.match(kernel.forgotten.at(-1), { family: 6, destinationPort: 8080, end: 'fd00:5::2' });
  t.match(portDifferences(kernel, plan(own)), [/udp \. 8080 : 10\.5\.1\.2 \. 80 in nft set cni-hostport-v4/]);
  closePorts(kernel, plan(own));
  closePorts(createFakeKernel(), plan(own));
  t.strictSame(
    kernel.readTable('inet', 'flannel')?.sets.flatMap(({ elements }) => elements),
    ['"cni0" . "cni0"'],
  );
});

t.test('without ports nothing happens', async (t) => {
  const kernel = createFakeKernel();
  openPorts(kernel, plan([]));
  closePorts(kernel, plan([]));
  t.equal(kernel.readTable('inet', 'flannel'), undefined);
  t.strictSame(portDifferences(kernel, plan([])), []);
});

t.test('only what is expected is overcome', async (t) => {
  const kernel = kernelWithBridge();
  const own = ports(WEB);
  kernel.failNext(/add element/, 'EPERM');
  t.throws(() => openPorts(kernel, plan(own)), { code: 'kernel', errno: 'EPERM' });
  openPorts(kernel, plan(own));
  kernel.failNext(/delete element/, 'EPERM');
  t.throws(() => closePorts(kernel, plan(own)), { code: 'kernel', errno: 'EPERM' });
});

t.test('whoever asked last has the port; DEL takes only what is its own', async (t) => {
  const attachment = (n: number): HostPort[] => {
    const pod = [ip(`10.5.1.${n + 2}`), ip(`fd00:5::${n + 2}`)];
    const wide = [0, n % 2].map((at) => ({ protocol: 'tcp', hostPort: 80 + at, containerPort: 8080 + at }));
    return hostPorts(parsed([...wide, { ...WEB, hostIP: '127.0.0.1' }]), pod);
  };
  const many = Array.from({ length: 4 }, (_, n) => attachment(n));
  const keyOf = ({ protocol, hostPort, hostIP, address }: HostPort) =>
    `${address.includes(':') ? 6 : 4} ${hostIP} ${protocol} ${hostPort}`;
  const step = fc.record({ n: fc.nat(many.length - 1), verb: fc.constantFrom('open', 'close') });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const kernel = kernelWithBridge();
      const owners = new Map<string, HostPort>();
      for (const { n, verb } of steps) {
        const own = many[n] as HostPort[];
        if (verb === 'open') {
          openPorts(kernel, plan(own));
          for (const port of own) owners.set(keyOf(port), port);
        } else {
          closePorts(kernel, plan(own));
          for (const port of own) if (owners.get(keyOf(port)) === port) owners.delete(keyOf(port));
        }
      }
      const maps = portTable(plan([...owners.values()], { snat: false })).sets;
      for (const { name, elements } of maps.filter(({ gives }) => gives !== undefined)) {
        t.strictSame([...setOf(kernel, name)].sort(), [...elements].sort(), name);
      }
    }),
    { seed, numRuns: 200 },
  );
});
