// A process that can't come back from a pod's namespace ends: whatever it did next would happen to the pod.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { makeNamespace } from '../support/namespace.ts';

const NETNS = join(import.meta.dirname, '../../kernel/netns.ts');

/** Runs statements in a process of their own, which has entered the namespace at `path` by `enter(function)`. */
function inOwnProcess(path: string, statements: string) {
  const program = `
    import { closeSync } from 'node:fs';
    import { inNamespace, openNamespace, settleThreads, straysFrom } from ${JSON.stringify(NETNS)};
    settleThreads();
    const [home, pod] = [openNamespace('/proc/self/ns/net'), openNamespace(${JSON.stringify(path)})];
    const enter = (run) => inNamespace(home, pod, run);
    ${statements}`;
  return spawnSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
}

t.test('the way back is gone', async (t) => {
  const { path } = makeNamespace(t, 'pod');
  const { signal, stderr, stdout } = inOwnProcess(path, 'enter(() => closeSync(home.fd)); console.log("goes on");');
  t.equal(signal, 'SIGABRT');
  t.match(stderr, /can't return to the host's network namespace: .*EBADF/);
  t.equal(stdout, '');
});

t.test('it comes back after an error, and no thread stays', async (t) => {
  const { path } = makeNamespace(t, 'pod');
  const { status, stdout } = inOwnProcess(
    path,
    `
    const outside = () => straysFrom('net:[' + home.id.split(':')[1] + ']').length;
    const print = (error) => console.log(error.message);
    try { enter(() => { throw new Error('failed') }); } catch (error) { print(error); }
    try { enter(async () => undefined); } catch (error) { print(error); }
    console.log(enter(outside) + ' inside, ' + outside() + ' afterwards');`,
  );
  t.equal(status, 0);
  t.equal(
    stdout,
    'failed\na function that runs inside a namespace must not return a promise\n1 inside, 0 afterwards\n',
  );
});
