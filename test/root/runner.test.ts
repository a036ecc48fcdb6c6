// The machine of its own that the runner gives each test file: nothing gets out of it, and what is left in it is named.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { privateMachine } from '../support/private-machine.ts';
import { runJob } from '../support/run-job.ts';
import type { Outcome } from '../support/tap-results.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const folder = temporaryDirectory(t);

async function outcomesOf(program: string, stop?: AbortSignal): Promise<Outcome[]> {
  const file = join(folder, 'program.mjs');
  writeFileSync(file, program);
  const outcomes: Outcome[] = [];
  const { command, environment, remove } = privateMachine(file, false);
  const job = { name: 'program', command, tap: true, seconds: 60, environment, logFolder: folder };
  await runJob(job, stop ?? new AbortController().signal, (outcome) => outcomes.push(outcome));
  remove();
  return outcomes;
}

const TAP = "console.log('TAP version 14\\n1..1\\nok 1 - a');";

t.test('a test that leaves nothing', async (t) => {
  t.strictSame(await outcomesOf(TAP), [{ state: 'passed', name: '' }]);
});

t.test('a test that passes and leaves things fails, and each of them is named', async (t) => {
  const leave = `
    import { execFileSync, spawn } from 'node:child_process';
    import { writeFileSync } from 'node:fs';
    import { tmpdir } from 'node:os';
    execFileSync('ip', ['netns', 'add', 'left']);
    execFileSync('ip', ['link', 'add', 'left0', 'type', 'bridge']);
    execFileSync('nft', ['add', 'table', 'inet', 'left']);
    writeFileSync(tmpdir() + '/left.txt', '');
    spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref();
    ${TAP}`;
  const [passed, failed] = await outcomesOf(leave);
  t.match(passed, { state: 'passed' });
  const details = failed?.state === 'failed' ? failed.details : '';
  const expected = [
    /netns left$/m,
    /link left0 bridge$/m,
    /nft table inet left \{$/m,
    /file .*left\.txt$/m,
    /sleep 1000$/m,
  ];
  for (const line of expected) t.match(details, line);
  t.notOk(existsSync('/run/netns/left'));
});

t.test('a test that is interrupted ends in its own way, and takes nothing with it', async (t) => {
  const waiting = 'process.on("SIGTERM", () => process.exit(1)); setInterval(() => {}, 1000);';
  t.match(await outcomesOf(waiting, AbortSignal.timeout(1000)), [{ state: 'failed', details: /interrupted/ }]);
});
