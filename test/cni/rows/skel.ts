// 2a: the frame around every plugin. Names and required variables are refused before standard input is looked at, so
// these rows need no pod.

import assert from 'node:assert/strict';
import { VERSIONS } from '../../../cni-plugin/versions.ts';
import type { CaseId } from '../catalogue.ts';
import { printed, type Refusal, refused } from '../expect.ts';
import type { Answer, Stage } from '../stage.ts';
import type { Defect, Row } from '../table.ts';
import type { Role } from '../target.ts';

const GIVEN = {
  CNI_CONTAINERID: 'some-container-id',
  CNI_NETNS: '/some/netns/path',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/some/cni/path',
};
type Variable = keyof typeof GIVEN;

/** A configuration that gets past the frame in no row. */
const INPUT = '{"name":"skel-test","cniVersion":"1.0.0"}';

const run = (stage: Stage, command: string, changes: Readonly<Record<string, string>>, input = INPUT) =>
  stage.execute('bridge', { ...GIVEN, CNI_COMMAND: command, ...changes }, input);

const missing = (names: readonly string[]): Refusal => ({
  code: 4,
  msg: `required env variables [${names.join(',')}] missing`,
});

const NO_VERB: Defect = {
  releases: ['1.1.1'],
  what: 'does not know the verbs STATUS and GC',
  cites: 'cni.md 1b: "Debian 1.1.1 lacks: … STATUS"; p#1047',
};

/** One row for a verb: each of the variables missing alone, then all of them. */
function requiredRow(command: string, required: readonly Variable[], covers: readonly CaseId[]): Row {
  return {
    id: `${command} names the variables that are missing`,
    covers,
    ...((command === 'GC' || command === 'STATUS') && { defects: [NO_VERB] }),
    async run(stage) {
      for (const name of required) refused(stage, await run(stage, command, { [name]: '' }), missing([name]));
      const none = Object.fromEntries(Object.keys(GIVEN).map((name) => [name, '']));
      refused(stage, await run(stage, command, none), missing(required));
    },
  };
}

const LONG = { msg: 'interface name is too long', details: 'interface name should be less than 16 characters' };
const DOTS = { msg: 'interface name is . or ..' };
const CHARACTERS = { msg: 'interface name contains / or : or whitespace characters' };

const IFNAMES: readonly (readonly [name: string, refusal: Refusal])[] = [
  ['1234567890123456', LONG],
  ['12345678901234é', LONG],
  ['.', DOTS],
  ['..', DOTS],
  ['test/test', CHARACTERS],
  ['test:test', CHARACTERS],
  ['test test', CHARACTERS],
  ['test\ttest', CHARACTERS],
  ['test\u00a0test', CHARACTERS],
];

/** Bad names for one verb. */
function namesRow(command: 'ADD' | 'CHECK', covers: readonly CaseId[]): Row {
  const id = 'some-%%container-id';
  return {
    id: `${command} refuses bad names`,
    covers,
    async run(stage) {
      const bad = await run(stage, command, { CNI_CONTAINERID: id });
      refused(stage, bad, { code: 4, msg: 'invalid characters in containerID', details: id });
      for (const [name, refusal] of IFNAMES) {
        refused(stage, await run(stage, command, { CNI_IFNAME: name }), { code: 4, ...refusal });
      }
    },
  };
}

/** What the frame finds wrong with a configuration, per verb. */
function configRow(command: string, first: string, covers: readonly CaseId[], defects: readonly Defect[] = []): Row {
  return {
    id: `${command} refuses versions and network names`,
    covers,
    defects,
    async run(stage) {
      const withConfig = (name: string, cniVersion: string): Promise<Answer> =>
        run(stage, command, {}, JSON.stringify({ cniVersion, name, some: 'config' }));
      const early = await withConfig('test', '0.3.0');
      refused(stage, early, { code: 1, msg: `config version does not allow ${command}` });
      refused(stage, await withConfig('test', 'adsfsadf'), { code: 6 });
      const badName = { code: 7, msg: 'invalid characters found in network name', details: 'te%%st' };
      refused(stage, await withConfig('te%%st', first), badName);
      refused(stage, await withConfig('', first), { code: 7, msg: 'missing network name' });
    },
  };
}

const PROGRAMS: readonly Role[] = ['bridge', 'ipam', 'portmap', 'bandwidth'];

const about: Row = {
  id: 'without a command every program says what it is',
  covers: ['skel/no-command-about', 'skel/add-needs-command'],
  async run(stage) {
    for (const role of PROGRAMS) {
      const answer = await stage.execute(role, {}, '');
      assert.equal(answer.code, 0, `${role}: exit status`);
      assert.equal(answer.stdout, '', `${role}: standard output`);
      assert.match(answer.stderr, /^CNI .*\nCNI protocol versions supported: .*0\.4\.0, 1\.0\.0/, role);
    }
  },
};

const version: Row = {
  id: 'VERSION of every program, without reading standard input',
  covers: ['skel/version-prints', 'skel/version-no-environment', 'skel/version-no-stdin', 'libcni/group-version-info'],
  async run(stage) {
    for (const role of PROGRAMS) {
      const { supportedVersions, cniVersion } = printed(
        await stage.execute(role, { CNI_COMMAND: 'VERSION' }, 'no JSON'),
      );
      assert.ok(Array.isArray(supportedVersions) && supportedVersions.includes('1.0.0'), `${role}: lists 1.0.0`);
      assert.equal(cniVersion, supportedVersions.at(-1), `${role}: the highest of its versions`);
    }
  },
};

const everyVersion: Row = {
  id: 'VERSION lists every version of the specification',
  covers: ['skel/version-prints'],
  defects: [
    { releases: ['1.1.1'], what: 'lists 1.0.0 as the last', cites: 'cni.md 1b: "1.1.1 supports spec up to 1.0.0"' },
  ],
  async run(stage) {
    const { supportedVersions } = printed(await stage.execute('bridge', { CNI_COMMAND: 'VERSION' }, ''));
    assert.deepEqual(supportedVersions, VERSIONS);
  },
};

const unknown: Row = {
  id: 'an unknown command',
  covers: ['skel/unknown-command', 'skel/unknown-command-about', 'skel/typed-error'],
  async run(stage) {
    refused(stage, await run(stage, 'NOPE', {}), { code: 4, msg: 'unknown CNI_COMMAND: NOPE' });
  },
};

const unlisted: Row = {
  id: 'a version that no plugin lists',
  covers: ['skel/add-version-not-listed'],
  async run(stage) {
    const answer = await run(stage, 'ADD', {}, '{"name":"test","cniVersion":"9.8.7"}');
    const details =
      /^config is "9\.8\.7", plugin supports \["0\.1\.0" "0\.2\.0" "0\.3\.0" "0\.3\.1" "0\.4\.0" "1\.0\.0"/;
    refused(stage, answer, { code: 1, msg: 'incompatible CNI versions', details });
  },
};

const stdin: Row = {
  id: 'standard input that cannot be read, or is no JSON',
  covers: ['skel/stdin-error'],
  async run(stage) {
    const { machine, target } = stage;
    const program = `${target.directory}/${target.programs.bridge}`;
    const answer = await machine.run('sh', ['-c', `exec ${program} </`], { env: { ...GIVEN, CNI_COMMAND: 'ADD' } });
    refused(stage, answer, { code: 5, msg: /^error reading from stdin: / });
    refused(stage, await run(stage, 'ADD', {}, '{"name'), { code: 6, msg: /^error unmarshall network config: / });
  },
};

export const SKEL_ROWS: readonly Row[] = [
  namesRow('ADD', [
    'skel/add-bad-container-id',
    'skel/add-ifname-too-long',
    'skel/add-ifname-dot',
    'skel/add-ifname-dot-dot',
    'skel/add-ifname-slash',
    'skel/add-ifname-colon',
    'skel/add-ifname-space',
  ]),
  namesRow('CHECK', ['skel/check-bad-container-id', 'skel/check-bad-ifname']),
  requiredRow(
    'ADD',
    ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
    [
      'skel/add-needs-container-id',
      'skel/add-needs-netns',
      'skel/add-needs-ifname',
      'skel/add-needs-path',
      'skel/add-several-missing',
    ],
  ),
  requiredRow(
    'CHECK',
    ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
    [
      'skel/check-needs-container-id',
      'skel/check-needs-netns',
      'skel/check-needs-ifname',
      'skel/check-needs-path',
      'skel/check-several-missing',
    ],
  ),
  requiredRow(
    'DEL',
    ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
    ['skel/del-needs-container-id', 'skel/del-needs-ifname', 'skel/del-needs-path', 'skel/del-several-missing'],
  ),
  requiredRow('GC', ['CNI_PATH'], ['skel/gc-needs-path', 'skel/gc-several-missing']),
  requiredRow('STATUS', ['CNI_PATH'], ['skel/status-needs-path', 'skel/status-optional']),
  configRow('CHECK', '0.4.0', ['skel/check-before-0.4.0', 'skel/check-bad-version', 'skel/check-bad-name']),
  configRow('GC', '1.1.0', ['skel/gc-before-1.1.0', 'skel/gc-bad-version', 'skel/gc-bad-name'], [NO_VERB]),
  configRow(
    'STATUS',
    '1.1.0',
    ['skel/status-before-1.1.0', 'skel/status-bad-version', 'skel/status-bad-name'],
    [NO_VERB],
  ),
  about,
  version,
  everyVersion,
  unknown,
  unlisted,
  stdin,
];
