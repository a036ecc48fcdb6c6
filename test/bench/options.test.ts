// The command line of the measurements: what can't be measured is said before anything begins.

import { join } from 'node:path';
import t from 'tap';
import { readOptions } from '../../bench/options.ts';

const AGENT = join(import.meta.dirname, '../../install.sh');

t.test('help, and what each takes', async (t) => {
  for (const argv of [[], ['--help'], ['-h'], ['cni', '--help']]) t.equal(readOptions(argv), undefined);
  const options = readOptions(['agent', '--sizes=3,50', '--rounds', '2', '--peer', AGENT, '--json=figures.json']);
  t.match(options, { name: 'agent', peers: [AGENT], json: 'figures.json' });
  t.same(options?.sizes([1], 1), [3, 50]);
  t.equal(options?.count('rounds', 5, 1, 100), 2);
  t.equal(options?.count('probes', 10, 1, 200), 10, 'the default');
  t.same(readOptions(['policy'])?.sizes([0, 100], 0), [0, 100]);
  const twice = readOptions(['throughput', '--backend=udp', '--backend=vxlan']);
  t.same(twice?.backends, ['vxlan', 'udp'], 'in their own order');
  t.same(readOptions(['throughput'])?.backends, ['vxlan', 'host-gw', 'udp']);
  t.match(readOptions(['cni', '--peer', import.meta.dirname]), { peers: [import.meta.dirname] });
});

t.test('what is wrong is named in one line', async (t) => {
  const none = '/nonexistent/agent';
  for (const [argv, message] of [
    [['sleep'], 'sleep: no such measurement; see --help'],
    [['cni', '--sizes=5'], /^cni: Unknown option '--sizes'; see --help$/],
    [['cni', '--pods'], /^cni: .*--pods.*; see --help$/],
    [['cni', 'agent'], /^cni: .*'agent'.*; see --help$/],
    [['cni', '--peer', none], `--peer ${none}: expected a directory with reference plugins`],
    [['agent', '--peer', none], `--peer ${none}: expected an executable, an agent with flannel's command line`],
    [['throughput', '--peer', import.meta.filename], /expected an executable/],
    [['throughput', '--backend=udp', '--backend=ipip'], '--backend ipip: expected one of vxlan, host-gw, udp'],
    [
      ['policy', '--json=/nonexistent/figures'],
      "--json /nonexistent/figures: its directory can't be written to: ENOENT",
    ],
  ] as const) {
    t.throws(() => readOptions(argv), { message }, argv.join(' '));
  }
  t.throws(() => readOptions(['cni', '--pods=9'])?.count('pods', 200, 10, 2000), {
    message: '--pods 9: expected a whole number from 10 to 2000',
  });
  t.throws(() => readOptions(['agent', '--sizes=3,x'])?.sizes([1], 1), { message: /^--sizes x: / });
});
