// Rules while signals arrive. libnftables waits in select(2) and takes an interruption for a failed transaction, so
// signals have to wait for it. The process starts itself again in a network namespace of its own.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { openKernel } from '../../kernel/open.ts';
import { count } from '../support/count.ts';

const INSIDE = 'FLANNEL_TEST_IN_NAMESPACE';
/** Twenty signals a millisecond, for as long as there is someone to send them to; says when it begins. */
const STORM = `console.log('blowing');
setInterval(() => {
  for (let i = 0; i < 20; i++) process.ppid === +process.argv[1] ? process.kill(process.ppid, 'SIGWINCH') : process.exit();
}, 1);`;

if (process.env[INSIDE] === undefined) {
  execFileSync('unshare', ['--net', process.execPath, import.meta.filename], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
} else {
  t.test('transactions succeed while signals arrive', async (t) => {
    process.on('SIGWINCH', () => {});
    const kernel = openKernel();
    const storm = spawn(process.execPath, ['-e', STORM, String(process.pid)], { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(storm.stdout, 'data');
    try {
      const set = { name: 's', type: 'ipv4_addr', elements: [] };
      const failures: string[] = [];
      for (let done = 0; done < count(200_000); done++) {
        const element = { ...set, elements: [`10.0.${(done >> 8) & 255}.${done & 255}`] };
        try {
          kernel.commit({
            family: 'inet',
            table: 't',
            commands: [
              { verb: 'add', type: 'table' },
              { verb: 'add', type: 'set', set },
              { verb: 'add', type: 'element', set: element, elements: element.elements },
            ],
          });
        } catch (error) {
          failures.push(String(error));
        }
        // The signals that came are taken in between, or they would fill their pipe.
        if (done % 20 === 0) await turn();
      }
      t.strictSame(failures.slice(0, 3), []);
    } finally {
      storm.kill('SIGKILL');
      kernel.close();
    }
  });
}
