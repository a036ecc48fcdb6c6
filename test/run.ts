// Runs the tests by tiers and ends with one plain line: `N passed, N failed, N skipped`. See usage below.

import { randomInt } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type AllowedSkips, judgeSkip } from './support/allowed-skips.ts';
import { privateMachine } from './support/private-machine.ts';
import { childrenSeconds } from './support/processor-time.ts';
import { type Job, runJob } from './support/run-job.ts';
import type { Outcome } from './support/tap-results.ts';

const usage = `Usage: node test/run.ts [TIER] [PATTERN]...

Tiers:
  check     types, lint, architecture rules and unit tests; without root, under a minute
  root      tests that need root: namespaces, netlink, nftables
  cluster   end to end: several nodes, real etcd
  kubernetes  the same with a real Kubernetes (test/kubernetes/binaries.ts): agents with its API server, and nodes with kubelets
  test      all of these with a twentieth of the full counts (the default), without kubelets
  soak      all of these with the full counts

A PATTERN selects the test files (or the tools \`types\` and \`lint\`) whose path contains it.
One file runs without this program too: node test/model/diff.test.ts

Environment:
  FLANNEL_TEST_SEED   the seed of everything random (default: a fresh one, printed)
`;

interface Tier {
  readonly files: (path: string) => boolean;
  /** Each file runs on a machine of its own as far as it can tell, see support/private-machine.ts. */
  readonly needsRoot: boolean;
  /** For one file; a soak run gets as much more as it counts more. */
  readonly seconds: number;
  /** How many files run at once; JOBS by default. */
  readonly jobs?: number;
}

const tiers: Readonly<Record<string, Tier>> = {
  check: {
    files: (path) => !/^test\/(root|cluster|kubernetes|kubelet)\//.test(path),
    needsRoot: false,
    seconds: 180,
  },
  root: { files: (path) => path.startsWith('test/root/'), needsRoot: true, seconds: 600 },
  cluster: { files: (path) => path.startsWith('test/cluster/'), needsRoot: true, seconds: 600 },
  kubernetes: { files: (path) => path.startsWith('test/kubernetes/'), needsRoot: true, seconds: 900 },
  kubelet: { files: (path) => path.startsWith('test/kubelet/'), needsRoot: true, seconds: 1800, jobs: 1 },
};
const plans: Readonly<Record<string, readonly string[]>> = {
  check: ['check'],
  root: ['root'],
  cluster: ['cluster'],
  kubernetes: ['kubernetes', 'kubelet'],
  test: ['check', 'root', 'cluster', 'kubernetes'],
  soak: ['check', 'root', 'cluster', 'kubernetes', 'kubelet'],
};
const SOAK_FACTOR = 20;
/** How many files run at once. */
const JOBS = 2;
/** Test files that download something: packages for the image. */
const ONLINE = /^test\/(root\/image\.test\.ts$|kubelet\/)/;

const root = join(import.meta.dirname, '..');
process.chdir(root);

function commandLine() {
  try {
    const options = { help: { type: 'boolean', short: 'h' } } as const;
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error} (see --help)\n`);
    return process.exit(2);
  }
}

const { values, positionals } = commandLine();
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const plan = Object.hasOwn(plans, positionals[0] ?? '') ? (positionals.shift() ?? 'test') : 'test';
const chosen = plans[plan] ?? [];
const soak = plan === 'soak';
const selected = (name: string): boolean =>
  positionals.length === 0 || positionals.some((pattern) => name.includes(pattern));

const seed = process.env.FLANNEL_TEST_SEED ?? String(randomInt(2 ** 31));
const allowed: AllowedSkips = JSON.parse(readFileSync('test/allowed-skips.json', 'utf8'));
const results: { readonly file: string; readonly outcome: Outcome }[] = [];
const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupt.abort());

const node = process.execPath;
const QUIET = '--disable-warning=ExperimentalWarning';
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
const indent = (text: string): string => text.replace(/^/gm, '    ');
const count = (state: Outcome['state'], among: readonly Outcome[]): number =>
  among.filter((outcome) => outcome.state === state).length;

function jobsOf(tierName: string, tier: Tier): Job[] {
  const shared = {
    seconds: tier.seconds * (soak ? SOAK_FACTOR : 1),
    environment: { FLANNEL_TEST_TIER: soak ? 'soak' : 'test', FLANNEL_TEST_PLAN: plan, FLANNEL_TEST_SEED: seed },
    logFolder: 'build/test',
  };
  const tools: Job[] =
    tierName === 'check'
      ? [
          { ...shared, name: 'types', tap: false, command: [node, 'node_modules/typescript/bin/tsc', '--noEmit'] },
          { ...shared, name: 'lint', tap: false, command: [node, 'node_modules/@biomejs/biome/bin/biome', 'check'] },
        ]
      : [];
  const files = globSync('test/**/*.test.ts').filter(tier.files).sort();
  const tests = files.map((name): Job => {
    return { ...shared, name, tap: true, command: [node, QUIET, name] };
  });
  return [...tools, ...tests].filter(({ name }) => selected(name));
}

async function runPrivately(job: Job, record: (outcome: Outcome) => void): Promise<void> {
  const { command, environment, remove } = privateMachine(job.name, ONLINE.test(job.name));
  await runJob({ ...job, command, environment: { ...job.environment, ...environment } }, interrupt.signal, record);
  remove();
}

async function run(job: Job, tier: Tier): Promise<void> {
  const started = Date.now();
  const outcomes: Outcome[] = [];
  const record = (outcome: Outcome): void => {
    const judged = judgeSkip(allowed, job.name, outcome);
    outcomes.push(judged);
    results.push({ file: job.name, outcome: judged });
    // A file of the slow tiers takes minutes: show that it moves.
    if (tier.needsRoot && judged.name !== '') {
      say(`  ${judged.state === 'failed' ? 'FAILED ' : ''}${job.name} > ${judged.name}`);
    }
  };
  if (tier.needsRoot) await runPrivately(job, record);
  else await runJob(job, interrupt.signal, record);
  const failed = count('failed', outcomes);
  const skipped = count('skipped', outcomes);
  const summary = [
    failed === 0 ? 'ok    ' : 'FAILED',
    `${job.name}:`,
    `${count('passed', outcomes)} passed${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''}`,
    `(${((Date.now() - started) / 1000).toFixed(1)} s)`,
  ];
  say(summary.join(' '));
}

async function runTier(name: string, tier: Tier): Promise<void> {
  const queue = jobsOf(name, tier);
  if (queue.length === 0) return;
  if (tier.needsRoot && process.getuid?.() !== 0) {
    const details = 'these tests need root: run as root, or run `npm run check`';
    results.push({ file: name, outcome: { state: 'failed', name: '', details } });
    return;
  }
  const worker = async (): Promise<void> => {
    for (let job = queue.shift(); job && !interrupt.signal.aborted; job = queue.shift()) await run(job, tier);
  };
  await Promise.all(Array.from({ length: tier.jobs ?? JOBS }, worker));
}

say(`seed ${seed}${soak ? ', full counts' : ''}`);
for (const name of chosen) {
  const tier = tiers[name];
  if (tier) await runTier(name, tier);
}

for (const { file, outcome } of results) {
  if (outcome.state !== 'failed') continue;
  say(`\nFAILED ${[file, outcome.name].filter(Boolean).join(' > ')}`);
  say(indent(outcome.details));
}
const outcomes = results.map(({ outcome }) => outcome);
const [passed, failed, skipped] = (['passed', 'failed', 'skipped'] as const).map((state) => count(state, outcomes));
say(`\n${childrenSeconds().toFixed(0)} s of processor`);
if (failed) say(`\nwhole output: build/test/; again with FLANNEL_TEST_SEED=${seed}`);
if (interrupt.signal.aborted) say('\ninterrupted');
const pathless = positionals.length > 0 ? `: nothing of ${plan} has ${positionals.join(' or ')} in its path` : '';
if (!passed && !failed) say(`\nno test ran${pathless}`);
say(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed || !passed || interrupt.signal.aborted ? 1 : 0;
