// The measurement with an API server goes through with tiny numbers and prints every row. Times are not judged.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { lacking } from './stage.ts';

t.test('ours', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const args = ['bench/main.ts', 'kubernetes', '--sizes=5', '--replaced=2', '--rounds=1'];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 600_000 });
  t.match(stdout, /^5 nodes, 50 pods, from the start/m);
  t.match(stdout, /^ {2}ours, policy(?: +[\d.]+){6}$/m, 'the start with policies');
  t.match(stdout, /^ {2}ours {2}.* - /m, 'and without');
  t.match(stdout, /^ {2}ours, policy(?: +[\d.]+){8}$/m, 'nodes that are replaced');
});
