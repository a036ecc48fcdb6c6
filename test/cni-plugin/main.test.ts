// The executable as a process: what it prints and how it exits, before it needs a kernel.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const MAIN = join(import.meta.dirname, '../../cni-plugin/main.ts');

function run(env: Record<string, string>, input = '', nodeArgs: string[] = []) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, MAIN], {
    env,
    input,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}
const ENV = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/none', CNI_IFNAME: 'eth0', CNI_PATH: '/x' };

t.test('VERSION', async (t) => {
  const { status, stdout } = run({ CNI_COMMAND: 'VERSION' });
  t.equal(status, 0);
  t.match(JSON.parse(stdout), {
    cniVersion: '1.1.0',
    supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });

  t.test('does not wait for standard input', async (t) => {
    const child = spawn(process.execPath, [MAIN], {
      env: { CNI_COMMAND: 'VERSION' },
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    const [code] = await once(child, 'exit');
    t.equal(code, 0);
    child.stdin.destroy();
  });
  t.test('loads no packages', async (t) => {
    const hook = `import { registerHooks } from 'node:module';
      registerHooks({ resolve(name, context, next) { const found = next(name, context); process.stderr.write(found.url + '\\n'); return found; } });`;
    const { stderr } = run({ CNI_COMMAND: 'VERSION' }, '', [
      '--import',
      `data:text/javascript,${encodeURIComponent(hook)}`,
    ]);
    t.match(stderr, /cni-plugin\/versions\.ts/);
    t.notMatch(stderr, /node_modules|kernel\//);
  });
});

t.test('without a command it says what it is, in the words of the client', async (t) => {
  const about =
    /^CNI plugin flannel \(flannel-ts\): .*, not by hand\nCNI protocol versions supported: 0\.1\.0, .*1\.1\.0\n$/;
  t.match(run({}), { status: 0, stdout: '', stderr: about });
  t.match(run({ FLANNEL_ARGV0: '/opt/cni/bin/flannel-ipam' }).stderr, /^CNI plugin flannel-ipam/);
});

t.test('a directory on standard input', async (t) => {
  const directory = openSync(import.meta.dirname, 'r');
  t.teardown(() => closeSync(directory));
  const { status, stdout } = spawnSync(process.execPath, [MAIN], {
    env: { ...ENV, CNI_COMMAND: 'ADD' },
    stdio: [directory, 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  t.match({ status, ...JSON.parse(stdout) }, { status: 1, code: 5, msg: 'error reading from stdin: EISDIR' });
});

t.test('errors are objects on standard output', async (t) => {
  const cases: [Record<string, string>, string, object][] = [
    [{ CNI_COMMAND: 'NOPE' }, '', { code: 4, msg: 'unknown CNI_COMMAND: NOPE' }],
    [
      { CNI_COMMAND: 'ADD' },
      '',
      { code: 4, msg: /required env variables \[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH\] missing/ },
    ],
    [{ ...ENV, CNI_COMMAND: 'ADD' }, '{', { code: 6 }],
    [{ ...ENV, CNI_COMMAND: 'ADD' }, 'x'.repeat(3 << 20), { code: 6, msg: /more than 1048576 bytes/ }],
    [{ ...ENV, CNI_COMMAND: 'ADD' }, '{"name":"n","cniVersion":"9.9.9"}', { code: 1 }],
    [{ FLANNEL_ARGV0: 'calico', CNI_COMMAND: 'ADD' }, '', { code: 4, msg: 'no plugin is called "calico"' }],
  ];
  for (const [env, input, expected] of cases) {
    const { status, stdout, stderr } = run(env, input);
    t.equal(status, 1, JSON.stringify(expected));
    t.match(JSON.parse(stdout), { cniVersion: '1.1.0', ...expected });
    t.equal(stderr, '');
  }
});
