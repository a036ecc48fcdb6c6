// The measurements of bench/ go through with tiny numbers and print every row. Times are not judged.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';

const bench = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)(process.execPath, ['bench/main.ts', ...args], { timeout: 240_000 })).stdout;

/** First words of the rows of every table. */
const rows = (text: string): string[] => text.split('\n').flatMap((line) => /^ {2}(\S.*?) {2}/.exec(line)?.[1] ?? []);

t.test('agent: floor, ours and another agent, start and leases', async (t) => {
  const text = await bench('agent', '--sizes=3', '--rounds=1', '--probes=1', '--peer=build/bin/flanneld');
  const contenders = ['floor (ip -batch)', 'ours', 'flanneld'];
  const table = ['-----------------', ...contenders];
  t.strictSame(rows(text), [...table, ...table]);
  t.match(text, /^ {2}ours(?: +[\d.]+){9}$/m, 'every figure of ours');
  t.match(text, /^ {2}flanneld(?: +[\d.]+){9}$/m, 'and of the other agent');
});

t.test('throughput: by hand and ours', async (t) => {
  const text = await bench('throughput', '--backend=host-gw', '--rounds=1', '--seconds=1');
  const table = ['----------------', 'host-gw, by hand', 'host-gw, ours'];
  t.strictSame(rows(text), [...table, ...table]);
  t.match(text, /^ {2}host-gw, ours +[1-9\d.]+ +1\.00$/m);
});

t.test('policy: conntrack alone, ours and linear rules', async (t) => {
  const text = await bench('policy', '--sizes=0,20', '--rounds=2', '--batches=2');
  t.strictSame(rows(text), [
    '-------------------',
    '0 policies, spread',
    '20 policies, spread',
    '20 policies, own',
    '20 policies, one',
    '-----------',
    '20 policies',
  ]);
  t.match(text, /^ {2}20 policies, one(?: +\d+ \([\d.]+\)){6}$/m, 'every packet');
  t.match(text, /^ {2}20 policies(?: +[\d.]+){8}$/m, 'every change');
});
