// flanneld docker-opts: the same options and, to the byte, the same output as flannel's mk-docker-opts.sh (HEAD, run by
// dash and bash), whose own test has the first five cases.

import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { parseArguments } from '../../flanneld/config.ts';
import { writeDockerOptions } from '../../flanneld/docker-opts.ts';
import { ip, prefix } from '../../model/ip.ts';
import { fakeHost } from './fixtures/host.ts';
import { apply, step } from './fixtures/target.ts';

const SAMPLE = 'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n';
const BIP = 'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\n';
const MASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=true"\n';
const MTU = 'DOCKER_OPT_MTU="--mtu=1472"\n';
const ALL = '" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"\n';

interface Row {
  readonly what: string;
  readonly flags?: readonly string[];
  readonly file?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly expected: string;
}

const ROWS: readonly Row[] = [
  { what: 'nothing said', expected: `${BIP}${MASQ}${MTU}DOCKER_OPTS=${ALL}` },
  { what: '-i', flags: ['-i'], expected: `${BIP}${MASQ}${MTU}` },
  { what: '-c', flags: ['-c'], expected: `DOCKER_OPTS=${ALL}` },
  { what: '-k', flags: ['-k', 'CUSTOM_KEY'], expected: `${BIP}${MASQ}${MTU}CUSTOM_KEY=${ALL}` },
  { what: '-m', flags: ['-m'], expected: `${BIP}${MTU}DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n` },
  { what: '-ic', flags: ['-ic'], expected: `${BIP}${MASQ}${MTU}DOCKER_OPTS=${ALL}` },
  { what: '-ck with its value', flags: ['-ckDOCKER_NETWORK_OPTIONS'], expected: `DOCKER_NETWORK_OPTIONS=${ALL}` },
  {
    what: 'the agent masquerades',
    flags: ['-c'],
    file: SAMPLE.replace('false', 'true'),
    expected: 'DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=false --mtu=1472"\n',
  },
  {
    what: 'what the environment says',
    flags: ['-c'],
    env: { DOCKER_OPTS: '--debug', DOCKER_OPT_ZZZ: '--zzz', DOCKER_OPT_MTU: '--mtu=9', OTHER: 'x' },
    expected: 'DOCKER_OPTS="--debug  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472 --zzz"\n',
  },
  { what: 'an empty file', file: '', expected: 'DOCKER_OPTS=""\n' },
  {
    what: 'an IPv6 network',
    file: 'FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n',
    flags: ['-c'],
    expected: 'DOCKER_OPTS=" --ip-masq=false --mtu=1430"\n',
  },
];

t.test('each option is written as mk-docker-opts.sh does', async (t) => {
  const directory = t.testdir({ 'sub net': {} });
  const [input, output] = [`${directory}/sub net/in`, `${directory}/sub net/out`];
  for (const { what, flags = [], file = SAMPLE, env = {}, expected } of ROWS) {
    writeFileSync(input, file);
    const invocation = parseArguments(['docker-opts', '-f', input, `-d${output}`, ...flags], env);
    if (invocation.command !== 'docker-opts') throw new Error('not docker-opts');
    writeDockerOptions(invocation.options, env, fakeHost);
    t.equal(readFileSync(output, 'utf8'), expected, what);
  }
});

t.test('options are those of mk-docker-opts.sh', async (t) => {
  t.match(parseArguments(['docker-opts'], {}), {
    options: { subnetFile: '/run/flannel/subnet.env', dockerFile: '/run/docker_opts.env' },
  });
  for (const flag of ['-h', '-?']) {
    t.match(parseArguments(['docker-opts', flag], {}), { command: 'help', text: /^flanneld docker-opts \[-f / });
  }
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['-x'], /^-x: unknown option/],
    [['-ix'], /^-x: unknown option/],
    [['-f'], /^-f: expected a value/],
    [['x'], /^argument "x": not expected/],
    [['-k', 'a b'], /^-k "a b": expected the name of a variable/],
  ];
  for (const [argv, message] of wrong) {
    t.throws(() => parseArguments(['docker-opts', ...argv], {}), { code: 'invalid-flag', message });
  }
});

t.test('what stands in the way', async (t) => {
  const directory = t.testdir();
  const [input, output] = [`${directory}/in`, `${directory}/out`];
  const invocation = parseArguments(['docker-opts', '-f', input, '-d', output], {});
  if (invocation.command !== 'docker-opts') throw new Error('not docker-opts');
  const write = (kernel = fakeHost()) => writeDockerOptions(invocation.options, {}, () => kernel);
  t.throws(() => write(), { code: 'not-ready', message: /in: there is no such file/ });
  const bad = ['FLANNEL_SUBNET=$(reboot)', 'FLANNEL_SUBNET=10.1.74.1', 'FLANNEL_MTU=1"', 'FLANNEL_IPMASQ=yes'];
  for (const line of bad) {
    writeFileSync(input, `${line}\n`);
    t.throws(() => write(), { code: 'decoding', message: `Invalid value of ${line.replace('=', ': ')}` });
  }
  writeFileSync(input, SAMPLE);
  const kernel = fakeHost();
  const route = { destination: prefix('10.1.74.0/24'), via: ip('192.168.50.9'), device: 'eth0' };
  apply(kernel, step('add', { type: 'route', value: route }));
  t.throws(() => write(kernel), {
    code: 'foreign-object',
    message: 'Your routing table already contains the subnet: 10.1.74.0/24 via 192.168.50.9',
  });
});
