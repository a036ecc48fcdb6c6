// Holds a directory of CNI plugins to the conformance suite. See usage below.

import { parseArgs } from 'node:util';
import { PENDING } from './pending.ts';
import { ROWS } from './rows.ts';
import { instancesOf, JOBS, type Outcome, runInstances } from './run.ts';
import type { Row } from './table.ts';
import { DEBIAN_BIN, OWN_BIN, openTarget } from './target.ts';

const usage = `Usage: node test/cni/suite.ts [OPTION]... [WORD]...

Executes the CNI plugins of a directory in namespaces of its own (needs root) and compares what they print and do with
the table in test/cni/rows/. With WORDs only rows whose id, or a case of theirs, contains one of them.

Options:
  -a, --agent     have the plugins served by the directory's \`flanneld --cni-only\`
  -f, --few       of each row only one version, by turns
  -l, --list      print the rows: cases, differences on purpose, known defects; run nothing
  -v, --verbose   print every row, not only what failed
  -j, --jobs N    how many at once (default: ${JOBS})
  -h, --help      show this text

Environment:
  CNI_BIN       the directory (default: build/bin of this tree); with a program "flannel" it is taken for ours,
                otherwise it must have the reference's names (bridge, host-local, portmap, bandwidth)
  CNI_FOREIGN   the directory of the plugins that those are chained with (default: ${DEBIAN_BIN})
`;

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

function commandLine() {
  try {
    const options = {
      agent: { type: 'boolean', short: 'a', default: false },
      few: { type: 'boolean', short: 'f', default: false },
      list: { type: 'boolean', short: 'l' },
      verbose: { type: 'boolean', short: 'v' },
      jobs: { type: 'string', short: 'j', default: String(JOBS) },
      help: { type: 'boolean', short: 'h' },
    } as const;
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error} (see --help)\n`);
    return process.exit(2);
  }
}

/** A row of the table, as it is. */
function describe({ id, covers, versions = ['1.0.0'], differs, defects = [] }: Row): void {
  say(`${id} [${versions.join(' ')}]\n    covers ${covers.join(' ')}`);
  if (differs !== undefined) say(`    differs on purpose: ${differs}`);
  for (const { releases, what, cites } of defects) say(`    defect of ${releases.join(', ')}: ${what} (${cites})`);
}

/** Versions of a row that ended in the same way, in one paragraph. */
function show(outcomes: readonly Outcome[]): void {
  const [{ row, state, details }] = outcomes as [Outcome];
  const versions = outcomes.map(({ version }) => version).sort();
  const seconds = outcomes.reduce((sum, outcome) => sum + outcome.seconds, 0);
  const text = details === '' ? '' : `\n    ${details.trim().replaceAll('\n', '\n    ')}`;
  say(`${state.padEnd(12)} ${row.id} [${versions.join(' ')}] ${seconds.toFixed(2)} s${text}`);
}

/** Without what only differs by the version. */
const way = ({ row, version, state, details }: Outcome): string =>
  [row.id, state, details.replaceAll(version, '')].join('\0');

const { values, positionals } = commandLine();
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const chosen = (text: string): boolean => positionals.length === 0 || positionals.some((word) => text.includes(word));
const rows = ROWS.filter(({ id, covers }) => [id, ...covers].some(chosen));
const instances = instancesOf(rows, values.few);

if (values.list) {
  for (const row of rows) describe(row);
  say(`${rows.length} rows, ${instances.length} with their versions`);
  process.exit(0);
}

const target = openTarget(process.env.CNI_BIN ?? OWN_BIN, { foreign: process.env.CNI_FOREIGN, agent: values.agent });
say(`${target.directory}: ${target.release === 'ours' ? 'ours' : `the reference, ${target.release}`}`);
const started = Date.now();
const outcomes = await runInstances(target, instances, { pending: PENDING, jobs: Number(values.jobs) });
const shown = outcomes.filter(({ state }) => values.verbose || state === 'failed');
for (const alike of Map.groupBy(shown, way).values()) show(alike);
const count = (state: Outcome['state']): number => outcomes.filter((outcome) => outcome.state === state).length;
const seconds = ((Date.now() - started) / 1000).toFixed(1);
say(
  `${count('passed')} passed, ${count('failed')} failed, ${count('known defect')} known defects, ${count('pending')} pending (${seconds} s)`,
);
process.exitCode = count('failed') > 0 || outcomes.length === 0 ? 1 : 0;
