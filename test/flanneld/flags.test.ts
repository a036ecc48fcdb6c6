// The command line and the environment: every flag of flannel in each of its forms, and every fault named.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { type AgentConfig, parseArguments } from '../../flanneld/config.ts';
import { failureOf } from '../../flanneld/failure.ts';
import type { Flag } from '../../flanneld/flag-kinds.ts';
import { FLAGS as TABLE } from '../../flanneld/flags.ts';
import { flagReference } from '../../flanneld/usage.ts';
import { NetError } from '../../model/errors.ts';

const configOf = (argv: readonly string[], env: Record<string, string> = {}): AgentConfig => {
  const parsed = parseArguments(argv, env);
  if (!('config' in parsed)) throw new Error(parsed.command);
  return parsed.config;
};

const DEFAULTS = configOf([]);

/** The configuration with some of its parts changed. */
const changed = (part: object): AgentConfig => ({ ...DEFAULTS, ...part });

const etcd = (part: object) => changed({ etcd: { ...DEFAULTS.etcd, ...part } });
const iface = (part: object) => changed({ interface: { ...DEFAULTS.interface, ...part } });

/** A flag of flannel with a value, and what it makes of the configuration. Other flags that it needs come after it. */
const FLAGS: readonly (readonly [string, string, AgentConfig, (readonly string[])?])[] = [
  ['etcd-endpoints', 'http://a:1,b:2', etcd({ endpoints: ['http://a:1', 'http://b:2'] })],
  ['etcd-prefix', '/net/', etcd({ prefix: '/net' })],
  [
    'etcd-keyfile',
    '/k',
    etcd({ endpoints: ['https://a:1'], tls: { authority: undefined, certificate: '/c', key: '/k' } }),
    ['--etcd-certfile=/c', '--etcd-endpoints=https://a:1'],
  ],
  [
    'etcd-certfile',
    '/c',
    etcd({ endpoints: ['https://a:1'], tls: { authority: undefined, certificate: '/c', key: '/k' } }),
    ['--etcd-keyfile=/k', '--etcd-endpoints=a:1'],
  ],
  [
    'etcd-cafile',
    '/ca',
    etcd({ endpoints: ['https://a:1'], tls: { authority: '/ca', certificate: undefined, key: undefined } }),
    ['--etcd-endpoints=https://a:1'],
  ],
  ['etcd-username', 'u', etcd({ user: { name: 'u', password: '' } })],
  ['etcd-password', 'p=-1', etcd({ user: { name: 'u', password: 'p=-1' } }), ['--etcd-username=u']],
  ['iface', 'eth1', iface({ names: ['eth1'] })],
  ['iface-regex', '^10\\.', iface({ expressions: [/^10\./] })],
  ['iface-can-reach', 'fd00::1', iface({ canReach: 'fd00::1' })],
  ['subnet-file', '/x/subnet.env', changed({ subnetFile: '/x/subnet.env' })],
  ['public-ip', '192.0.2.1', changed({ publicIp: { 4: '192.0.2.1', 6: undefined } })],
  ['public-ipv6', '2001:DB8::1', changed({ publicIp: { 4: undefined, 6: '2001:db8::1' } })],
  ['subnet-lease-renew-margin', '1439', changed({ renewMarginMinutes: 1439 })],
  ['ip-masq', 'true', changed({ masquerade: true })],
  ['ip-masq-fully-random-disable', 'true', changed({ masqueradeFullyRandom: false })],
  ['kube-subnet-mgr', 'false', DEFAULTS],
  ['kube-api-url', 'https://k', DEFAULTS],
  ['kubeconfig-file', '/k', DEFAULTS],
  ['kube-annotation-prefix', 'x.y', DEFAULTS],
  ['net-config-path', '/n', DEFAULTS],
  ['set-node-network-unavailable', 'false', DEFAULTS],
  ['iptables-resync', '7', changed({ resyncSeconds: 7 })],
  ['iptables-forward-rules', 'false', changed({ forwardRules: false })],
  ['ip-blackhole-route', 'true', changed({ blackholeRoute: true })],
  ['healthz-ip', '127.0.0.1', changed({ health: { address: '127.0.0.1', port: 1 } }), ['--healthz-port=1']],
  ['healthz-port', '8080', changed({ health: { address: '0.0.0.0', port: 8080 } })],
  ['v', '4', changed({ verbosity: 4 })],
  ['vmodule', 'a=1', DEFAULTS],
  ['log_backtrace_at', 'a:1', DEFAULTS],
];

t.test('the defaults are flannel’s', async (t) => {
  t.strictSame(DEFAULTS, {
    etcd: {
      endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
      prefix: '/coreos.com/network',
      tls: undefined,
      user: undefined,
    },
    fileStore: undefined,
    kube: undefined,
    interface: { names: [], expressions: [], canReach: undefined },
    publicIp: { 4: undefined, 6: undefined },
    subnetFile: '/run/flannel/subnet.env',
    nodeIdFile: '/var/lib/flannel/node-id',
    renewMarginMinutes: 60,
    masquerade: false,
    masqueradeFullyRandom: true,
    unmasqueraded: [],
    forwardRules: true,
    blackholeRoute: false,
    probeSeconds: 30,
    txChecksum: 'auto',
    resyncSeconds: 5,
    health: undefined,
    policy: undefined,
    cni: {
      socket: '/run/flannel/cni.sock',
      only: false,
      list: undefined,
      configuration: '/etc/cni/net.d',
      executables: '/opt/cni/bin',
      graceSeconds: 60,
    },
    dryRun: false,
    verbosity: 0,
  });
});

t.test('every flag of flannel, in every form', async (t) => {
  const SWITCH = /^(true|false)$/;
  for (const [name, value, expected, more = []] of FLAGS) {
    const variable = `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
    t.strictSame(configOf([`--${name}=${value}`, ...more]), expected, `--${name}=`);
    t.strictSame(configOf([`-${name}=${value}`, ...more]), expected, `-${name}=`);
    t.strictSame(configOf(more, { [variable]: value }), expected, variable);
    t.strictSame(
      configOf([...more, `--${name}=${value}`], { [variable]: 'wrong' }),
      expected,
      `--${name} wins over ${variable}`,
    );
    if (SWITCH.test(value)) continue;
    t.strictSame(configOf([`--${name}`, value, ...more]), expected, `--${name} VALUE`);
    t.strictSame(configOf([`-${name}`, value, ...more]), expected, `-${name} VALUE`);
  }
});

t.test('the table above has every flag of flannel, and each has a meaning', async (t) => {
  const theirs = Object.entries(TABLE as Readonly<Record<string, Flag<unknown>>>).filter(([, flag]) => !flag.ours);
  t.same(theirs.map(([name]) => name).sort(), [...FLAGS.map(([name]) => name), 'version', 'help'].sort());
  for (const [name, { help }] of theirs) t.match(help, /\w+ \w+/, name);
  for (const form of ['-version', '--version']) t.equal(parseArguments([form], {}).command, 'version');
});

t.test('forms of values', async (t) => {
  for (const word of ['1', 't', 'T', 'true', 'TRUE', 'True']) t.equal(configOf([`--ip-masq=${word}`]).masquerade, true);
  for (const word of ['0', 'f', 'F', 'false', 'FALSE', 'False'])
    t.equal(configOf([`--ip-masq=${word}`]).masquerade, false);
  t.equal(configOf(['-ip-masq', '--v', '2']).masquerade, true, 'a switch takes no word after it');
  t.strictSame(configOf(['--iface=a', '-iface', 'b', '--iface=c']).interface.names, ['a', 'b', 'c'], 'repeated');
  t.equal(configOf(['--v=1', '--v=2']).verbosity, 2, 'the last wins');
  t.strictSame(configOf(['--iface-regex=(?i)^ETH']).interface.expressions, [/^ETH/i], "Go's flag for letter case");
  t.strictSame(configOf(['--public-ip=']).publicIp, { 4: undefined, 6: undefined }, 'empty is none');
  t.strictSame(configOf([], { FLANNELD_PUBLIC_IP: '', FLANNELD_VERSION: 'v0.28', FLANNELD_HELP: 'x' }), DEFAULTS);
  t.equal(configOf(['--etcd-prefix=/']).etcd.prefix, '', 'keys /config and /subnets');
  t.equal(configOf(['--etcd-prefix=a//b']).etcd.prefix, 'a/b');
  t.equal(configOf(['--node-id-file=/x']).nodeIdFile, '/x');
  t.equal(configOf(['--dry-run']).dryRun, true);
});

t.test('network policy', async (t) => {
  t.equal(configOf(['--policy-source=off', '--policy-established=keep']).policy, undefined);
  t.strictSame(configOf(['--policy-source=dir:/etc/policy']).policy, {
    source: { directory: '/etc/policy' },
    established: 'cut',
    unknownPod: 'closed',
    node: undefined,
    logDenied: false,
  });
  const nodeOf = (env: Record<string, string>) => configOf(['--policy-source=dir:/p'], env).policy?.node;
  t.strictSame(nodeOf({ NODE_NAME: 'n1', POD_NAME: 'p', POD_NAMESPACE: 'x' }), { node: 'n1' });
  t.strictSame(nodeOf({ POD_NAME: 'p', POD_NAMESPACE: 'x' }), { namespace: 'x', pod: 'p' });
  t.throws(() => nodeOf({ NODE_NAME: 'n/1' }), { code: 'invalid-flag', message: /NODE_NAME/ });
  t.match(configOf(['--policy-source=dir:/p', '--policy-log-denied']).policy, { logDenied: true });
  t.match(configOf(['--policy-source=dir:/p', '--policy-established=keep', '--policy-unknown-pod=open']).policy, {
    established: 'keep',
    unknownPod: 'open',
  });
  t.match(configOf(['--policy-source=kube', '--kube-api-url=https://k']).policy?.source, {
    kube: { server: 'https://k' },
  });
  t.throws(() => configOf(['--policy-source=kube']), {
    code: 'invalid-flag',
    message: /^--policy-source=kube: expected --kubeconfig-file/,
  });
  for (const wrong of ['dir:', 'dir:etc/policy', 'kubernetes', '/etc/policy', '']) {
    t.throws(() => configOf([`--policy-source=${wrong}`]), { code: 'invalid-flag', message: /--policy-source/ }, wrong);
  }
  t.throws(() => configOf(['--policy-source=dir:/p', '--cni-socket=']), {
    code: 'invalid-flag',
    message: /--cni-socket/,
  });
});

t.test('destinations that see the addresses of pods', async (t) => {
  const read = (argv: readonly string[], env: Record<string, string> = {}) => configOf(argv, env).unmasqueraded;
  t.same(read(['--non-masquerade-cidrs=10.0.0.0/8,fd00::/8']), ['10.0.0.0/8', 'fd00::/8']);
  t.same(read(['--non-masquerade-cidrs', '10.1.2.3/8', '-non-masquerade-cidrs=192.0.2.1, 10.0.0.0/8']), [
    '10.0.0.0/8',
    '192.0.2.1/32',
  ]);
  t.same(read([], { FLANNELD_NON_MASQUERADE_CIDRS: '10.0.0.0/8,2001:db8::1' }), ['10.0.0.0/8', '2001:db8::1/128']);
  t.same(read(['--non-masquerade-cidrs=']), []);
  t.throws(() => read(['--non-masquerade-cidrs=10.0.0.0/8,here']), {
    message: '--non-masquerade-cidrs "10.0.0.0/8,here": expected prefixes separated by commas',
  });
});

t.test('a command, its flags and what it refuses', async (t) => {
  t.equal(parseArguments([], {}).command, 'run');
  t.match(parseArguments(['status', '--json', '--subnet-file=/x'], {}), {
    command: 'status',
    json: true,
    config: { subnetFile: '/x' },
  });
  t.match(parseArguments(['--dry-run', 'cleanup'], {}), { command: 'cleanup', config: { dryRun: true } });
  t.match(parseArguments(['--version'], {}), { command: 'version', text: /^flanneld \d+\.\d+\.\d+$/ });
});

t.test('help: of the agent with all of its flags, of a command with those that it heeds', async (t) => {
  const flagsIn = (argv: readonly string[]): string[] => {
    const parsed = parseArguments(argv, {});
    const text = 'text' in parsed ? parsed.text : '';
    t.match(text, /^Usage: flanneld/, argv.join(' '));
    t.ok(
      text.split('\n').every((line) => line.length <= 120),
      'fits a terminal',
    );
    return [...text.matchAll(/^ {2}--?([a-z_][a-z0-9_-]*)/gm)].map((match) => match[1] ?? '');
  };
  for (const argv of [['--help'], ['-h']]) {
    const shown = flagsIn(argv);
    for (const [name] of FLAGS) t.ok(shown.includes(name), name);
    for (const name of ['json', 'cni-bin-dir', 'cni-grace']) t.notOk(shown.includes(name), name);
  }
  t.same(flagsIn(['status', '--help']), ['subnet-file', 'json']);
  t.same(flagsIn(['cleanup', '-help']), ['subnet-file', 'v', 'cni-socket', 'dry-run']);
  t.same(flagsIn(['install-cni', '--help']), ['cni-conf-dir', 'cni-bin-dir', 'cni-grace']);
  t.same(flagsIn(['uninstall-cni', '--help']), ['cni-list', 'cni-conf-dir', 'cni-bin-dir']);
});

t.test('a command that could not be carried out: one line, its own help, and no answer in the exit code', async (t) => {
  const failed = (argv: readonly string[]) => {
    try {
      return parseArguments(argv, {});
    } catch (error) {
      return failureOf(error, argv);
    }
  };
  t.same(failed(['--nope']), { text: 'flanneld: --nope: unknown flag (see flanneld --help)\n', exitCode: 1 });
  t.same(failed(['cleanup', '--nope']), {
    text: 'flanneld: --nope: unknown flag (see flanneld cleanup --help)\n',
    exitCode: 1,
  });
  t.match(failed(['docker-opts', '-z']), {
    text: /^flanneld: -z: .*\(see flanneld docker-opts --help\)\n$/,
    exitCode: 1,
  });
  t.match(failed(['status', '--nope']), { exitCode: 2 }, '1 says that something differs');
  t.match(failed(['policy', 'why', '--nope']), { text: /\(see flanneld policy --help\)\n$/, exitCode: 2 }, '1: denied');
  const nobody = new NetError('no-agent', 'no agent answers on /run/flannel/subnet.sock: ENOENT');
  t.match(failureOf(nobody, ['policy', 'trace']), { text: /ENOENT \(start the agent; [^)]*\)\n$/, exitCode: 2 });
});

t.test('what is wrong is named in one line', async (t) => {
  const wrong: readonly (readonly [readonly string[], string | RegExp, Record<string, string>?])[] = [
    [['--frobnicate'], '--frobnicate: unknown flag'],
    [['--frobnicate=1'], '--frobnicate: unknown flag'],
    [['-z'], '-z: unknown flag'],
    [['---v=1'], '---v=1: not a flag'],
    [['--v'], '-v: expected a whole number from 0 to 99, got nothing'],
    [['--v=high'], '-v "high": expected a whole number from 0 to 99'],
    [['--ip-masq=yes'], '--ip-masq "yes": expected true or false'],
    [['--ip-masq', 'false'], /^argument "false": not expected/],
    [['start'], /^argument "start": no command; there are status, cleanup, .*, policy, docker-opts$/],
    [['status', 'now'], /^argument "now": not expected$/],
    [['-v=1', 'policy', 'trace'], /^argument "policy": expected before all flags$/],
    [['install-cni', '--dry-run'], '--dry-run: flanneld install-cni has none; nothing was changed'],
    [['uninstall-cni'], /^--dry-run: flanneld uninstall-cni has none/, { FLANNELD_DRY_RUN: 'true' }],
    [['--etcd-endpoints=http://a:99999'], /^--etcd-endpoints "http:\/\/a:99999": expected addresses/],
    [['--etcd-endpoints=a:1,http://:2379'], /^--etcd-endpoints .*: expected addresses/],
    [['--json'], '--json: a flag of flanneld status only'],
    [['--cni-bin-dir=/b'], '--cni-bin-dir: a flag of flanneld install-cni and flanneld uninstall-cni only'],
    [['uninstall-cni', '--cni-grace=1'], '--cni-grace: a flag of flanneld install-cni only'],
    [['--cni-list=list'], '--cni-list "list": expected an absolute path'],
    [['--cni-conf-dir='], '--cni-conf-dir "": expected an absolute path'],
    [['--subnet-lease-renew-margin=0'], '--subnet-lease-renew-margin "0": expected a whole number from 1 to 1439'],
    [['--subnet-lease-renew-margin=1440'], /"1440"/],
    [
      [],
      'FLANNELD_SUBNET_LEASE_RENEW_MARGIN "x": expected a whole number from 1 to 1439',
      { FLANNELD_SUBNET_LEASE_RENEW_MARGIN: 'x' },
    ],
    [['--iptables-resync=0'], /--iptables-resync "0"/],
    [['--healthz-port=65536'], /--healthz-port "65536"/],
    [['--healthz-ip=here'], '--healthz-ip "here": expected an IP address'],
    [['--public-ip=fd00::1'], '--public-ip "fd00::1": expected an IPv4 address'],
    [['--public-ipv6=192.0.2.1'], '--public-ipv6 "192.0.2.1": expected an IPv6 address'],
    [['--iface='], '--iface "": expected an interface or address'],
    [['--iface-regex=('], '--iface-regex "(": expected a regular expression'],
    [['--iface-can-reach=x'], /--iface-can-reach "x"/],
    [['--subnet-file=here'], '--subnet-file "here": expected an absolute path'],
    [['--etcd-endpoints=http://a'], /--etcd-endpoints "http:\/\/a": expected addresses/],
    [['--etcd-endpoints='], /--etcd-endpoints ""/],
    [['--etcd-endpoints=ftp://a:1'], /ftp/],
    [['--etcd-prefix='], /--etcd-prefix ""/],
    [['--etcd-certfile=/c'], '--etcd-certfile /c: expected --etcd-keyfile with it'],
    [['--etcd-keyfile=/k'], '--etcd-keyfile /k: expected --etcd-certfile with it'],
    [
      ['--etcd-cafile=/ca', '--etcd-endpoints=http://a:1'],
      '--etcd-cafile /ca: expected an https:// endpoint with it, got http://a:1',
    ],
    [['--etcd-password=secret'], '--etcd-password: expected --etcd-username with it'],
    [['--kube-subnet-mgr', '--subnet-mgr=file'], '--kube-subnet-mgr: expected no --subnet-mgr=file with it'],
    [['--subnet-mgr=file', '--leases-file=x'], '--leases-file "x": expected an absolute path'],
    [['--cni-socket=here'], '--cni-socket "here": expected an absolute path of at most 107 bytes, or nothing'],
    [[`--cni-socket=/${'x'.repeat(107)}`], /--cni-socket .* 107 bytes/],
    [['--cni-only', '--cni-socket='], '--cni-only: expected --cni-socket with it'],
    [['--cni-only', '--dry-run'], /--cni-only: .* no --dry-run/],
    [['--subnet-mgr=zk'], '--subnet-mgr "zk": expected one of etcd, kube, file'],
  ];
  for (const [argv, message, env = {}] of wrong) {
    t.throws(() => parseArguments(argv, env), { code: 'invalid-flag', message }, argv.join(' '));
    try {
      parseArguments(argv, env);
    } catch (error) {
      t.ok(error instanceof NetError && !error.message.includes('\n'), 'one line');
    }
  }
});

t.test('files in place of etcd', async (t) => {
  t.strictSame(configOf(['--subnet-mgr=file']).fileStore, {
    networkConfig: '/etc/kube-flannel/net-conf.json',
    leases: '/var/lib/flannel/leases.json',
  });
  t.strictSame(configOf(['--subnet-mgr=file', '--net-config-path=/n', '--leases-file=/l']).fileStore, {
    networkConfig: '/n',
    leases: '/l',
  });
});

t.test('the socket for CNI clients', async (t) => {
  const cni = (argv: readonly string[], env: Record<string, string> = {}) => configOf(argv, env).cni;
  t.match(cni(['--cni-socket=/x/s']), { socket: '/x/s', only: false });
  t.match(cni(['--cni-socket=']), { socket: undefined, only: false });
  t.match(cni(['--cni-only']), { socket: '/run/flannel/cni.sock', only: true });
  t.match(cni([], { FLANNELD_CNI_ONLY: 'true', FLANNELD_CNI_SOCKET: '/a' }), { socket: '/a', only: true });
  t.equal(cni([], { FLANNEL_CNI_SOCKET: '/b' }).socket, '/b', 'the variable of the client');
  t.equal(cni([], { FLANNEL_CNI_SOCKET: '/b', FLANNELD_CNI_SOCKET: '/a' }).socket, '/a');
  t.equal(cni(['--cni-socket=/c'], { FLANNEL_CNI_SOCKET: '/b', FLANNELD_CNI_SOCKET: '/a' }).socket, '/c');
  t.equal(cni([], { FLANNEL_CNI_SOCKET: '' }).socket, undefined, 'empty is off, as for the client');
  t.equal(cni([], { FLANNEL_CNI_SOCKET: '/b', FLANNELD_CNI_SOCKET: '' }).socket, undefined);
});

t.test('what lies on the node for its container runtime', async (t) => {
  const cni = (argv: readonly string[], env: Record<string, string> = {}) => configOf(argv, env).cni;
  t.match(cni(['--cni-list=/l', '--cni-conf-dir=/c']), { list: '/l', configuration: '/c' });
  t.match(cni(['install-cni', '--cni-bin-dir=/b', '--cni-grace=5']), { executables: '/b', graceSeconds: 5 });
  t.match(cni(['uninstall-cni', '--cni-bin-dir=/b']), { executables: '/b' });
  t.match(cni([], { FLANNELD_CNI_BIN_DIR: '/b' }), { executables: '/b' }, 'the environment serves all commands');
});

t.test('docs/flags.md is what the table says', async (t) => {
  const again = `node -e "import('./flanneld/usage.ts').then((m) => fs.writeFileSync('docs/flags.md', m.flagReference()))"`;
  t.equal(
    readFileSync(new URL('../../docs/flags.md', import.meta.url), 'utf8'),
    flagReference(),
    `make it again with: ${again}`,
  );
});
