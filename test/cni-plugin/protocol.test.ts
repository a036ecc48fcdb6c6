// What a runtime may send, and the very words of what is refused (containernetworking/cni pkg/skel/skel_test.go).

import fc from 'fast-check';
import t from 'tap';
import { NetError } from '../../model/errors.ts';
import { ifnameProblem, parseArgs, parseEnvironment, parseRequest, podOfArgs } from '../../cni-plugin/protocol.ts';
import { failure, versions } from '../../cni-plugin/answer.ts';
import { seed } from '../support/seed.ts';

const ENV = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'some-container-id',
  CNI_NETNS: '/some/netns/path',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IP=10.1.2.3',
  CNI_PATH: '/some/cni/path:/other',
};
const CONFIG = { name: 'skel-test', cniVersion: '1.0.0', some: 'config' };

/** Code, message and details of the error object; undefined when nothing was refused. */
function refusal(env: Record<string, string | undefined>, input: unknown = CONFIG) {
  try {
    parseRequest(parseEnvironment(env), typeof input === 'string' ? input : JSON.stringify(input));
    return undefined;
  } catch (error) {
    const { code, msg, details } = JSON.parse(failure(error).output);
    return [code, msg, ...(details === undefined ? [] : [details])];
  }
}

t.test('a whole request', async (t) => {
  const request = parseRequest(parseEnvironment(ENV), JSON.stringify(CONFIG));
  t.match(request, { command: 'ADD', containerId: 'some-container-id', ifname: 'eth0', network: 'skel-test' });
  t.strictSame(request.path, ['/some/cni/path', '/other']);
  t.equal(request.cniVersion, '1.0.0');
  t.strictSame(request.config, CONFIG);
});

const REQUIRED: Record<string, string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  GC: ['CNI_PATH'],
  STATUS: ['CNI_PATH'],
  VERSION: [],
};
for (const [command, names] of Object.entries(REQUIRED)) {
  t.test(`${command}: required variables`, async (t) => {
    const env = { ...ENV, CNI_COMMAND: command };
    const input = { ...CONFIG, cniVersion: '1.1.0' };
    for (const name of Object.keys(ENV).filter((each) => each !== 'CNI_COMMAND')) {
      const expected = names.includes(name) ? [4, `required env variables [${name}] missing`] : undefined;
      t.strictSame(refusal({ ...env, [name]: undefined }, input), expected, `${name} missing`);
      t.strictSame(refusal({ ...env, [name]: '' }, input), expected, `${name} empty`);
    }
    const all = names.length === 0 ? undefined : [4, `required env variables [${names.join(',')}] missing`];
    t.strictSame(refusal({ CNI_COMMAND: command }, input), all, 'all missing, in the order of the table');
  });
}

t.test('an unknown command, or none, is refused', async (t) => {
  t.strictSame(refusal({ ...ENV, CNI_COMMAND: 'NOPE' }), [4, 'unknown CNI_COMMAND: NOPE']);
  t.strictSame(refusal({ ...ENV, CNI_COMMAND: 'toString' }), [4, 'unknown CNI_COMMAND: toString']);
  t.strictSame(refusal({ ...ENV, CNI_COMMAND: '' }), [4, 'required env variables [CNI_COMMAND] missing']);
});

t.test('container ids that would be paths or have other characters are refused', async (t) => {
  const invalid = (id: string) => [4, 'invalid characters in containerID', id];
  for (const id of ['a', 'A.b_c-d', '0'.repeat(200)]) t.equal(refusal({ ...ENV, CNI_CONTAINERID: id }), undefined, id);
  for (const id of ['some-%%container-id', '../x', '.x', '-x', 'a/b', 'a b', 'a\nb', 'a:b', 'ä', 'a\n']) {
    t.strictSame(refusal({ ...ENV, CNI_CONTAINERID: id }), invalid(id), JSON.stringify(id));
  }
});

t.test('interface names', async (t) => {
  const long = [4, 'interface name is too long', 'interface name should be less than 16 characters'];
  const characters = [4, 'interface name contains / or : or whitespace characters'];
  const cases: [string, unknown][] = [
    ['eth0', undefined],
    ['0123456789abcde', undefined],
    ['0123456789abcdef', long],
    ['äääääääa', undefined],
    ['ääääääää', long],
    ['.', [4, 'interface name is . or ..']],
    ['..', [4, 'interface name is . or ..']],
    ['all', [4, 'interface name is all, which is reserved by the kernel']],
    ['default', [4, 'interface name is default, which is reserved by the kernel']],
    ['te/st', characters],
    ['te:st', characters],
    ['te st', characters],
    ['te\tst', characters],
    ['te\u00a0st', characters],
    ['te\u0085st', characters],
    ['eth%d', [4, 'interface name contains % or control characters']],
    ['eth\u0001', [4, 'interface name contains % or control characters']],
  ];
  for (const [name, expected] of cases) {
    t.strictSame(refusal({ ...ENV, CNI_IFNAME: name }), expected, JSON.stringify(name));
  }
  t.strictSame(ifnameProblem(''), ['interface name is empty']);
});

t.test('what a command does not need is not looked at', async (t) => {
  t.equal(
    refusal({ CNI_COMMAND: 'STATUS', CNI_PATH: '/x', CNI_IFNAME: '..' }, { name: 'n', cniVersion: '1.1.0' }),
    undefined,
  );
});

t.test('network names', async (t) => {
  const invalid = (name: string) => [7, 'invalid characters found in network name', name];
  t.strictSame(refusal(ENV, { cniVersion: '1.0.0' }), [7, 'missing network name']);
  t.strictSame(refusal(ENV, { cniVersion: '1.0.0', name: '' }), [7, 'missing network name']);
  for (const name of ['te%%st', '..', '../../etc', 'a/b', '.hidden', 'a\u0000']) {
    t.strictSame(refusal(ENV, { ...CONFIG, name }), invalid(name), JSON.stringify(name));
  }
  t.match(refusal(ENV, { ...CONFIG, name: 5 }), [6, /^error unmarshall network config: name: expected a string/]);
});

t.test('versions', async (t) => {
  const supported = '["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]';
  const withVersion = (cniVersion: unknown, command = 'ADD') =>
    refusal({ ...ENV, CNI_COMMAND: command }, { name: 'n', cniVersion });
  t.equal(parseRequest(parseEnvironment(ENV), '{"name":"n"}').cniVersion, '0.1.0', 'none means 0.1.0');
  t.equal(
    parseRequest(parseEnvironment(ENV), '{"Name":"n","CNIVersion":"0.4.0"}').cniVersion,
    '0.4.0',
    'keys in any case',
  );
  t.strictSame(withVersion('1.2.0'), [
    1,
    'incompatible CNI versions',
    `config is "1.2.0", plugin supports ${supported}`,
  ]);
  t.strictSame(withVersion('adsfsadf'), [6, 'cniVersion "adsfsadf" is not a version']);
  t.match(withVersion(1), [6, /cniVersion: expected a string/]);
  for (const version of ['0.1.0', '0.2.0', '0.3.0', '0.3.1']) {
    t.strictSame(withVersion(version, 'CHECK'), [1, 'config version does not allow CHECK'], version);
  }
  t.equal(withVersion('0.4.0', 'CHECK'), undefined);
  t.strictSame(withVersion('1.0.0', 'GC'), [1, 'config version does not allow GC']);
  t.strictSame(withVersion('1.0.0', 'STATUS'), [1, 'config version does not allow STATUS']);
  t.strictSame(JSON.parse(versions().output), {
    cniVersion: '1.1.0',
    supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
});

t.test('input that is no configuration', async (t) => {
  for (const input of ['', '{', 'null', '[]', '"x"', '5', '{"name":"n"} x']) {
    t.match(refusal(ENV, input), [6, /^error unmarshall network config: /], JSON.stringify(input));
  }
  const padded = (bytes: number) => `{"name":"n"${' '.repeat(bytes - 12)}}`;
  t.equal(refusal(ENV, padded(1 << 20)), undefined, 'as large as allowed');
  t.match(refusal(ENV, padded((1 << 20) + 1)), [6, /more than 1048576 bytes/]);
  t.match(refusal(ENV, `{"name":"n","x":${'['.repeat(500_000)}${']'.repeat(500_000)}}`), [
    6,
    /nested more than 64 deep/,
  ]);
});

t.test('CNI_ARGS', async (t) => {
  t.strictSame([...parseArgs('')], []);
  t.strictSame(
    [...parseArgs('IP=10.1.2.3;MAC=02:00:00:00:00:01')],
    [
      ['IP', '10.1.2.3'],
      ['MAC', '02:00:00:00:00:01'],
    ],
  );
  t.equal(parseArgs('IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_UID=').get('K8S_POD_NAME'), 'web-0');
  const name = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=web-0';
  const uid = '5e6ad4f4-7a05-4cd0-9df4-3a9b06e1a5c1';
  t.strictSame(podOfArgs(`${name};K8S_POD_UID=${uid}`), { namespace: 'x', name: 'web-0', uid });
  const hash = '9f1cf0b2bf8b4bd0a4e4f7f5f2a7ab51';
  t.strictSame(podOfArgs(`${name};K8S_POD_UID=${hash}`), { namespace: 'x', name: 'web-0' }, 'of a static pod');
  for (const yes of ['1', 'true', 'True']) t.doesNotThrow(() => parseArgs(`IgnoreUnknown=${yes};X=y`), yes);
  const bad: [string, RegExp][] = [
    ['X=y', /ARGS: unknown args \["X"\]/],
    ['ip=10.1.2.3', /ARGS: unknown args \["ip"\]/],
    ['IgnoreUnknown=0;X=y', /unknown args/],
    ['IgnoreUnknown=maybe;X=y', /IgnoreUnknown: expected/],
    ['IP', /ARGS: invalid pair "IP"/],
    ['IP=1=2', /ARGS: invalid pair "IP=1=2"/],
    ['IP=1;', /ARGS: invalid pair ""/],
  ];
  for (const [args, message] of bad) t.throws(() => parseArgs(args), { code: 'invalid-environment', message }, args);
});

t.test('whatever comes, it is taken or refused by a NetError', async () => {
  const word = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', '../..', '__proto__'),
  );
  const json = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ name: word, cniVersion: word }).map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...Object.keys(ENV)), word), json, (env, input) => {
      try {
        const request = parseRequest(parseEnvironment(env), input);
        return !request.network.includes('/') && !request.network.startsWith('.');
      } catch (error) {
        return error instanceof NetError && error.code !== 'internal';
      }
    }),
    { seed, numRuns: 2000 },
  );
});
