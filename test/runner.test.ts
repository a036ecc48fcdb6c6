// What the test runner makes of TAP, of skips and of what a test leaves on the machine.

import { spawnSync } from 'node:child_process';
import t from 'tap';
import { judgeSkip } from './support/allowed-skips.ts';
import { count } from './support/count.ts';
import { childrenSeconds } from './support/processor-time.ts';
import { differences } from './support/machine-state.ts';
import { notBuilt } from './support/go-program.ts';
import { below, random, shuffled } from './support/seed.ts';
import { type Outcome, tapResults } from './support/tap-results.ts';

function outcomes(...lines: string[]): Outcome[] {
  const found: Outcome[] = [];
  tapResults((outcome) => found.push(outcome)).end(`TAP version 14\n${lines.join('\n')}\n`);
  return found;
}

t.test('the innermost subtests are the tests', async (t) => {
  const found = outcomes(
    '# Subtest: group',
    '    # Subtest: a',
    '        ok 1 - x',
    '        ok 2 - y',
    '        1..2',
    '    ok 1 - a',
    '    # Subtest: property test without assertions',
    '        1..0',
    '    ok 2 - property test without assertions',
    '    1..2',
    'ok 1 - group',
    '1..1',
  );
  t.strictSame(found, [
    { state: 'passed', name: 'group > a' },
    { state: 'passed', name: 'group > property test without assertions' },
  ]);
});

t.test('direct assertions of a group and of the file count as one test each', async (t) => {
  const found = outcomes(
    '# Subtest: group',
    '    ok 1 - direct',
    '    # Subtest: a',
    '        ok 1 - x',
    '        1..1',
    '    ok 2 - a',
    '    1..2',
    'ok 1 - group',
    'not ok 2 - at the top',
    '1..2',
  );
  t.strictSame(found, [
    { state: 'passed', name: 'group > a' },
    { state: 'passed', name: 'group' },
    { state: 'failed', name: '', details: 'at the top' },
  ]);
});

t.test('a failure names the assertion, its place and the difference, once', async (t) => {
  const found = outcomes(
    '# Subtest: group',
    '    # Subtest: a',
    '        not ok 1 - same',
    '          ---',
    '          at:',
    '            fileName: x.ts',
    '            lineNumber: 3',
    '            columnNumber: 5',
    '          diff: |',
    '            -1',
    '            +2',
    '          ...',
    '        1..1',
    '    not ok 1 - a',
    '    1..1',
    'not ok 1 - group',
    '1..1',
  );
  t.strictSame(found, [{ state: 'failed', name: 'group > a', details: 'same (x.ts:3:5)\n-1\n+2' }]);
});

t.test('a test that ended too early, and a file that did, fail', async (t) => {
  const early = outcomes('# Subtest: a', '    1..2', '    ok 1 - x', 'not ok 1 - a', '1..1');
  t.strictSame(
    early.map(({ state, name }) => [state, name]),
    [['failed', 'a']],
  );
  t.strictSame(
    outcomes('1..2', 'ok 1 - x').map(({ state }) => state),
    ['failed'],
  );
  t.match(outcomes('Bail out! no kernel'), [{ state: 'failed', details: /no kernel/ }]);
});

t.test('skips carry their reason; something not done counts as a skip', async (t) => {
  const found = outcomes('ok 1 - a # SKIP no ipip', 'not ok 2 - b # todo later', '1..2');
  t.strictSame(found, [
    { state: 'skipped', name: 'a', reason: 'no ipip' },
    { state: 'skipped', name: 'b', reason: 'not done: later' },
  ]);
  t.strictSame(outcomes('1..0 # no tun'), [{ state: 'skipped', name: '', reason: 'no tun' }]);
});

t.test('output without any test gives no outcome', async (t) => t.strictSame(outcomes('1..0'), []));

t.test('a skip must be listed and have the listed reason', async (t) => {
  const allowed = { 'test/root/ipip.test.ts > *': 'module ipip' };
  const judge = (file: string, reason: string) =>
    judgeSkip(allowed, file, { state: 'skipped', name: 'a', reason }).state;
  t.equal(judge('test/root/ipip.test.ts', 'kernel module ipip is not there'), 'skipped');
  t.equal(judge('test/root/ipip.test.ts', ''), 'failed');
  t.equal(judge('test/root/ipip.test.ts', 'not root'), 'failed');
  t.equal(judge('test/root/vxlan.test.ts', 'kernel module ipip is not there'), 'failed');
});

t.test('what came and what went is named', async (t) => {
  const before = new Set(['link cni0 bridge', 'netns a', 'process 7 iperf3']);
  t.strictSame(differences(before, before), []);
  t.strictSame(differences(before, new Set(['netns a', 'nft table inet x {'])), [
    'left behind: nft table inet x {',
    'gone: link cni0 bridge',
  ]);
});

t.test('counts are at least a twentieth', async (t) => {
  const soak = process.env.FLANNEL_TEST_TIER === 'soak';
  t.equal(count(500), soak ? 500 : 25);
  t.equal(count(21), soak ? 21 : 2);
  t.equal(count(1), 1);
});

t.test('random numbers depend on the seed and the salt only', async (t) => {
  const draw = (salt: string) => Array.from({ length: 5 }, random(salt));
  t.strictSame(draw('a'), draw('a'));
  t.notSame(draw('a'), draw('b'));
  const next = random();
  t.ok(Array.from({ length: 1000 }, () => below(7, next)).every((n) => n >= 0 && n < 7));
  t.strictSame(shuffled([1, 2, 3, 4], next).toSorted(), [1, 2, 3, 4]);
});

t.test('what the children of a process cost the processor', async (t) => {
  const before = childrenSeconds();
  const burn = 'while (process.cpuUsage().user < 200_000);';
  spawnSync(process.execPath, ['-e', burn]);
  t.ok(childrenSeconds() - before >= 0.2);
});

t.test('what could have been built is missing: a skip in the run of all tiers only', async (t) => {
  t.match(notBuilt('x is not built', 'make x', true, 'test'), /^x is not built \(`make x` builds\)$/);
  for (const plan of ['kubernetes', 'soak', ''])
    t.throws(() => notBuilt('x is not built', 'make x', true, plan), { message: 'x is not built: run `make x`' });
  t.match(notBuilt('x is not built', 'make x', false, 'kubernetes'), /there is no Go/);
});

t.test('a pattern that selects nothing is named, and a failure', async (t) => {
  const { status, stdout } = spawnSync(process.execPath, ['test/run.ts', 'check', 'nowhere'], { encoding: 'utf8' });
  t.equal(status, 1);
  t.match(stdout, /^no test ran: nothing of check has nowhere in its path$/m);
});
