// The README's first command, small: it must hold, say so, and leave nothing.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';

const demo = (...args: string[]) =>
  promisify(execFile)(process.execPath, ['examples/demo/main.ts', ...args], { timeout: 120_000 });

t.test('the demonstration', async (t) => {
  const { stdout } = await demo('--nodes', '2', '--pods', '1');
  t.match(stdout, /Everything held/);
  t.notMatch(stdout, /FAIL/);
  t.notOk(stdout.includes('\u001b'), 'no colours where there is no terminal');
});

t.test('--keep and --down', async (t) => {
  t.teardown(() => demo('--down'));
  const { stdout } = await demo('--nodes', '2', '--pods', '1', '--backend', 'host-gw', '--keep');
  const pid = /nsenter -t (\d+) -m -n -u bash/.exec(stdout)?.[1];
  await promisify(execFile)('nsenter', ['-t', String(pid), '-n', 'ip', 'link']);
  t.match((await demo('--down')).stdout, /removed a cluster of 5 machines/);
  await t.rejects(promisify(execFile)('nsenter', ['-t', String(pid), '-n', 'ip', 'link']));
  t.match((await demo('--down')).stdout, /no cluster was kept/);
});

t.test('bad arguments', async (t) => {
  await t.rejects(demo('--nodes', '1'), { code: 1, stderr: 'demo: --nodes 1: expected a whole number from 2 to 9\n' });
  await t.rejects(demo('--backend', 'carrier-pigeon'), {
    code: 1,
    stderr: 'demo: --backend carrier-pigeon: expected vxlan or host-gw\n',
  });
});
